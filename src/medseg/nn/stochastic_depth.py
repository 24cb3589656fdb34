"""Stochastic depth: Huang, Sun, Liu, Sedra, Weinberger (2016), arXiv 1603.09382."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """While training, set whole images of a batch to zero and scale up the others.

    Args:
        probability: of being set to zero, at least 0 and below 1. Expected values are kept.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        images = (x.shape[0], *(1 for _ in x.shape[1:]))
        kept = torch.rand(images, device=x.device) >= self.probability
        return x * kept / (1 - self.probability)
