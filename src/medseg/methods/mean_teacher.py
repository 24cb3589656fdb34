"""What methods with a mean teacher share (Tarvainen, Valpola 2017, arXiv 1703.01780)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


def teacher_of(network: nn.Module) -> nn.Module:
    """A copy of ``network`` that is not trained, but follows it."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """``decay * teacher + (1 - decay) * student``, of weights and buffers.

    Buffers that count are copied.
    """
    for ours, theirs in zip(_tensors(teacher), _tensors(student), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)


def _tensors(module: nn.Module) -> list[Tensor]:
    """Weights and buffers, a tied one once."""
    return [*module.parameters(), *module.buffers()]


def sigmoid_ramp_up(step: float, steps: float) -> float:
    """``exp(-5 (1 - step / steps)^2)``, and 1 from ``steps`` on (Laine, Aila 2017, arXiv
    1610.02242)."""
    if step >= steps:
        return 1.0
    return math.exp(-5 * (1 - max(0.0, step) / steps) ** 2)
