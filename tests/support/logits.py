"""The logits behind an answer, also as a program, so that another process can compute them.

``python logits.py FOLDER QUESTION AT_S FILE DEVICE`` opens the session in a folder and saves them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from streamvlm.archive.archive import Archive
from streamvlm.decoding.decoder import Addition, Read
from streamvlm.models.registry import load_model
from streamvlm.session.session import Session


def logits_of(session: Session, question: str, at_s: float) -> tuple[Tensor, int]:
    """Returns the logits (tokens, vocabulary) of an answer as of a moment, and how many blocks were fetched for it."""
    decoder, seen = session.runner.decoder, list[Tensor]()
    extend = decoder.extend

    def note(additions: Sequence[Addition]) -> list[Read]:
        reads = extend(additions)
        seen.extend(read.logits for read in reads if read.logits is not None)
        return reads

    with patch.object(decoder, "extend", note):
        answer = session.ask(question, at_s=at_s, out_of_band=True).answer
    return torch.stack(seen).cpu(), len(answer.retrieved)


def main(folder: str, question: str, at_s: str, file: str, device: str) -> None:
    """Saves them."""
    model = load_model("pocket", device=device)
    with closing(Archive(Path(folder), model, on_event=print)) as archive:
        logits, _ = logits_of(Session(model, archive=archive), question, float(at_s))
    torch.save(logits, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
