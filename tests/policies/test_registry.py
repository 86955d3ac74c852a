"""Policies by name: each is one file and one line, and every door tells which there are."""

from __future__ import annotations

import re
from pathlib import Path

import first_seen_policy
import pytest
from click.testing import CliRunner
from tiny_model import TinyModel, colour

from streamvlm.cli import main
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity, Frame
from streamvlm.policies.base import MemoryPolicy
from streamvlm.policies.registry import DEFAULT_POLICY, POLICIES, find_policy
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm_server.config import ServerConfig, load_config
from streamvlm_server.serve import engine_config

ALL = ", ".join(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policys_name_is_its_files_name(name: str) -> None:
    policy = find_policy(name)
    assert issubclass(policy, MemoryPolicy)
    assert policy.__module__ == f"streamvlm.policies.{name.replace('-', '_')}"
    assert policy.__doc__


def test_an_unknown_policy_is_refused_in_a_sentence_that_lists_them() -> None:
    with pytest.raises(UsageError, match=re.escape(f"'psychic'; choose from {ALL}.")):
        SessionConfig(policy="psychic")


@pytest.mark.parametrize("words", ["ask --help", "eval world --help", "serve --help"])
def test_every_command_that_takes_a_policy_names_them_and_the_default(words: str) -> None:
    told = " ".join(CliRunner().invoke(main, words.split(), catch_exceptions=False).stdout.split())
    _, about = told.split("--policy ")
    assert ALL in about.replace("- ", "-")
    assert f"[default: {DEFAULT_POLICY}]" in about


def test_a_server_takes_its_policy_from_file_environment_and_flag(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('policy = "recent"\n')
    environment = {"STREAMVLM_POLICY": "uniform"}
    for told, expected in (
        (load_config(), DEFAULT_POLICY),
        (load_config(file), "recent"),
        (load_config(file, environment), "uniform"),
        (load_config(file, environment, {"policy": "mean-key"}), "mean-key"),
    ):
        assert isinstance(told, ServerConfig)
        assert engine_config(told).session.policy == expected


def test_a_server_refuses_an_unknown_policy_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^STREAMVLM_POLICY is 'psychic': .*choose from streamvlm, mean-key"):
        load_config(environment={"STREAMVLM_POLICY": "psychic"})
    done = CliRunner().invoke(main, ["serve", "--policy", "psychic"], catch_exceptions=False)
    assert done.exit_code == 2
    assert ALL in done.stderr


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> str:
    """A policy that a file and a line have added."""
    monkeypatch.setitem(POLICIES, "first-seen", "first_seen_policy:FirstSeenPolicy")
    return "first-seen"


def test_a_new_policy_is_one_file_and_one_line(one_more: str, device: str) -> None:
    config = SessionConfig(policy=one_more, window_blocks=3, top_k=2)
    session = Session(TinyModel(device), config)
    decisions = session.observe(Frame(i, float(i), colour(0)) for i in range(12))  # nothing moves
    assert {decision.fidelity for decision in decisions} == {Fidelity.CLEAR}
    assert len(session.blocks()) == 12
    assert session.ask("what did you see?").answer.retrieved == (0, 1)
    assert session.ask("what did you see?", at_s=3.0).answer.retrieved == (0,)
    index = session.stream_memory.policy.index
    assert isinstance(index, first_seen_policy.Ids)
    assert index.held == set(range(12))


def test_a_new_policy_is_told_what_memory_forgets(one_more: str, device: str) -> None:
    tight = SessionConfig(policy=one_more, window_blocks=3, top_k=2, host_budget_bytes=6 * 4096)
    session = Session(TinyModel(device), tight)
    session.observe(Frame(i, float(i), colour(i)) for i in range(20))
    index = session.stream_memory.policy.index
    assert isinstance(index, first_seen_policy.Ids)
    assert index.held == {block.id for block in session.blocks()}
    assert len(index.held) == 6
