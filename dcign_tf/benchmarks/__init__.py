"""What `dcign-benchmark` measures: dcign_tf beside its peers, on one machine, side by side."""
