"""What a process may use is promised once, and a promise is kept or not made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamvlm.errors import MemoryBudgetError
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.ram_budget import RamBudget
from streamvlm.session.session import Session


def test_sessions_share_a_process_and_one_too_many_is_refused(pocket: VideoLanguageModel) -> None:
    process = RamBudget(100 << 20)
    config = SessionConfig(host_budget_bytes=40 << 20)
    one, other = Session(pocket, config, process=process), Session(pocket, config, process=process)
    assert process.left_bytes == 20 << 20
    with pytest.raises(MemoryBudgetError, match="2 sessions have 80 MiB"):
        Session(pocket, config, process=process)
    Session(pocket, replace(config, host_budget_bytes=20 << 20), process=process)
    one.close()
    one.close()  # twice is once
    assert process.left_bytes == 40 << 20
    Session(pocket, config, process=process)
    other.close()


def test_no_more_is_promised_than_the_machine_has() -> None:
    with pytest.raises(MemoryBudgetError, match="give a smaller one"):
        RamBudget.of_this_machine().take(1 << 60)
