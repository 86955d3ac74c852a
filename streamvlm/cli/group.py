"""The command that all others belong to, and what several of them share."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Any

import click

from streamvlm.errors import StreamVlmError
from streamvlm.policies.registry import DEFAULT_POLICY, POLICIES

_ABOUT = """\
Watch a video and answer questions about it: what is there now, what was there earlier, when, and in what order.

\b
  streamvlm world 7 --duration 4m --out demo.mp4         make a synthetic video with known events
  streamvlm ask demo.mp4 "what do you see now?"          watch it to its end, then answer
  streamvlm ask demo.mp4 --at 1:30 "what do you see now?" --at 2:00 "what was in the top of the sea?"
  streamvlm ask rtsp://camera/1 --for 10m "did you see a dog?"
"""


_INTERRUPTED = 130


class _Commands(click.Group):
    """Turns errors into one sentence and an exit code: 2 for bad usage or input, 1 for an internal failure.

    An interrupted command says so, with the exit code that shells expect; what it has opened is closed first.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except StreamVlmError as error:
            click.echo(f"streamvlm: {error}", err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("streamvlm: interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception:
            traceback.print_exc()
            click.echo("streamvlm: an internal failure; please report it with the lines above.", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, help=_ABOUT)
@click.version_option(package_name="streamvlm")
def main() -> None:
    """The group of all commands."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about malformed EXIF, which no user needs to know
    if not sys.stderr.isatty():  # progress bars of the libraries are for people only
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


model_option = click.option(
    "--model", default="pocket", show_default=True, help="pocket, a directory, or a name on the Hugging Face hub."
)
dtype_option = click.option(
    "--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16: of weights and memory."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
policy_option = click.option(
    "--policy",
    default=DEFAULT_POLICY,
    show_default=True,
    help=f"What is kept, and what a question gets: {', '.join(POLICIES)}.",
)
reconnect_option = click.option(
    "--reconnect", default="30s", show_default=True, metavar="TIME",
    help="How long to try again when SOURCE stalls or drops; 0 is not at all.",
)  # fmt: skip
stream_option = click.option(
    "--stream",
    type=click.IntRange(0),
    metavar="N",
    help="Which of SOURCE's video streams, from 0.  [default: the best]",
)


def warn(line: str) -> None:
    """Prints a line on stderr, from any thread."""
    click.echo(f"streamvlm: {line}", err=True)
