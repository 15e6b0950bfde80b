"""How images become mini-batches: records, data sets, tf.data pipelines."""
