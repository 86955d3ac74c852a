"""``streamvlm bench encode``: how fast a family encodes frames at its true size, with random weights.

The stock model is built from its configuration; random weights cost as much time as trained ones. The
multiplications and additions are counted and compared with the fastest matrix product of the same machine and run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import BlockLayout
from streamvlm.models.base import FrameTokens
from streamvlm.models.loading import layout_of, read_config, require_memory
from streamvlm.models.pixels import read_pixel_settings
from streamvlm.models.registry import adapter_of, find_checkpoint

_PICTURE = (720, 1280, 3)  # the shape for which footprints are stated, where a family keeps a frame's shape
_SINK_TOKENS, _QUESTION_TOKENS, _WINDOW_BLOCKS = 40, 24, 8


def bench_encode(
    name: str, *, device: torch.device, dtype: torch.dtype, chunk_frames: int, n_retrieved: int, repeats: int
) -> dict[str, Any]:
    """Measures the vision pass, the prefill and the answer.

    Args:
        name: A known configuration, or a checkpoint whose configuration and preprocessing numbers are used.
        device: Where to run.
        dtype: Of weights and memory.
        chunk_frames: Frames that one vision pass and one prefill take together.
        n_retrieved: Blocks fetched for a question, beside sinks and window.
        repeats: How often everything is measured; the result has medians.

    Raises:
        UsageError: If the family has no stock model.
        ModelError: If there is no such model, or memory is too small for it.
    """
    folder, family = find_checkpoint(name)
    if family == "pocket":
        raise UsageError("pocket has its weights: measure it with `streamvlm bench ttft`; give a stock family here.")
    adapter, config, settings = adapter_of(family), read_config(folder), read_pixel_settings(folder)
    stock = _build(config, device, dtype)
    decoder = StreamDecoder(stock.get_decoder(), stock.get_output_embeddings())
    footprint = adapter.footprint(folder, dtype)
    pictures = list(np.random.default_rng(0).integers(0, 256, (chunk_frames, *_PICTURE), np.uint8))
    pixels = adapter.prepare(pictures, settings, device).to(dtype)

    with torch.inference_mode():
        _, grids = adapter.look(stock, pixels)
        frames = [_with_text(adapter.visual_tokens(grid, Fidelity.CLEAR), footprint.clear_tokens) for grid in grids]
        chunk = FrameTokens.join(frames)
        sinks, block = (_payload(decoder.layout, n, device) for n in (_SINK_TOKENS, footprint.clear_tokens))
        near, far = [sinks, *[block] * _WINDOW_BLOCKS], [block] * n_retrieved
        question = chunk.embeddings[:1].expand(_QUESTION_TOKENS, -1)

        def see() -> None:
            adapter.look(stock, pixels)

        def prefill() -> None:
            context = decoder.context_of([KeyValues(part) for part in near], len(chunk))
            decoder.prefill(chunk.embeddings, context, positions=chunk.positions, deepstack=chunk.deepstack)

        def answer() -> None:
            layers = [decoder.layout.n_layers // 2]
            decoder.probe(question, decoder.context_of([KeyValues(part) for part in near], len(question)), layers)
            context = decoder.context_of([KeyValues(part) for part in (near[0], *far, *near[1:])], len(question))
            hidden, _ = decoder.prefill(question, context)
            int(decoder.logits(hidden[-1]).argmax())

        prepare_s = _median_s(lambda: adapter.prepare(pictures, settings, device), device, repeats)
        see_s, prefill_s, ttft_s = (_median_s(work, device, repeats) for work in (see, prefill, answer))
        n_near = sum(part.shape[-2] for part in near)
        flops = {"see": _counted_flops(see), "prefill": _prefill_flops(stock, len(chunk), n_near)}
    ceiling = _matrix_product_flops(device, dtype, repeats)
    reached = sum(flops.values()) / (see_s + prefill_s)
    return {
        "config": name,
        "parameters": sum(p.numel() for p in stock.parameters()),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "chunk_frames": chunk_frames,
        "tokens_per_clear_frame": footprint.clear_tokens,
        "MiB_per_clear_frame": footprint.clear_tokens * footprint.layout.token_bytes / 2**20,
        "ms_per_frame": {
            "prepare": 1000 * prepare_s / chunk_frames,
            "see": 1000 * see_s / chunk_frames,
            "prefill": 1000 * prefill_s / chunk_frames,
        },
        "frames_per_s": chunk_frames / (see_s + prefill_s),
        "GFLOP_per_frame": {part: n / chunk_frames / 1e9 for part, n in flops.items()},
        "GFLOP_per_s": reached / 1e9,
        "matrix_product_GFLOP_per_s": ceiling / 1e9,
        "share_of_ceiling": reached / ceiling,
        "ttft_ms": {"retrieved_frames": n_retrieved, "median": 1000 * ttft_s},
    }


def _build(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    from_config: Any = AutoModelForImageTextToText.from_config
    with torch.device("meta"):
        n_parameters = sum(parameter.numel() for parameter in from_config(config).parameters())
    require_memory(n_parameters * dtype.itemsize, device, config.model_type)
    torch.manual_seed(0)
    with device:
        stock = from_config(config, dtype=dtype, attn_implementation="sdpa")
    return stock.eval().requires_grad_(False)


def _with_text(visual: FrameTokens, n_tokens: int) -> FrameTokens:
    """Returns a frame of ``n_tokens``: its visual tokens behind some that stand for its timestamp."""
    return FrameTokens.join([FrameTokens(visual.embeddings[:1].expand(n_tokens - len(visual), -1)), visual])


def _payload(layout: BlockLayout, n_tokens: int, device: torch.device) -> Tensor:
    return torch.randn(layout.shape(n_tokens), device=device).to(layout.dtype)


def _median_s(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began_s)
    return statistics.median(times)


def _counted_flops(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return counter.get_total_flops()


def _prefill_flops(stock: Any, n_new: int, n_before: int) -> int:
    """Counts the operations of a prefill: projections, and causal attention, which the counter cannot see."""
    decoder, text = stock.get_decoder(), stock.config.get_text_config()
    weights: int = sum(part.weight.numel() for part in decoder.modules() if isinstance(part, torch.nn.Linear))
    layout = layout_of(stock.config, stock.dtype)
    width: int = text.num_attention_heads * layout.head_dim
    attended = n_new * n_before + n_new * (n_new + 1) // 2
    return 2 * weights * n_new + 4 * layout.n_layers * width * attended


def _matrix_product_flops(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    """Measures floating-point operations a second: the best of three sizes of square matrix product."""
    best = 0.0
    for side in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192, 16384):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        best = max(best, 2 * side**3 / _median_s(partial(torch.matmul, a, b), device, repeats))
    return best
