"""What is measured once a checkpoint: its retrieval heads, and the noise floor of its feature."""
