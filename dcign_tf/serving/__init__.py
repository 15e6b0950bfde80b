"""What a trained model is used for: re-rendering images, export for TensorFlow Serving."""

# Factors that dcign-rerender has a flag for; all others it takes by --set.
NAMED_FACTORS = ("azimuth", "elevation", "light_azimuth")
