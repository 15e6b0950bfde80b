"""What a trained model is used for: re-rendering images, export for TensorFlow Serving."""
