"""From logits to classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def predicted_classes(logits: Tensor, threshold: float) -> Tensor:
    """``(B, K, H, W)`` logits to ``(B, H, W)`` uint8 class indices.

    One logit channel is foreground where its probability reaches ``threshold``; the comparison
    is made on logits, which spares the sigmoid and its rounding. Several channels take the
    largest.
    """
    if logits.shape[1] == 1:
        return (logits[:, 0] >= math.log(threshold / (1 - threshold))).to(torch.uint8)
    return logits.argmax(dim=1).to(torch.uint8)
