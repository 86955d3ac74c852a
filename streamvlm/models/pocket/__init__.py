"""Pocket, the bundled model: what it sees, how it is spoken to, and its checkpoint."""
