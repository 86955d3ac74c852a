"""Trains pocket's decoder on symbolic clips: recall, retrieval and the clock, no pictures needed."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from streamvlm.models.families.pocket.attributes import ATTRIBUTE_NAMES, GROUPS, N_ATTRIBUTES, SPAN
from streamvlm.models.families.pocket.vocabulary import END, PAD, START, build_tokenizer
from streamvlm.training.clips import make_clip
from streamvlm.training.tensors import IGNORE, NAMED, Batch, make_batch
from streamvlm.world.events import COLOURS, SHAPES

RETRIEVAL_LAYER, RETRIEVAL_HEAD = 3, 0
READING_LAYERS = (3, 4)
SLOW_KINDS = {"word": 6.0, "now_nothing": 4.0, "order": 2.0, "when": 2.0, "now_what": 2.0, "now_scene": 2.0}
"""Kinds of question that are learnt late, with the weight of their answers."""
EXACT_FROM = 0.85
"""Share of the training that multiplies in bfloat16, a third faster; the rest is exact."""
_EMBEDDING, _READ_OUT, _READ_OUT_WORDS = 0.5, 0.12, 0.2
"""Initial size of embeddings, and of the output head beside them."""
HINTS = {
    "colour before": len(COLOURS),
    "shape before": len(SHAPES),
    "new": 2,
    **{f"{group} named": len(GROUPS[group]) for group in NAMED},
}


class PocketDecoder(nn.Module):
    """A stock Llama, the linear map from posteriors to visual tokens, and heads that only training uses."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.llama = LlamaForCausalLM(config)
        self.visual = nn.Linear(N_ATTRIBUTES, config.hidden_size)
        self.hints = nn.ModuleDict({k: nn.Linear(config.hidden_size, n) for k, n in HINTS.items()})

    def begin_from_words(self) -> None:
        """Starts the visual map at the decoder's own embeddings of the attributes' names."""
        tokenizer = build_tokenizer()
        embeddings = self.llama.model.embed_tokens.weight
        with torch.no_grad():
            # Large, so that a token's embedding outweighs what the first, still random layers add to it.
            embeddings.normal_(0, _EMBEDDING)
            # Names of one group share a part, so that "some colour" can be attended to before which one is learnt.
            for names in GROUPS.values():
                own = [tokenizer.token_to_id(name) for name in names]
                embeddings[own] += torch.randn(embeddings.shape[1]) * _EMBEDDING * 0.7
            ids = [tokenizer.token_to_id(name) for name in ATTRIBUTE_NAMES]
            self.visual.weight.copy_(embeddings[ids].T)
            self.llama.lm_head.weight.copy_(embeddings * _READ_OUT)
            self.visual.bias.zero_()

    @torch.no_grad()
    def hold_words(self) -> None:
        """Ties the everyday words' three weights, of seeing, reading and writing them, and excludes them from training.

        There are hundreds and each is rare: the little gradient that reaches one only makes it drift. As they stay at
        their common start, a way of copying that is learnt on some of them works for all.
        """
        tokenizer = build_tokenizer()
        ids = torch.tensor([tokenizer.token_to_id(name) for name in GROUPS["word"]])
        embeddings, said, seen = self.llama.model.embed_tokens.weight, self.llama.lm_head.weight, self.visual.weight
        said[ids] = embeddings[ids] * _READ_OUT_WORDS
        seen[:, SPAN["word"]] = embeddings[ids].T
        held_rows = torch.ones(len(embeddings), 1).index_fill_(0, ids, 0.0)
        held_columns = torch.ones(seen.shape[1])
        held_columns[SPAN["word"]] = 0.0
        embeddings.register_hook(lambda gradient: gradient * held_rows)
        said.register_hook(lambda gradient: gradient * held_rows)
        seen.register_hook(lambda gradient: gradient * held_columns)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def begin_as_memory(self) -> None:
        """Starts attention as an associative memory: tokens attend to similar ones and copy them.

        Queries and keys begin as one random projection, values and outputs as another and its transpose. Training then
        only sharpens recall; from the usual random start, learning to copy alone takes thousands of steps.
        """
        config: Any = self.llama.config
        group = config.num_attention_heads // config.num_key_value_heads
        d, e = config.head_dim, config.hidden_size
        for depth, layer in enumerate(self.llama.model.layers):
            attention = layer.self_attn
            layer.mlp.down_proj.weight *= 0.3
            if depth < RETRIEVAL_LAYER:
                attention.o_proj.weight *= 0.3
                continue
            for kv in range(config.num_key_value_heads):
                match = torch.linalg.qr(torch.randn(e, d))[0].T
                copied = torch.linalg.qr(torch.randn(e, d))[0].T
                attention.k_proj.weight[kv * d : (kv + 1) * d] = match
                attention.v_proj.weight[kv * d : (kv + 1) * d] = copied
                for head in range(kv * group, (kv + 1) * group):
                    attention.q_proj.weight[head * d : (head + 1) * d] = match
                    attention.o_proj.weight[:, head * d : (head + 1) * d] = copied.T * (0.3 / group)

    def forward(self, batch: Batch, *, rough: bool = False) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the losses and the argmax predictions at answer tokens; ``rough`` multiplies in bfloat16."""
        embeddings = self.llama.model.embed_tokens(batch.ids)
        embeddings = embeddings.masked_scatter(batch.visual[..., None], self.visual(batch.posteriors))
        with torch.autocast("cpu", torch.bfloat16, enabled=rough):
            out = self.llama.model(
                inputs_embeds=embeddings,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                output_hidden_states=True,
            )
        is_answer = batch.labels != IGNORE
        logits = self.llama.lm_head(out.last_hidden_state[is_answer])
        into_retrieval = out.hidden_states[RETRIEVAL_LAYER]
        pull = torch.ones(batch.labels.shape)
        for b, start, stop, kind in batch.answers:
            pull[b, start:stop] = SLOW_KINDS.get(kind, 1.0)
        each = F.cross_entropy(logits, batch.labels[is_answer], reduction="none")
        losses = {"answer": (each * pull[is_answer]).sum() / pull[is_answer].sum()}
        losses["retrieval"], self.first = self._retrieval(into_retrieval, batch)
        losses["reading"] = self._reading(out.hidden_states, batch)
        for i, (name, head) in enumerate(self.hints.items()):
            known = batch.hints[..., i] != IGNORE
            if not known.any():
                continue
            losses[name] = F.cross_entropy(
                head(F.rms_norm(into_retrieval[known], into_retrieval.shape[-1:])), batch.hints[..., i][known]
            )
        return losses, logits.argmax(-1)

    def _reading(self, hidden: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """Returns -log of the reading heads' attention, while an answer is written, to the blocks that show it."""
        clip, token = batch.reading.T
        cos, sin = self.llama.model.rotary_emb(hidden[0], batch.positions)
        losses = []
        for depth in READING_LAYERS:
            layer = self.llama.model.layers[depth]
            attention, normed = layer.self_attn, layer.input_layernorm(hidden[depth])
            d = attention.head_dim
            query, key = attention.q_proj(normed)[..., :d], attention.k_proj(normed)[..., :d]
            query, key = apply_rotary_pos_emb(query[:, None], key[:, None], cos, sin)
            scores = (query[clip, 0, token][:, None] @ key[clip, 0].mT)[:, 0] * attention.scaling
            shares = scores.masked_fill(~batch.mask[clip, 0, token], -torch.inf).softmax(-1)
            losses.append(-((shares * batch.source).sum(-1) + 1e-6).log().mean())
        return torch.stack(losses).mean()

    def _retrieval(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns -log of the attention of a probe's last token to the blocks that answer it, without positions."""
        layer = self.llama.model.layers[RETRIEVAL_LAYER]
        attention, hidden = layer.self_attn, layer.input_layernorm(hidden)
        d, group = attention.head_dim, attention.num_key_value_groups
        queries = attention.q_proj(hidden)[..., RETRIEVAL_HEAD * d : (RETRIEVAL_HEAD + 1) * d]
        kv = RETRIEVAL_HEAD // group
        keys = attention.k_proj(hidden)[..., kv * d : (kv + 1) * d]
        in_block = batch.block >= 0
        block_of = batch.block[in_block]
        asked = torch.stack([queries[b, stop - 1] for b, _, stop in batch.probes])
        scores = asked @ keys[in_block].T * attention.scaling  # (probes, block tokens)
        candidates = (batch.positive | batch.negative)[:, block_of]
        shares = scores.masked_fill(~candidates, -torch.inf).softmax(-1)
        per_probe = torch.zeros(len(shares), batch.positive.shape[1]).index_add_(1, block_of, shares)
        right = (per_probe * batch.positive).sum(-1)
        first = batch.positive.gather(1, per_probe.argmax(-1, keepdim=True))[:, 0]
        return -(right + 1e-6).log().mean(), first


class Clips(IterableDataset[Batch]):
    """Endless batches of fresh clips."""

    def __init__(self, batch_size: int, noise: float, short_steps: int, seed: int) -> None:
        self.batch_size, self.noise, self.short_steps, self.seed = batch_size, noise, short_steps, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        tokenizer = build_tokenizer()
        for n in count():
            # Short clips first: recall is learnt there, and the steps are quick.
            n_blocks = int(rng.integers(6, 10) if n < self.short_steps else rng.integers(7, 24))
            # One clock for the whole batch: else a question would know its own clip's blocks by their time alone.
            start_s = float(rng.integers(0, int(rng.choice([1, 900, 3600, 9 * 3600]))))
            yield make_batch(
                [
                    make_clip(rng, tokenizer, start_s=start_s, n_blocks=n_blocks, noise=self.noise)
                    for _ in range(self.batch_size)
                ],
                tokenizer,
            )


def new_decoder() -> PocketDecoder:
    """Makes a new decoder of pocket's shape."""
    vocab = build_tokenizer().get_vocab_size()
    return PocketDecoder(
        LlamaConfig(
            vocab_size=-(-vocab // 8) * 8,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=5,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": 1e7},
            tie_word_embeddings=False,
            bos_token_id=START,
            eos_token_id=END,
            pad_token_id=PAD,
            initializer_range=0.05,
        )
    )


WEIGHTS = {"answer": 1.0, "retrieval": 0.5, "reading": 0.3} | dict.fromkeys(HINTS, 0.15)
WEIGHTS |= {"colour before": 0.4, "shape before": 0.4}  # learnt last of all, and "what came after" hangs on them


def resume(model: PocketDecoder, path: Path) -> None:
    """Loads what ``--out`` wrote, or a checkpoint folder, which has no hint heads: those start anew."""
    if not path.is_dir():
        model.load_state_dict(torch.load(path, weights_only=True))
        return
    weights = load_file(path / "model.safetensors")
    own = {k.replace("decoder.", "llama.", 1): v.float() for k, v in weights.items() if not k.startswith("eye.")}
    left_out = model.load_state_dict(own, strict=False)
    assert all(key.startswith("hints.") for key in left_out.missing_keys), left_out


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="what --out wrote before, or a checkpoint folder")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--short-steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = new_decoder()
    model.begin_from_words()
    model.begin_as_memory()
    if args.resume:
        resume(model, args.resume)
    model.hold_words()
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))
    loader = iter(
        DataLoader(
            Clips(args.batch, args.noise, args.short_steps, args.seed + 1),
            batch_size=None,
            num_workers=1,
            prefetch_factor=4,
        )
    )
    right: dict[str, list[float]] = defaultdict(list)
    began = time.time()
    sums: dict[str, float] = defaultdict(float)
    for step in range(args.steps):
        batch = next(loader)
        progress = max(step / args.steps, (time.time() - began) / 60 / args.minutes)
        if progress >= 1:
            break
        warm = min(1.0, (step + 1) / (30 if args.resume else 100))
        rate = args.rate * warm * (0.5 + 0.5 * np.cos(np.pi * progress)) + 1e-5
        for group in optimiser.param_groups:
            group["lr"] = rate
        losses, predicted = model(batch, rough=progress < EXACT_FROM)
        loss = sum(WEIGHTS[k] * v for k, v in losses.items())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        for k, v in losses.items():
            sums[k] += v.item()
        sums["first"] += float(model.first.float().mean())
        _mark(batch, predicted, right)
        if (step + 1) % 25 == 0:
            line = {"step": step + 1, "s": round(time.time() - began), "S": batch.ids.shape[1]}
            line |= {k: round(v / 25, 3) for k, v in sums.items()}
            line["right"] = {k: f"{np.mean(v):.2f}" for k, v in sorted(right.items())}
            print(json.dumps(line), flush=True)
            sums.clear()
            right.clear()
        if (step + 1) % 200 == 0:
            torch.save(model.state_dict(), args.out)
    torch.save(model.state_dict(), args.out)


def _mark(batch: Batch, predicted: Tensor, right: dict[str, list[float]]) -> None:
    """Returns the share of answers right to the last token, by kind, given the right words before each token."""
    guess = torch.full_like(batch.labels, IGNORE)
    guess[batch.labels != IGNORE] = predicted
    for b, start, stop, kind in batch.answers:
        right[kind].append(float(torch.equal(guess[b, start:stop], batch.labels[b, start:stop])))


if __name__ == "__main__":
    main()
