"""One slice of a window of a volume, as an image to be explained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SliceView(nn.Module):
    """A network of volumes, seen as one of the images that a slice of a window can be.

    The other slices of the window stay what they are: what is asked is where in this slice the
    evidence lies, given its neighbours.

    Args:
        network: ``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)``.
        window: ``(C, D, H, W)``.
        index: of the slice.
    """

    window: Tensor

    def __init__(self, network: nn.Module, window: Tensor, index: int) -> None:
        super().__init__()
        self.network = network
        self.index = index
        self.register_buffer("window", window, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` in the slice's place to its logits ``(B, K, H, W)``."""
        before, after = self.window[:, : self.index], self.window[:, self.index + 1 :]
        many = len(image)
        parts = (_repeated(before, many), image[:, :, None], _repeated(after, many))
        logits: Tensor = self.network(torch.cat(parts, dim=2))
        return logits[:, :, self.index]

    def place(self, depth: int) -> int:
        """Where the slice lies in a map of ``depth`` slices of the whole window."""
        return min(depth - 1, int((self.index + 0.5) * depth / self.window.shape[1]))


def _repeated(slices: Tensor, many: int) -> Tensor:
    return slices.expand(many, *slices.shape)
