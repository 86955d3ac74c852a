"""The network face of StreamVLM: protocols, sessions by id, limits; no video logic.

Empty today. What belongs here: the OpenAI-compatible endpoints over the engine. The engine never imports it.
"""
