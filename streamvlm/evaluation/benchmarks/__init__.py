"""What is fast: each benchmark measures ratios within one run."""
