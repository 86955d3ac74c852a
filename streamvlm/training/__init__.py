"""How pocket is trained: its eye on drawn pictures, its decoder on symbolic clips, then both put together."""
