"""Hub names, against a hub of our own on loopback: the real client, the real cache, no network."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from fabricate import fabricate
from huggingface_hub import constants

from streamvlm.errors import ModelError
from streamvlm.models.registry import find_checkpoint, load_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """Serves one repository, ``someone/tiny``, as far as the client needs it."""

    folder: ClassVar[Path]
    fetched: ClassVar[list[str]]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        if "/gated" in path:
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif "someone/tiny" not in path:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            files = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in self.folder.iterdir()
            ]
            self._answer(200, json.dumps(files).encode())
        elif path.startswith("api/"):
            self._answer(200, json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": []}).encode())
        else:
            name = path.rpartition("/")[2]
            if self.command == "GET":
                self.fetched.append(name)
            self._answer(200, (self.folder / name).read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the files that were fetched."""
    _Hub.folder, _Hub.fetched = fabricate("smolvlm", tmp_path / "served"), []
    (_Hub.folder / "pytorch_model.bin").write_bytes(b"never wanted")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield _Hub.fetched
    server.shutdown()
    server.server_close()


def test_a_hub_name_is_downloaded_once_and_loads_offline_from_then_on(
    hub: list[str], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    model = load_model("someone/tiny", device=device)
    assert model.name == "someone/tiny"
    assert "model.safetensors" in hub
    assert "pytorch_model.bin" not in hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    n_fetched = len(hub)
    assert load_model("someone/tiny", device=device).fingerprint == model.fingerprint
    assert len(hub) == n_fetched


def test_a_look_at_a_checkpoint_fetches_no_weights(hub: list[str]) -> None:
    _, family = find_checkpoint("someone/tiny")
    assert family == "smolvlm"
    assert "config.json" in hub
    assert "model.safetensors" not in hub


@pytest.mark.parametrize(
    ("name", "told"), [("someone/gated", "gated; accept its terms"), ("someone/nothing", "check the spelling")]
)
def test_what_the_hub_refuses_is_told_in_a_sentence(hub: list[str], name: str, told: str, device: str) -> None:
    with pytest.raises(ModelError, match=told):
        load_model(name, device=device)


def test_without_a_network_the_sentence_says_so(hub: list[str], monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="on this machine, and the hub cannot be reached") as refused:
        load_model("someone/tiny", device=device)
    assert "\n" not in str(refused.value)


def test_a_cache_without_the_weights_is_no_whole_checkpoint(
    hub: list[str], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    find_checkpoint("someone/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"hub cannot be reached|has no weights"):
        load_model("someone/tiny", device=device)
