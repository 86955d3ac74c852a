"""The house itself: packaging traps, its staircase, and where its tests run."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
FOLDERS = [package.parent.name for package in PACKAGES if package.parent != ROOT]
MAX_FILE_BYTES = 40 * 2**20

# Stands for the Hugging Face `kernels` library: any name can be imported from it, and called as a decorator.
STUB_KERNELS = """
class Anything:
    def __init__(self, *args, **kwargs): ...
    def __call__(self, decorated): return decorated

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything
"""


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_that_holds_a_package_is_itself_not_importable_code(folder: str) -> None:
    assert not list((ROOT / folder).glob("*.py"))
    spec = importlib.util.find_spec(folder)
    assert spec is None or spec.origin is None or "site-packages" in spec.origin, spec


def test_our_kernels_folder_does_not_hide_the_hugging_face_library_from_transformers(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(STUB_KERNELS)
    (tmp_path / "kernels-0.18.2.dist-info").mkdir()
    (tmp_path / "kernels-0.18.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n"
    )
    # The repository root comes first on the path, as with `python -m` run from there, then the library.
    program = (
        f"import sys; sys.path[0:0] = ['']; sys.path.append({str(tmp_path)!r});"
        "from transformers.integrations import hub_kernels;"
        "import kernels; print(hub_kernels.is_kernels_available(), kernels.__file__)"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["True", str(tmp_path / "kernels" / "__init__.py")]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_is_typed_and_every_folder_of_it_says_what_it_is(package: Path) -> None:
    assert (package / "py.typed").is_file()
    for folder in {path.parent for path in package.rglob("*.py")}:
        text = (folder / "__init__.py").read_text()
        assert ast.get_docstring(ast.parse(text)), folder


def test_every_room_stands_on_the_staircase() -> None:
    staircase, *_ = PROJECT["tool"]["importlinter"]["contracts"]
    steps = {name.strip(" ()") for layer in staircase["layers"] for name in layer.split("|")}
    rooms = {
        f"streamvlm.{path.stem}"
        for path in (ROOT / "streamvlm").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"streamvlm.__init__", "streamvlm.__main__"} <= steps


def test_the_staircase_is_drawn_as_the_imports_are() -> None:
    command = [sys.executable, "docs/staircase.py"]
    drawn = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode("utf-8")
    assert drawn == (ROOT / "docs" / "staircase.svg").read_text("utf-8"), "draw it again: make drawings"


def test_no_class_name_has_two_meanings() -> None:
    where: dict[str, list[Path]] = {}
    for path in (path for package in PACKAGES for path in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(path)
    assert len(where) > 200
    assert not {name: paths for name, paths in where.items() if len(paths) > 1}


class DeviceChoices(ast.NodeVisitor):
    """Finds the lines of a test on which ``pytest --device`` does not reach a model: it is put somewhere by name.

    A memory of plain tensors may be put on the host, and a marker names the kind of device that a test is for.
    """

    def __init__(self) -> None:
        self.lines: list[int] = []

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "load_model" and "device" not in [keyword.arg for keyword in node.keywords]:
            self.lines.append(node.lineno)
        if name not in ("BlockMemory", "only_on"):
            self.generic_visit(node)

    def visit_List(self, node: ast.List) -> None:
        words = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
        runs_a_model = words[1:3] == ["-m", "streamvlm"] and {"ask", "serve", "calibrate", "eval", "bench"} & {
            *words[3:4]
        }
        if runs_a_model and "--device" not in words:
            self.lines.append(node.lineno)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and re.fullmatch("cpu|cuda(:[0-3])?", node.value):
            self.lines.append(node.lineno)


def device_choices(source: str) -> list[int]:
    choices = DeviceChoices()
    choices.visit(ast.parse(source))
    return choices.lines


@pytest.mark.parametrize(
    "source",
    [
        'load_model("pocket")',
        'load_model("pocket", device="cpu")',
        'Pocket(device=torch.device("cuda"))',
        'model.to("cuda:0")',
        '[sys.executable, "-m", "streamvlm", "ask", clip]',
        '["ask", clip, "--device", "cpu"]',
    ],
)
def test_a_device_that_a_test_chooses_itself_is_found(source: str) -> None:
    assert device_choices(source) == [1]


def test_no_test_chooses_the_device_itself() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    spared = [ROOT / "tests" / name for name in ("conftest.py", "support/pretended_gpu.py", "test_pretended_gpu.py")]
    chosen = {path: device_choices(path.read_text()) for path in tests if path not in (*spared, Path(__file__))}
    assert len(chosen) > 50
    assert not {str(path): lines for path, lines in chosen.items() if lines}


def test_no_file_in_the_repository_is_too_large_to_clone_at_ease() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert files
    assert not [path for path in files if path.exists() and path.stat().st_size > MAX_FILE_BYTES]
