"""The catalog: what is not as it was committed is one sentence, or a block less, and never a wrong block."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from breakable_disk import CLEAR_TOKENS, FUZZY_TOKENS, LAYOUT, content, put
from flips import flips

from streamvlm.errors import StoreError
from streamvlm.memory.block import KVBlock, whole_pages
from streamvlm.memory.disk.catalog import Catalog
from streamvlm.memory.disk.database import reading
from streamvlm.memory.disk.repair import check_blocks, repair
from streamvlm.memory.disk.store import DiskStore

N_BLOCKS = 60
FLIPS_A_PAGE = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    store = opened(folder)
    store.commit([put(i, CLEAR_TOKENS if i % 3 else FUZZY_TOKENS) for i in range(N_BLOCKS)], {})
    store.close()
    return folder


def opened(folder: Path) -> DiskStore:
    return DiskStore(folder, LAYOUT, "m", budget_bytes=16 << 20)


def served(folder: Path) -> list[KVBlock]:
    """Lines of all blocks that a stream would find, once each has shown that it holds what was put."""
    with closing(opened(folder)) as store:
        blocks = [block for block, _ in store.rows()]
        assert store.next_id() > max(block.id for block in blocks), "a new block takes no old one's id"
        for block in blocks:
            place = store.locate(block.id)
            assert place is not None
            buffer = torch.zeros(whole_pages(block.n_tokens * LAYOUT.token_bytes), dtype=torch.uint8)
            assert store.load([(place, buffer)]) == [True]
            payload = buffer[: block.n_tokens * LAYOUT.token_bytes].view(LAYOUT.dtype)
            assert torch.equal(payload, content(block.id, block.n_tokens).flatten())
        return blocks


def test_a_flip_in_any_page_of_the_catalog_is_a_sentence_or_serves_right_blocks_only(
    whole: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "flipped")
    path = folder / "catalog.db"
    data = path.read_bytes()
    refused: list[str] = []
    n_left_out = 0
    for flipped in flips(data, FLIPS_A_PAGE):
        path.write_bytes(flipped)
        try:
            blocks = served(folder)
        except StoreError as error:
            refused.append(str(error))
        else:
            for block in blocks:
                as_put = put(block.id, block.n_tokens).block
                assert (block.start_s, block.positions) == (as_put.start_s, as_put.positions)
                assert (block.fidelity, block.score) == (as_put.fidelity, as_put.score)
            n_left_out += len(blocks) < N_BLOCKS
    assert refused
    assert all("memory repair" in sentence and "\n" not in sentence for sentence in refused)
    assert n_left_out > 0


@pytest.mark.parametrize(
    "change",
    [
        "start_s = 30.5, end_s = 31", "score = 2", "fidelity = 'clear'", "n_tokens = 7", "n_tokens = 100000",
        "positions = x'00'", "positions = x'00', extent = 3", "extent = extent + 1", "codec = 'int8'",
        "sequence = sequence + 1", "slot = -1", "slot = 999", "segment = 77",
    ],
)  # fmt: skip
def test_a_row_that_its_slot_does_not_bear_out_is_left_out_alone(whole: Path, tmp_path: Path, change: str) -> None:
    folder = shutil.copytree(whole, tmp_path / "changed")
    with closing(sqlite3.connect(folder / "catalog.db")) as database, database:
        database.execute(f"UPDATE blocks SET {change} WHERE id = 33")
    assert [block.id for block in check_blocks(folder)[1]] == [33]
    assert [block.id for block in served(folder)] == [i for i in range(N_BLOCKS) if i != 33]


@pytest.mark.parametrize(
    "change",
    ["start_s = 'noon'", "start_s = 99", "end_s = 9e999", "fidelity = 'cloudy'", "slot = 'x'", "codec = x'01'"],
)
def test_a_row_that_is_none_is_one_sentence_and_repair_mends_it(whole: Path, tmp_path: Path, change: str) -> None:
    folder = shutil.copytree(whole, tmp_path / "changed")
    with closing(sqlite3.connect(folder / "catalog.db")) as database, database:
        database.execute(f"UPDATE blocks SET {change} WHERE id = 33")
    for look in (opened, check_blocks):
        with pytest.raises(StoreError, match=r"catalog.db is damaged .*memory repair"):
            look(folder)
    assert repair(folder) == (N_BLOCKS, 0)
    assert len(served(folder)) == N_BLOCKS


@pytest.mark.parametrize("length", [0, 100, 4096, 3 * 4096])
def test_a_cut_catalog_is_never_taken_for_a_younger_one(whole: Path, tmp_path: Path, length: int) -> None:
    folder = shutil.copytree(whole, tmp_path / "cut")
    with (folder / "catalog.db").open("r+b") as file:
        file.truncate(length)
    with pytest.raises(StoreError, match="memory repair"):
        opened(folder)
    assert repair(folder) == (N_BLOCKS, 0)


def test_a_lost_table_is_not_made_anew_in_silence(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "renamed")
    with closing(sqlite3.connect(folder / "catalog.db")) as database, database:
        database.execute("ALTER TABLE blocks RENAME TO blobks")
    with pytest.raises(StoreError, match="memory repair"):
        opened(folder)


def test_what_is_no_fault_of_the_file_is_not_called_damage(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").mkdir()
    with pytest.raises(StoreError, match=r"cannot be used \(unable to open"):
        Catalog(tmp_path)
    path = tmp_path / "a.db"
    sqlite3.connect(path).close()
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database,
        pytest.raises(StoreError, match=r"cannot be used \(attempt to write a readonly"),
        reading(path, "mend it"),
    ):
        database.execute("CREATE TABLE one (two)")
