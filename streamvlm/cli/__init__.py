"""The command line: ask, serve, watch, models, world, calibrate, memory, eval and bench."""

from streamvlm.cli import ask, make, measure, memory, serve, watch
from streamvlm.cli.group import main

__all__ = ["ask", "main", "make", "measure", "memory", "serve", "watch"]
