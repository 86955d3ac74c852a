"""Inputs made when first asked for, and a site that sends each in its own way."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote, unquote

from kinds.clip import square, whole
from kinds.every import KINDS
from kinds.kind import Kind
from kinds.web import send_parts
from PIL import Image
from web_site import Handler, Site

_FAST, _FAST_RATE = "-fast", Fraction(48)


class Larder:
    """Inputs of every kind.

    Args:
        folder: Where each kind has a folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, kind: Kind, *, is_fast: bool) -> Path:
        """Where an input of this kind lies; a fast one shows the twelve seconds in half a one."""
        path = self.folder / (kind.name + _FAST * is_fast) / kind.file
        if not path.parent.exists():
            path.parent.mkdir()
            kind.make(path, replace(whole(), rate=_FAST_RATE) if is_fast else whole())
        return path

    def folder_with(self, kind: Kind) -> Path:
        """A folder of the purple square and then an input of this kind; or the input, where that is a folder."""
        path = self.path(kind, is_fast=False)
        if path.is_dir():
            return path
        folder = self.folder / (kind.name + "-in-folder")
        if not folder.exists():
            folder.mkdir()
            Image.fromarray(square()).save(folder / "0.png")
            shutil.copy(path, folder)
        return folder

    def address(self, kind: Kind, path: Path, host: str) -> str:
        """Where it lies on the web."""
        return "http://" + kind.address.format(f"{host}/{quote(path.relative_to(self.folder).as_posix())}")


class Sender(Handler):
    """Sends the inputs of a site's folder."""

    def do_GET(self) -> None:
        """Sends a file as its kind is sent; what lies beside it, as any site would."""
        site = self.server
        assert isinstance(site, Site)
        site.asked.append((self.headers["Host"], self.path))
        path = unquote(self.path.partition("?")[0])
        kind, file = KINDS[path.split("/")[1].removesuffix(_FAST)], site.folder / path[1:]
        if not file.is_file():
            self.send_error(404)
        elif kind.serve is not None and file.name == kind.file:
            kind.serve(self, file)
        else:
            send_parts(self, file)
