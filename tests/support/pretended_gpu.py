"""A pretended GPU: on a machine without one, what CUDA refuses to mix is refused, and all else is computed.

A tensor on it is a wrapper around one on the CPU and says that it is on ``cuda:0``. Operations are done on what is
wrapped, but first held to CUDA's rules: operands lie on one device, except that a CPU tensor of no dimensions goes with
any; indices may lie on the CPU; copies cross. Only what is asked for by device lands here, so what a program forgets to
place lies on the CPU, as it would with CUDA, and is refused where it meets the rest.

The program is not changed. To PyTorch's C++ the wrappers are on ``meta:1``, a device that nobody else uses: a build
without CUDA can do nothing with tensors of that type, and on ``meta`` without a number transformers loads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from streamvlm.memory import host_arena as arena

GPU = torch.device("cuda", 0)
_FOR_CPP, _CPU = torch.device("meta", 1), torch.device("cpu")
_MEMORY_BYTES = 80 << 30

_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_JOINING = ("aten::cat", "aten::stack")
_LIKE_ANOTHER = ("aten::to", "aten::type_as")
_OF_DATA = (torch.tensor, torch.as_tensor, torch.asarray)
_MAKES_NO_TENSOR = (torch.device, torch._C._nn._parse_to)


class OnGpu(Tensor):
    """A tensor on the pretended GPU.

    Attributes:
        held: What it holds, on the CPU.
    """

    held: Tensor
    device: Any = property(lambda self: GPU)
    is_cuda: Any = property(lambda self: True)
    is_meta: Any = property(lambda self: False)
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        wrap: Any = Tensor._make_wrapper_subclass
        with torch.inference_mode(False):  # what is held was made in some mode, and is bound by it
            made: OnGpu = wrap(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
                device=_FOR_CPP,
            )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.held})"

    def numpy(self, **_: object) -> Any:
        raise TypeError(f"can't convert {GPU} device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _operate(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """There is CUDA as long as this lasts, for this thread and those that are started meanwhile."""
    run = threading.Thread.run

    def run_with_gpu(thread: threading.Thread) -> None:
        with _modes():
            run(thread)

    def new_bias(cls: type[Tensor], *_: object) -> Tensor:
        with _disable_current_modes():  # under a mode no subclass of tensors can be made
            return Tensor.__new__(cls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (_MEMORY_BYTES, _MEMORY_BYTES))
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(arena, "_page_lock", lambda buffer: None)
        patch.setattr(CausalBias, "__new__", new_bias, raising=False)
        patch.setattr(threading.Thread, "run", run_with_gpu)
        with _modes():
            yield


@contextmanager
def _modes() -> Iterator[None]:
    operations: Any = _Operations
    with operations(), _Calls():
        yield


class _Calls(TorchFunctionMode):
    """What Python asks of PyTorch, put so that a build without CUDA takes it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _MAKES_NO_TENSOR:
            return func(*args, **kwargs)
        if func is torch._has_compatible_shallow_copy_type and isinstance(args[1], OnGpu):
            return False  # the data of a plain parameter can be no wrapper
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            return func(args[0], _index_of_tensors(args[1]), *args[2:])
        if func is Tensor.new_tensor:
            like = {"dtype": args[0].dtype, "device": args[0].device}
            func, kwargs, args = torch.tensor, {**like, **kwargs}, args[1:]
        if func in _OF_DATA and isinstance(args[0], list | tuple):
            args = _mapped(args, lambda leaf: leaf.item() if isinstance(leaf, OnGpu) else leaf)  # as C++ reads them
        if func in _OF_DATA and _is_gpu(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": _CPU}).to(_FOR_CPP)
        place = _FOR_CPP if func is Tensor.to else GPU  # only that of C++ is the one where a tensor may be already
        args = [place if _is_gpu(value) else value for value in args]
        return func(*args, **{name: place if _is_gpu(value) else value for name, value in kwargs.items()})


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What PyTorch computes where no operand is on the GPU yet: what is made or moved may land there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operate(func, args, kwargs or {})


def _operate(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func._schema.name
    if name == "aten::_fused_sdp_choice":
        return 0  # attention written out: those to choose from are the CPU's
    tensors: list[Tensor] = []
    asked: list[torch.device] = []

    def hand_in(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
            return _held(leaf)
        if isinstance(leaf, torch.device):
            asked.append(leaf)
            return _CPU if _is_gpu(leaf) else leaf
        return leaf

    held = _mapped(args, hand_in), _mapped(kwargs, hand_in)
    lands = _lands_on_gpu(func, tensors, asked, args, kwargs)
    given = {id(_held(tensor)): tensor for tensor in tensors}

    def hand_out(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        same = given.get(id(leaf))
        if same is not None and isinstance(same, OnGpu) == lands:  # changed in place, or left as it is
            assert same.shape == leaf.shape, f"{name} changes a wrapper's shape"
            return same
        own = leaf if same is None else leaf.clone()
        return OnGpu(own) if lands else own

    return _mapped(func(*held[0], **held[1]), hand_out)


def _lands_on_gpu(
    func: Any, tensors: Sequence[Tensor], asked: Sequence[torch.device], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Where the result lies; RuntimeError where CUDA refuses the operands."""
    name = func._schema.name
    if name in _LIKE_ANOTHER and len(tensors) == 2:
        return isinstance(tensors[1], OnGpu)
    if name == "aten::copy_":
        return isinstance(args[0], OnGpu)
    lands = _is_gpu(asked[0]) if asked else any(isinstance(tensor, OnGpu) for tensor in tensors)
    if lands and not asked:
        _refuse_strays(func, tensors, args)
    generator = kwargs.get("generator")
    if lands and generator is not None and generator.device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    return lands


def _refuse_strays(func: Any, tensors: Sequence[Tensor], args: Sequence[Any]) -> None:
    name = func._schema.name
    spared = [id(index) for index in args[1]] if name in _INDEXING else []
    if name not in _JOINING:
        written = args[0] if func._schema.is_mutable else None
        spared += [id(tensor) for tensor in tensors if tensor.dim() == 0 and tensor is not written]
    plain = [tensor for tensor in tensors if not isinstance(tensor, OnGpu)]
    assert not any(tensor.is_meta for tensor in plain), (
        f"{name} of what C++ has made, which holds nothing: teach _Calls"
    )
    strays = [tuple(tensor.shape) for tensor in plain if id(tensor) not in spared]
    if strays:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{GPU} and cpu! ({name}: {strays} on the CPU)"
        )


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A structure with each leaf changed: arguments or results of an operation."""
    if isinstance(value, list | tuple):
        return type(value)([_mapped(part, change) for part in value])
    if isinstance(value, dict):
        return {name: _mapped(part, change) for name, part in value.items()}
    return change(value)


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, OnGpu) else tensor


def _is_gpu(value: object) -> bool:
    return isinstance(value, str | torch.device) and str(value) in ("cuda", str(GPU), str(_FOR_CPP))


def _index_of_tensors(index: Any) -> Any:
    """An index in which lists and arrays are tensors: C++ would make them on the device of what is indexed."""
    if isinstance(index, tuple):
        return tuple(_index_of_tensors(part) if not isinstance(part, tuple) else torch.tensor(part) for part in index)
    is_plain = index is None or index is ... or isinstance(index, Tensor | slice | int)
    return index if is_plain else torch.as_tensor(index)
