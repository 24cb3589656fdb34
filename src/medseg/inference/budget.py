"""Building a network that somebody else describes, without filling the memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

# A network may replace or tie what it has registered, and has tables that are not stored.
_SLACK = 4
_TENSORS, _NUMBERS, _MODULES = 1_000, 1_000_000, 20_000


@contextmanager
def built_within(tensors: int, numbers: int) -> Iterator[None]:
    """Stop whatever this thread builds inside when it outgrows the weights that are to fill it.

    A tensor is refused when it is registered, which is before it is filled: memory that nothing
    has written to is not taken yet.

    Args:
        tensors: that are stored.
        numbers: in all of them together.

    Raises:
        ValueError: by far more are built.
    """
    thread = threading.get_ident()
    built = {"tensors": 0, "numbers": 0, "modules": 0}
    most = {
        "tensors": _SLACK * tensors + _TENSORS,
        "numbers": _SLACK * numbers + _NUMBERS,
        "modules": _SLACK * tensors + _MODULES,
    }

    def count(what: str, number: int) -> None:
        built[what] += number
        if built[what] > most[what]:
            raise ValueError(f"its options ask for more {what} than its weights have")

    def tensor(module: nn.Module, name: str, found: Tensor | None) -> None:
        del module, name
        if found is not None and threading.get_ident() == thread:
            count("tensors", 1)
            count("numbers", found.numel())

    def submodule(module: nn.Module, name: str, found: nn.Module | None) -> None:
        del module, name, found
        if threading.get_ident() == thread:
            count("modules", 1)

    hooks = [
        register_module_parameter_registration_hook(tensor),
        register_module_buffer_registration_hook(tensor),
        register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
