"""The network face of StreamVLM: protocols over the engine, keys, limits, metrics; no video logic.

The engine never imports it.
"""
