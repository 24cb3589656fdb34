"""Batch norm over all processes, so that N processes train like one with N times the batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduced gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


class CrossProcessBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose training statistics come from the batches of all processes.

    PyTorch's ``SyncBatchNorm`` refuses CPU tensors; this one takes any, in plain operations.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = (0, *range(2, x.ndim))
        channel = (1, -1, *[1] * (x.ndim - 2))
        count = x.numel() / x.shape[1] * dist.get_world_size()
        mean = _all_sum(x.sum(axes)) / count
        centred = x - mean.view(channel)
        variance = _all_sum(centred.square().sum(axes)) / count
        self._update_running_statistics(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        out = centred * scale.view(channel)
        return out + self.bias.view(channel) if self.affine else out

    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        unbiased = variance * count / max(1.0, count - 1)
        with torch.no_grad():
            # The batch's may be of lower precision.
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)


class CrossProcessBatchNorm2d(CrossProcessBatchNorm, nn.BatchNorm2d):
    """Of images."""


class CrossProcessBatchNorm3d(CrossProcessBatchNorm, nn.BatchNorm3d):
    """Of volumes."""


def _all_sum(x: Tensor) -> Tensor:
    out: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return out


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """``module`` with every batch norm replaced by one over all processes; weights are kept."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = CrossProcessBatchNorm2d
        elif type(child) is nn.BatchNorm3d:
            child.__class__ = CrossProcessBatchNorm3d
        else:
            setattr(module, name, synchronise_batch_norm(child, device))
    return module
