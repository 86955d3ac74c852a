"""The WebSocket ``/v1/realtime``: a subset of the OpenAI Realtime events (GA), and ours for those who ask for them."""
