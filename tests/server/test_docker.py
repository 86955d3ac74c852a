"""What can be said of the image without building it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from streamvlm_server.config import ServerConfig

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_all_that_is_installed_is_copied_into_the_image() -> None:
    copied = {source for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M) for source in line.split()}
    assert all((ROOT / source).exists() for source in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {Path(package).parts[0] for package in packages["packages"]} <= copied
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= copied


def test_what_the_image_sets_are_settings() -> None:
    names = {name.lower() for name in re.findall(r"STREAMVLM_([A-Z_]+)=", DOCKERFILE)}
    assert names
    assert names <= set(ServerConfig.model_fields)
    assert f":{ServerConfig().port}/readyz" in DOCKERFILE
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.M)
