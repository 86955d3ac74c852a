"""Puts a trained decoder and eye together as pocket's checkpoint directory: config, weights, tokenizer.

Weights are stored as float16; the retrieval heads and the gate's noise floor are measured on the assembled model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from streamvlm.calibration.calibrate import calibrate, measure_noise_floor
from streamvlm.models.families.pocket.adapter import FAMILY, Pocket
from streamvlm.models.families.pocket.eye import Eye
from streamvlm.models.families.pocket.vocabulary import build_tokenizer
from streamvlm.training.train_decoder import RETRIEVAL_HEAD, RETRIEVAL_LAYER, new_decoder

N_STILLS = 40


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--eye", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    decoder, eye = new_decoder(), Eye()
    decoder.load_state_dict(torch.load(args.decoder, weights_only=True))
    eye.load_state_dict(torch.load(args.eye, weights_only=True))
    parts = {"decoder": decoder.llama, "visual": decoder.visual, "eye": eye}
    weights = {f"{part}.{k}": v.half() for part, module in parts.items() for k, v in module.state_dict().items()}
    save_file(weights, args.out / "model.safetensors", {"format": "pt"})
    build_tokenizer().save(str(args.out / "tokenizer.json"))
    shape = {k: v for k, v in decoder.llama.config.to_dict().items() if k in _SHAPE_KEYS}
    config = {
        "family": FAMILY,
        "decoder": shape,
        "retrieval_heads": [[RETRIEVAL_LAYER, RETRIEVAL_HEAD]],
        "noise_floor": 1e-3,
    }
    _write(config, args.out)
    model = Pocket(args.out, device=torch.device("cpu"), dtype=torch.float32)
    config["noise_floor"] = measure_noise_floor(model, 8, N_STILLS)
    found = calibrate(model)
    for rank in found.ranks[:6]:
        print(f"layer {rank.head.layer} head {rank.head.head}: right block first {rank.first:.3f}")
    config["retrieval_heads"] = [[head.layer, head.head] for head in found.heads]
    _write(config, args.out)
    print(json.dumps(config))


_SHAPE_KEYS = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "rope_parameters", "tie_word_embeddings",
    "bos_token_id", "eos_token_id", "pad_token_id",
}  # fmt: skip


def _write(config: dict[str, object], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
