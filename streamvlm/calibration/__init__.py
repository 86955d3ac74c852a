"""Measures each checkpoint once: its retrieval heads, and the noise floor of its feature."""
