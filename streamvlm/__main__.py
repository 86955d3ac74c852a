"""Runs the command line as ``python -m streamvlm``."""

from streamvlm.cli import main

main(prog_name="streamvlm")
