"""The pretended GPU: it refuses what CUDA refuses, computes what CUDA computes, and is gone when it is over."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pretended_gpu import pretended_gpu
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

GPU = torch.device("cuda", 0)
ROWS = torch.tensor([0, 2])

pytestmark = pytest.mark.only_on("cpu", "a GPU needs no pretending")


def here() -> Tensor:
    return torch.arange(12.0).reshape(3, 4)


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "a sum": lambda there: here() + there,
    "a sum in place": lambda there: here().add_(there),
    "a sum into a result here": lambda there: torch.add(there, there, out=here()),
    "a product": lambda there: there @ here().T,
    "joining": lambda there: torch.cat([there, here()]),
    "joining single numbers": lambda there: torch.stack([there[0, 0], here()[0, 0]]),
    "a layer whose weights are here": lambda there: F.linear(there, here()),
    "attention to keys here": lambda there: F.scaled_dot_product_attention(there, here(), here()),
    "a mask here": lambda there: there.masked_fill(here() > 2, 0.0),
    "a choice": lambda there: torch.where(there > 2, there, here()),
    "a comparison": lambda there: torch.equal(there, here()),
    "rows here, by an index there": lambda there: here()[ROWS.to("cuda")],
    "rows there, gathered by an index here": lambda there: there.index_select(0, ROWS),
    "an embedding of ids here": lambda there: F.embedding(ROWS, there),
    "numbers here, by one there": lambda there: here().add_(there[0, 0]),
    "numpy": lambda there: there.numpy(),
    "random numbers of the CPU's generator": lambda there: torch.rand(3, generator=torch.Generator(), device="cuda"),
}


@pytest.mark.parametrize("operation", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("inference", [False, True])
def test_what_mixes_devices_is_refused(operation: Callable[[Tensor], object], inference: bool) -> None:
    with pretended_gpu(), torch.inference_mode(inference):
        there = here().to("cuda")
        with pytest.raises((RuntimeError, TypeError), match=r"same device|cuda"):
            operation(there)


def changed(there: Tensor, change: Callable[[Tensor], object]) -> Tensor:
    change(there)
    return there


def attended(there: Tensor) -> Tensor:
    some = there[None, None]
    return F.scaled_dot_product_attention(some[:, :, 1:], some, some, attn_mask=causal_lower_right(2, 3))


def in_a_thread(there: Tensor) -> Tensor:
    told: list[Tensor] = []
    thread = threading.Thread(target=lambda: told.append(there + torch.ones(3, 4, device=there.device)))
    thread.start()
    thread.join()
    return told[0]


def layer(there: Tensor) -> Tensor:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.LayerNorm(2)).to(there.device)
    assert all(isinstance(weight, torch.nn.Parameter) for weight in made.parameters())
    output: Tensor = copy.deepcopy(made)(there).detach()
    return output


ALLOWED: dict[str, Callable[[Tensor], Any]] = {
    "a single number of the CPU": lambda there: there * torch.tensor(2.0),
    "rows by an index of the CPU": lambda there: there[ROWS],
    "rows by a list": lambda there: there[[0, 2]],
    "rows by numbers of NumPy": lambda there: there[np.array([0, 2]), np.int64(1)],
    "columns by numbers": lambda there: changed(there, lambda t: t.__setitem__((slice(None), (1, 3)), 7.0)),
    "numbers by a mask of the CPU": lambda there: there[here() > 2],
    "writing a row of the CPU": lambda there: changed(there, lambda t: t.__setitem__(0, here()[1])),
    "a view, written to": lambda there: changed(there, lambda t: t[1:].mul_(2)),
    "a copy from the CPU": lambda there: there.copy_(here() + 1),
    "what is made there": lambda there: torch.tensor([1.0, 2.0], device=there.device) + there.new_tensor([3.0, 4.0]),
    "what is made of single numbers there": lambda there: torch.tensor([there[0, 1], 3.0], device=there.device),
    "what is made like it": lambda there: there + torch.ones_like(there) + there.new_zeros(4),
    "another dtype": lambda there: there.to(torch.bfloat16).float(),
    "a single number, read": lambda there: torch.tensor(float(there.sum()) + there[0].tolist()[1]),
    "a layer moved there": layer,
    "attention with a bias": attended,
    "another thread": in_a_thread,
}


@pytest.mark.parametrize("operation", ALLOWED.values(), ids=ALLOWED)
@pytest.mark.parametrize("inference", [False, True])
def test_what_cuda_computes_is_computed(operation: Callable[[Tensor], Any], inference: bool) -> None:
    with torch.inference_mode(inference):
        expected = operation(here())
        with pretended_gpu():
            got = operation(here().to("cuda"))
            assert torch.equal(got.cpu(), expected)


def test_what_crosses_is_a_copy_and_what_stays_is_not() -> None:
    for inference in (False, True):
        with pretended_gpu(), torch.inference_mode(inference):
            there = here().to("cuda")
            assert there.device == GPU
            assert there.is_cuda
            assert there.to("cuda") is there
            back = there.cpu()
            there.zero_()
            assert not back.is_cuda
            assert torch.equal(back, here())
            assert not back.copy_(there).any()


def test_what_would_be_made_behind_its_back_is_never_computed_with() -> None:
    with pretended_gpu():
        there = here().to("cuda")
        with torch._C.DisableTorchFunction(), pytest.raises(AssertionError, match="holds nothing"):
            there[[0, 2]]


def test_the_gpu_is_there_as_long_as_it_lasts() -> None:
    before = torch.cuda.is_available(), threading.Thread.run
    with pretended_gpu():
        assert torch.cuda.is_available()
        assert torch.zeros(2, device="meta").device.type == "meta", "which transformers loads on, is none of ours"
    assert (torch.cuda.is_available(), threading.Thread.run) == before
    assert here().device.type == "cpu"
