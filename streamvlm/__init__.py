"""Ask questions of a video that never ends; ARCHITECTURE.md shows the rooms and which may know which."""
