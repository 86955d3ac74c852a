"""Which blocks a question wants and an answer rested on: knows blocks and queries, never models."""
