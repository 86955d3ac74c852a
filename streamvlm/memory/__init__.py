"""Where a stream's KV blocks live: knows blocks and bytes, never models, questions or threads."""
