"""Systems by datasets by seeds, under one sealed protocol: what `medseg benchmark` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.benchmark.runner import Grid, run
    from medseg.benchmark.spec import Spec

_HOMES = {
    "Grid": "medseg.benchmark.runner",
    "Spec": "medseg.benchmark.spec",
    "run": "medseg.benchmark.runner",
}

__all__ = ["Grid", "Spec", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medseg.benchmark' has no attribute {name!r}")
