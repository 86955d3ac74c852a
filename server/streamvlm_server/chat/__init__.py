"""``POST /v1/chat/completions``: OpenAI's chat completions about media or a live session."""
