"""Random logits and masks for the tests of losses."""

from __future__ import annotations

import torch
from torch import Tensor


def sample(
    seed: int, classes: int, batch: int = 3, *, size: tuple[int, ...] = (5, 7), empty: bool = False
) -> tuple[Tensor, Tensor]:
    """Float64 logits and a mask, without foreground if ``empty``."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, *size, generator=random, dtype=torch.float64)
    mask = torch.randint(0, max(2, classes), (batch, *size), generator=random).to(torch.uint8)
    return logits, mask * (not empty)
