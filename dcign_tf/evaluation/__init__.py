"""What the paper measures and what the field measures since; figures and a report."""
