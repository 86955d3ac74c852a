"""``streamvlm memory``: show, check, repair and remove memories on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from streamvlm.cli.group import main, warn
from streamvlm.errors import StoreError, UsageError
from streamvlm.readable import clock

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")


@main.group("memory")
def _memory() -> None:
    """Look at memories on disk, as `streamvlm ask --memory DIR` leaves them."""


@_memory.command("ls")
@_folder
def _ls(folder: Path) -> None:
    """List the memories in DIR and in the folders below it."""
    from streamvlm.archive.archive import NAME
    from streamvlm.archive.maintenance import take_inventory

    found = sorted({path.parent for path in [*folder.glob(NAME), *folder.glob(f"*/{NAME}")]})
    if not found:
        raise UsageError(f"There is no memory in {folder}; `streamvlm ask SOURCE … --memory DIR` makes one.")
    for one in found:
        try:
            stock = take_inventory(one)
        except StoreError as error:
            print(f"{one}  cannot be looked into: {error}")
            continue
        print(
            f"{one}  {stock.card.model}  {clock(stock.end_s)} of stream  "
            f"{stock.n_blocks} blocks  {stock.file_bytes / 1e6:.1f} MB"
        )


@_memory.command("show")
@_folder
def _show(folder: Path) -> None:
    """Show what a memory holds."""
    from streamvlm.archive.maintenance import take_inventory

    stock = take_inventory(folder)
    print(f"model       {stock.card.model} ({stock.card.fingerprint}), format version {stock.card.format_version}")
    print(f"stream      {clock(stock.start_s)} to {clock(stock.end_s)}")
    print(f"blocks      {stock.n_blocks}: {stock.n_clear} clear, {stock.n_blocks - stock.n_clear} fuzzy")
    print(f"codecs      {', '.join(f'{n} {codec}' for codec, n in stock.codecs.items()) or 'none'}")
    config = stock.card.config
    print(
        f"on disk     {stock.file_bytes / 1e6:.1f} MB of {config.budget_bytes / 1e6:.0f} in {stock.n_segments} segments"
    )
    print(f"kept        as {config.codec}, a crash costs at most {config.flush_every_s:g} s of stream")
    print(f"gate log    {stock.entries['decisions']} decisions, {stock.entries['thumbnails']} thumbnails")
    for said in stock.dialogue:
        print(f"[{clock(said.asked_at_s)}] {said.question}\n    {said.answer}")


@_memory.command("verify")
@_folder
def _verify(folder: Path) -> None:
    """Read every block and check it; exit code 2 if any is damaged."""
    from streamvlm.archive.maintenance import verify

    n_whole, damaged = verify(folder)
    for block in damaged:
        print(f"block {block.id}, {clock(block.start_s)}: damaged")
    print(f"{n_whole} blocks are whole, {len(damaged)} are damaged")
    if damaged:
        raise UsageError(f"{len(damaged)} blocks of {folder} are damaged; questions will do without them.")


@_memory.command("repair")
@_folder
def _repair(folder: Path) -> None:
    """Make the catalog anew: blocks from the segments, how long each stood from the gate's log."""
    from streamvlm.archive.maintenance import repair

    n_whole, n_damaged = repair(folder, on_event=warn)
    print(f"{n_whole} blocks found, {n_damaged} damaged slots left out; the old catalog is beside the new one")


@_memory.command("rm")
@_folder
@click.option("--yes", is_flag=True, help="Do not ask.")
def _rm(folder: Path, yes: bool) -> None:
    """Remove a memory for good."""
    from streamvlm.archive.archive import locked, read_card

    read_card(folder)
    if not (yes or click.confirm(f"Remove everything that is remembered in {folder}?")):
        print(f"{folder} stays")
        return
    with locked(folder):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"{folder} cannot be removed ({error.strerror}); remove it by hand.") from error
    print(f"{folder} is removed")
