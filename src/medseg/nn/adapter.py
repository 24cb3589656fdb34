"""Bottleneck adapters: small layers beside large ones that stay as they are.

Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", arXiv 1902.00751; as Dhakal et
al. 2024 (arXiv 2405.06196) use them in networks of images and words.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Adapter(nn.Module):
    """``x + ReLU(up(ReLU(down(x))))``; ``(..., features) -> (..., features)``.

    The last ReLU makes that it can only add.

    Args:
        features: of what is adapted.
        width: of the bottleneck.

    Raises:
        ValueError: a width below 1.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width} of an adapter must be at least 1")
        self.down = nn.Linear(features, width)
        self.up = nn.Linear(width, features)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.up(self.down(x).relu()).relu()
        return out


def adapt_output(layer: nn.Module, adapter: nn.Module) -> None:
    """From now on ``layer`` gives its output through ``adapter``, which stays a module of its own.

    Where the output is a tuple, as that of attention with its weights, its first item is adapted.
    """
    layer.register_forward_hook(_Through(adapter))


class _Through:
    """A hook that is copied together with the adapter that it leads through, as a function would
    not be."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, layer: nn.Module, given: Any, output: Any) -> Any:
        del layer, given
        if isinstance(output, tuple):
            return (self.adapter(output[0]), *output[1:])
        return self.adapter(output)
