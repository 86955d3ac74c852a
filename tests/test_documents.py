"""The documents: what they say of each other and of the code is so."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import click
import pytest

from streamvlm.cli import main

ROOT = Path(__file__).parents[1]
FOLDERS = ("streamvlm", "server", "kernels", "demos", "docs", "tests")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def anchors(document: Path) -> set[str]:
    """Returns the anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", document.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        led_to = document.parent / name if name else document
        assert led_to.is_file(), target
        assert not anchor or anchor in anchors(led_to), target


def section(document: str, heading: str) -> str:
    """Returns the text under a heading, up to the next one of any level."""
    text = (ROOT / document).read_text("utf-8")
    (found,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_ten_tasks_by_which_a_layout_is_judged_lead_to_files_that_are_there() -> None:
    files = re.findall(r"\| `([^`]+)` \|$", section("CONTRIBUTING.md", "How a layout is judged"), re.MULTILINE)
    assert len(set(files)) == 10
    assert not [name for name in files if not (ROOT / name).is_file()]


def defines(file: Path, name: str) -> bool:
    """Whether a file defines a function, or a method given as ``Class.method``."""
    scope: ast.AST | None = ast.parse(file.read_text("utf-8"))
    for part in name.split("."):
        inside = scope.body if isinstance(scope, ast.Module | ast.ClassDef) else []
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        scope = next((one for one in inside if isinstance(one, kinds) and one.name == part), None)
    return isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)


def options_of(words: list[str]) -> set[str]:
    """Returns the options of the command that the words after ``streamvlm`` begin with."""
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]
    return {"--help", *(option for one in command.get_params(click.Context(command)) for option in one.opts)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_shows_has_the_options_that_it_shows(document: Path) -> None:
    code = re.findall(r"```\w*\n(.*?)```|`([^`]+)`", document.read_text("utf-8"), re.DOTALL)
    lines = [line for block, words in code for line in (*block.replace("\\\n", " ").splitlines(), words)]
    commands = [line.removeprefix("streamvlm") for line in lines if re.match(r"streamvlm\s", line)]
    for words in map(str.split, commands):
        assert not {word for word in words if word.startswith("--")} - options_of(words), words


@pytest.mark.parametrize("what", ["frame", "question", "block"])
def test_each_step_of_a_trip_is_a_function_of_its_file(what: str) -> None:
    steps = re.findall(
        r"\| `([^`]+)` \| `([^`]+)` \|$", section("ARCHITECTURE.md", f"The trip of a {what}"), re.MULTILINE
    )
    assert len(steps) > 10
    assert not [(file, name) for file, name in steps if not defines(ROOT / file, name)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_code_that_a_document_names_is_there(document: Path) -> None:
    names = re.findall(r"(?<![\w./>-])[\w./-]+\.py\b", document.read_text("utf-8"))
    files = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert not [name for name in names if not any(file.endswith(f"/{name}") for file in files)]


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_make_command_in_the_readme_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"```.*?```|`[^`]+`", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = set(re.findall(r"\bmake ([a-z]+)", "\n".join(code)))
    assert "demo" in shown
    assert shown <= targets


def test_the_changelog_has_a_section_for_the_version_of_the_distribution() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
