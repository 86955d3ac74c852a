"""A server's settings: three sources, one winner, and a sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamvlm.errors import UsageError
from streamvlm_server.config import ServerConfig, load_config


def test_flags_win_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "10.0.0.1"\nmodel = "from-file"\nallowed_media_hosts = ["a.org", "b.org"]\n')
    environment = {"STREAMVLM_PORT": "2", "STREAMVLM_HOST": "10.0.0.2", "STREAMVLM_UNKNOWN": "3", "PORT": "4"}
    config = load_config(file, environment, {"port": 5})
    assert (config.port, config.host, config.model) == (5, "10.0.0.2", "from-file")
    assert config.allowed_media_hosts == ("a.org", "b.org")


def test_what_is_left_out_has_a_default_that_serves_this_machine_alone_and_fetches_from_nowhere() -> None:
    config = load_config()
    assert config == ServerConfig()
    assert config.host == "127.0.0.1"
    assert config.allowed_media_hosts == ()


def test_sizes_and_lists_are_written_as_people_write_them() -> None:
    environment = {
        "STREAMVLM_MAX_PICTURE": "2MiB",
        "STREAMVLM_ALLOWED_ORIGINS": "https://a.org, https://b.org",
        "STREAMVLM_ALLOWED_MEDIA_NETWORKS": "10.1.2.0/24",
    }
    config = load_config(environment=environment)
    assert config.max_picture == 2 << 20
    assert config.allowed_origins == ("https://a.org", "https://b.org")
    assert [str(network) for network in config.allowed_media_networks] == ["10.1.2.0/24"]


@pytest.mark.parametrize(
    ("file", "environment", "flags", "named"),
    [
        ("port = 'many'", {}, {}, "port in"),
        ("ports = 1", {}, {}, "no such setting"),
        ("port = ", {}, {}, "cannot be read"),
        ("", {"STREAMVLM_PORT": "70000"}, {}, "STREAMVLM_PORT"),
        ("", {"STREAMVLM_ALLOWED_MEDIA_SCHEMES": "gopher"}, {}, "STREAMVLM_ALLOWED_MEDIA_SCHEMES"),
        ("", {}, {"max_picture": "much"}, "--max-picture"),
        ("", {}, {"tls_cert": "cert.pem"}, "TLS"),
        ("", {}, {"session_memory_budget": "8GiB"}, "session_memory_budget"),
    ],
)
def test_each_mistake_is_one_sentence_that_names_where_it_stands(
    file: str, environment: dict[str, str], flags: dict[str, str], named: str, tmp_path: Path
) -> None:
    path = tmp_path / "server.toml"
    path.write_text(file)
    with pytest.raises(UsageError, match=named) as caught:
        load_config(path, environment, flags)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.toml"):
        load_config(tmp_path / "missing.toml")


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in ServerConfig.model_fields.values())
