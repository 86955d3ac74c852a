"""``streamvlm serve``."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamvlm.cli.group import main, warn

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_SERVE = """\
Serve live streams and questions about them, over HTTP and WebSocket, as OpenAI's clients speak.

Every setting may also stand in a TOML file (--config), by its name with underscores, or in the environment as
STREAMVLM_PORT and the like; flags win over the environment, and that over the file. Sizes are written as 8MiB, lists
with commas. SIGTERM and Ctrl+C let running answers end first; a second one does not wait.
"""

_SERVE_EXAMPLES = """\
\b
examples:
  streamvlm serve --home sessions
  streamvlm serve --config server.toml --host 0.0.0.0 --keys-file keys.toml --tls-cert cert.pem --tls-key key.pem
  STREAMVLM_PORT=9000 streamvlm serve
"""


class _Serve(click.Command):
    """A command with a flag for each field of ServerConfig, which is imported only when it is needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Returns all parameters."""
        return [*super().get_params(ctx), *_flags()]


@cache
def _flags() -> list[click.Parameter]:
    from streamvlm_server.config import ServerConfig

    return [
        click.Option([f"--{name.replace('_', '-')}"], help=_help(field), metavar=_metavar(name))
        for name, field in ServerConfig.model_fields.items()
    ]


def _help(field: FieldInfo) -> str:
    from pydantic import ByteSize

    value: Any = field.default
    match value:
        case tuple():
            shown = ",".join(map(str, value))
        case ByteSize():
            shown = value.human_readable(separator="")
        case _:
            shown = value
    return f"{field.description}" + (f"  [default: {shown}]" if shown not in (None, "") else "")


def _metavar(name: str) -> str:
    return name.rpartition("_")[2].upper()


@main.command("serve", cls=_Serve, help=_SERVE, epilog=_SERVE_EXAMPLES)
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with settings.")
def _serve(file: Path | None, **flags: str | None) -> None:
    from streamvlm_server.config import load_config
    from streamvlm_server.serve import serve

    given = {name: value for name, value in flags.items() if value is not None}
    config = load_config(file, os.environ, given)
    asyncio.run(serve(config, on_ready=lambda url: warn(f"serving {config.model} on {url}")))
