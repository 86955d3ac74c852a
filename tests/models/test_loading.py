"""Checkpoints as they are found: whole ones load, and every other one is refused in a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fabricate import FAMILIES, fabricate
from pairs import pictures
from safetensors.torch import load_file, save_file

from streamvlm.errors import ModelError, UsageError
from streamvlm.frame import Fidelity
from streamvlm.models import loading
from streamvlm.models.registry import load_model
from streamvlm.models.weights import fingerprint, read_weights

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate("smolvlm", tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate("smolvlm", tmp_path_factory.mktemp("sharded"), shard_bytes=60_000)


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


def test_shards_load_as_one_file_does(whole: Path, sharded: Path, device: str) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    (one,), (other,) = (load_model(str(f), device=device).see(pictures(1)) for f in (whole, sharded))
    assert torch.equal(one.detail, other.detail)
    assert read_weights(whole).n_parameters == read_weights(sharded).n_parameters


def test_bfloat16_holds_half_the_bytes_and_sees_the_same(whole: Path, device: str) -> None:
    exact, half = (load_model(str(whole), device=device, dtype=d) for d in ("float32", "bfloat16"))
    assert (exact.layout.dtype, half.layout.dtype) == (torch.float32, torch.bfloat16)
    assert half.layout.token_bytes * 2 == exact.layout.token_bytes
    (one,), (other,) = exact.see(pictures(1)), half.see(pictures(1))
    assert float(torch.cosine_similarity(one.feature, other.feature, dim=0)) > 0.999
    assert other.feature.dtype == torch.float32
    assert half.frame_tokens(other, 1.0, Fidelity.FUZZY).embeddings.dtype == torch.bfloat16


def test_a_directory_comes_before_a_configuration_of_its_name(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    shutil.copytree(whole, tmp_path / "smolvlm2-256m")
    monkeypatch.chdir(tmp_path)
    assert load_model("smolvlm2-256m", device=device).layout.n_layers == 3


def test_a_dtype_that_does_not_exist_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="float7"):
        load_model("pocket", device=device, dtype="float7")


def cut_short(folder: Path) -> None:
    data = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(data[: len(data) // 2])


def only_pickled(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "pytorch_model.bin")


def one_tensor_less(folder: Path) -> None:
    tensors = load_file(folder / SINGLE)
    del tensors["model.connector.modality_projection.proj.weight"]
    save_file(tensors, folder / SINGLE, {"format": "pt"})


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))


def other_tokenizer(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text().replace("<global-img>", "<local-img>")
    (folder / "tokenizer.json").write_text(text)


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (without("config.json"), "no config.json"),
        (written("config.json", "{"), "cannot be read"),
        (written("config.json", '{"model_type": "parrot"}'), "family 'parrot'; supported: pocket, smolvlm, "),
        (written("config.json", '{"model_type": "smolvlm", "text_config": {"hidden_size": "wide"}}'), "config.json"),
        (without(SINGLE), "no weights"),
        (only_pickled, "pickled weights only"),
        (cut_short, "cut short"),
        (written(SINGLE, "not safetensors at all"), "damaged"),
        (written(INDEX, "[]"), "damaged"),
        (one_tensor_less, "lacks 1 of the model's weights, such as model.connector"),
        (other_shape, "do not fit its config.json"),
        (without("tokenizer.json"), "no tokenizer.json"),
        (written("tokenizer.json", "{}"), "tokenizer.json is damaged"),
        (other_tokenizer, "no token '<global-img>'"),
        (without("chat_template.jinja"), "no chat template"),
        (written("chat_template.jinja", "{{ messages[7].text }}"), "chat template"),
        (written("chat_template.jinja", "{% for"), "chat template"),
        (without("preprocessor_config.json"), "no preprocessor_config.json"),
        (written("preprocessor_config.json", "nothing"), "preprocessor_config.json is damaged"),
        (written("preprocessor_config.json", '{"size": {"longest_edge": "wide"}}'), "preprocessing numbers"),
        (written("preprocessor_config.json", '{"image_mean": [0.5]}'), "preprocessing numbers"),
        (written("generation_config.json", "nothing"), "generation_config.json is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_harm_gets_one_sentence(
    harm: Callable[[Path], object], told: str, whole: Path, tmp_path: Path, device: str
) -> None:
    folder = copy_of(whole, tmp_path)
    harm(folder)
    with pytest.raises(ModelError) as refused:
        load_model(str(folder), device=device)
    message = str(refused.value)
    assert told in message
    assert message.endswith(".")
    assert "\n" not in message


def test_a_missing_shard_is_named(sharded: Path, tmp_path: Path, device: str) -> None:
    folder = copy_of(sharded, tmp_path)
    gone = sorted(folder.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelError, match=rf"lacks 1 of its \d+ weight files, such as {gone.name}"):
        load_model(str(folder), device=device)


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    whole: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    needed = read_weights(whole).n_parameters * 4
    monkeypatch.setattr(loading, "free_ram_bytes", lambda: needed - 1)
    with pytest.raises(ModelError, match="RAM are free"):
        load_model(str(whole), device=device, dtype="float32")
    load_model(str(whole), device=device, dtype="bfloat16")


def test_free_memory_is_what_the_cgroup_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = loading.free_ram_bytes()
    assert machine > 1 << 20
    monkeypatch.setattr(loading, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert loading.free_ram_bytes() == 100
    (tmp_path / "memory.max").write_text("max\n")
    assert loading.free_ram_bytes() > 1 << 20


def test_a_fingerprint_is_the_contents_not_the_place(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path)
    assert fingerprint(folder) == fingerprint(whole)
    tensors = load_file(folder / SINGLE)
    name = "model.text_model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name] * 1.001  # as any training would
    save_file(tensors, folder / SINGLE, {"format": "pt"})
    assert fingerprint(folder) != fingerprint(whole)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_fingerprint_changes_with_the_settings(name: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert fingerprint(folder) != fingerprint(whole)


def test_the_turns_end_is_a_stop_token_with_or_without_a_generation_config(
    whole: Path, tmp_path: Path, device: str
) -> None:
    folder = copy_of(whole, tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    assert load_model(str(folder), device=device).stop_ids == {0, 2}
    (folder / "generation_config.json").unlink()
    assert load_model(str(folder), device=device).stop_ids == {0}


def test_templates_are_found_where_checkpoints_have_them(whole: Path, tmp_path: Path, device: str) -> None:
    folder = copy_of(whole, tmp_path)
    (folder / "chat_template.jinja").unlink()
    expected = load_model(str(whole), device=device).opening_tokens()
    for name in ("tokenizer_config.json", "chat_template.json"):
        (folder / name).write_text(json.dumps({"chat_template": FAMILIES["smolvlm"].template}))
        assert torch.equal(load_model(str(folder), device=device).opening_tokens(), expected)
        (folder / name).unlink()
