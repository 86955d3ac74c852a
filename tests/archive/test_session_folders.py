"""Where sessions rest: nothing is taken from who has it open, and nothing half removed is left to be found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from streamvlm.archive.archive import locked
from streamvlm.archive.ownership import Ownership
from streamvlm.archive.session_folders import SessionFolders
from streamvlm.errors import StoreError

SEGMENT_BYTES = 5000


def at_rest(root: Path, session_id: str) -> Path:
    folder = root / session_id
    Ownership("ann", None).save(folder)
    (folder / "seg-000001.kv").write_bytes(bytes(SEGMENT_BYTES))
    return folder


def test_what_is_removed_gives_its_bytes_back_and_leaves_nothing(tmp_path: Path) -> None:
    at_rest(tmp_path, "a")
    at_rest(tmp_path, "b")
    home = SessionFolders(tmp_path, 1 << 20)
    assert home.quota.used_bytes == 2 * SEGMENT_BYTES
    home.remove("a")
    home.remove("a")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert home.quota.used_bytes == SEGMENT_BYTES


def test_a_session_that_another_process_has_open_is_not_removed(tmp_path: Path) -> None:
    folder = at_rest(tmp_path, "a")
    home = SessionFolders(tmp_path, 1 << 20)
    with locked(folder), pytest.raises(StoreError, match="in use by process"):
        home.remove("a")
    assert [info.id for info in home.sessions()] == ["a"]
    assert home.quota.used_bytes == SEGMENT_BYTES
    home.remove("a")
    assert not folder.exists()


def test_a_session_half_removed_is_nobodys_to_take_and_the_next_start_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(path: Path) -> None:
        for found in path.rglob("owner.json"):
            found.unlink()
        raise OSError(5, "Input/output error")

    at_rest(tmp_path, "a")
    home = SessionFolders(tmp_path, 1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", dies)
        with pytest.raises(StoreError, match="cannot be removed"):
            home.remove("a")
    assert home.ownership("a") is None
    assert home.sessions() == []
    assert home.quota.used_bytes == SEGMENT_BYTES, "its bytes are there still"
    again = SessionFolders(tmp_path, 1 << 20)
    assert not list(tmp_path.iterdir())
    assert again.quota.used_bytes == 0
