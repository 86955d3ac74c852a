"""The settings of a server: from a TOML file, the environment and flags; the last one wins."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from streamvlm.errors import UsageError
from streamvlm.policies.registry import DEFAULT_POLICY, POLICIES

ENVIRONMENT = "STREAMVLM_"
"""Prefix of environment variables: ``STREAMVLM_PORT`` is ``port``."""


def _listed(value: object) -> object:
    """Splits a list, which the environment and flags write with commas."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


Listed = BeforeValidator(_listed)


def _known_policy(policy: str) -> str:
    if policy not in POLICIES:
        raise ValueError(f"there is no such policy; choose from {', '.join(POLICIES)}")
    return policy


class ServerConfig(BaseModel):
    """The settings of a server; sizes are bytes, or written as ``8MiB``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; beyond this machine it takes --keys-file."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM), to speak https and wss.")
    tls_key: Path | None = Field(default=None, description="Its private key (PEM).")
    keys_file: Path | None = Field(default=None, description="API keys, hashed, with owners and limits.")
    allowed_origins: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="Web origins whose pages may talk to this server; * for all."
    )

    model: str = Field(default="pocket", description="Name or directory of a model.")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    policy: Annotated[str, AfterValidator(_known_policy)] = Field(
        default=DEFAULT_POLICY, description=f"What is kept, and what a question gets: {', '.join(POLICIES)}."
    )
    home: Path | None = Field(default=None, description="Folder in which sessions outlive the server.")
    max_sessions: int = Field(default=8, ge=1, description="Sessions open at once.")
    max_waiting: int = Field(
        default=64, ge=0, description="Requests with media of their own that wait while all sessions are in use."
    )
    queue_timeout_s: float = Field(default=30.0, ge=0, description="How long such a request waits.")
    max_questions: int = Field(default=8, ge=1, description="Questions under way or waiting in one session.")
    frame_queue: int = Field(
        default=16, ge=1, description="Newest frames of a session that wait; older ones are dropped."
    )
    device_budget: ByteSize = Field(
        default=ByteSize(8 << 30), gt=0, description="Device memory for blocks, in equal shares for all sessions."
    )
    memory_budget: ByteSize = Field(
        default=ByteSize(2 << 30), gt=0, description="RAM for blocks, all sessions together."
    )
    disk_budget: ByteSize = Field(
        default=ByteSize(64 << 30), gt=0, description="Disk for blocks, all sessions together, those at rest too."
    )
    session_memory_budget: ByteSize = Field(
        default=ByteSize(256 << 20), gt=0, description="RAM for blocks of one session."
    )
    session_disk_budget: ByteSize = Field(
        default=ByteSize(4 << 30), gt=0, description="Disk for blocks of one session."
    )
    disk_codec: Literal["raw", "int8", "int4"] = Field(
        default="raw", description="How exactly blocks are kept on disk."
    )
    flush_every_s: float = Field(
        default=2.0, gt=0, le=3600, description="Most seconds of a stream that a crash may cost."
    )

    max_body: ByteSize = Field(default=ByteSize(64 << 20), gt=0, description="Largest request.")
    request_timeout_s: float = Field(default=120.0, gt=0, description="How long a request may take to come in.")
    max_picture: ByteSize = Field(default=ByteSize(8 << 20), gt=0, description="Largest picture, encoded.")
    max_picture_px: int = Field(default=40_000_000, gt=0, le=80_000_000, description="Most pixels of a picture.")
    max_video: ByteSize = Field(default=ByteSize(48 << 20), gt=0, description="Largest video, encoded.")
    max_frames: int = Field(default=1000, ge=1, description="Most frames of one request.")
    watch_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="How long all media of one request may take to be fetched, and then to be watched.",
    )
    allowed_media_schemes: Annotated[tuple[Literal["http", "https"], ...], Listed] = Field(
        default=("https",), description="Schemes from which media may be fetched."
    )
    allowed_media_hosts: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="Hosts from which media may be fetched: names, *.example.org, or * for all public ones."
    )
    allowed_media_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], Listed] = Field(
        default=(), description="Private networks that those hosts may lie in, such as 10.1.2.0/24."
    )
    media_timeout_s: float = Field(default=10.0, gt=0, description="How long fetching one picture or video may take.")

    idle_s: float = Field(default=600.0, gt=0, description="How long a WebSocket may say and wait for nothing.")
    linger_s: float = Field(default=300.0, ge=0, description="How long a session keeps its place without a client.")
    drain_s: float = Field(
        default=24.0,
        ge=0,
        description="How long a stop may take after SIGTERM: two thirds for running answers, what is left of it for "
        "frames that wait to be watched.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("a TLS certificate and its key go together; give both or none")
        for tier in ("memory", "disk"):
            if getattr(self, f"session_{tier}_budget") > getattr(self, f"{tier}_budget"):
                raise ValueError(
                    f"one session's {tier} budget is larger than that of all together; lower session_{tier}_budget"
                )
        return self

    @property
    def answers_drain_s(self) -> float:
        """Seconds that running answers may take after SIGTERM."""
        return self.drain_s * 2 / 3


def load_config(
    file: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> ServerConfig:
    """Reads the configuration.

    Args:
        file: TOML with the fields of ServerConfig.
        environment: Environment variables, such as ``STREAMVLM_PORT``; they win over the file.
        flags: Values by field name; they win over both.

    Raises:
        UsageError: If the file cannot be read, or a value cannot be taken.
    """
    given: dict[str, tuple[str, object]] = {}
    for name, value in (_read(file) if file is not None else {}).items():
        given[name] = (f"{name} in {file}", value)
    for name in ServerConfig.model_fields:
        variable = ENVIRONMENT + name.upper()
        if environment is not None and variable in environment:
            given[name] = (variable, environment[variable])
        if flags is not None and name in flags:
            given[name] = (f"--{name.replace('_', '-')}", flags[name])
    try:
        return ServerConfig.model_validate({name: value for name, (_, value) in given.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise UsageError(f"The server's configuration makes no sense: {_reason(first['msg'])}.") from error
        source, value = given[str(first["loc"][0])]
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{source}: there is no such setting; see `streamvlm serve --help`.") from error
        raise UsageError(f"{source} is {value!r}: {_reason(first['msg'])}; correct it.") from error


def _reason(message: str) -> str:
    reason = message.removeprefix("Value error, ")
    return reason[:1].lower() + reason[1:]


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The configuration {file} cannot be read ({error}); check the path and the file.") from error
