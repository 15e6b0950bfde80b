"""The commands: one short absl app each."""
