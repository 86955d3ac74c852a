"""Measures speed and memory; each benchmark measures ratios within one run."""
