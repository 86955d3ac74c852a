"""The command line: ask, serve, watch, models, world, calibrate, memory, eval and bench."""

from streamvlm.cli import ask, bench, calibrate, eval, memory, models, serve, watch, world
from streamvlm.cli.group import main

__all__ = ["ask", "bench", "calibrate", "eval", "main", "memory", "models", "serve", "watch", "world"]
