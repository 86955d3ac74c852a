"""The command line: ``streamvlm ask``, ``models``, ``world``, ``calibrate``, ``memory``, ``eval`` and ``bench``."""

from streamvlm.cli import ask, make, measure, memory
from streamvlm.cli.group import main

__all__ = ["ask", "main", "make", "measure", "memory"]
