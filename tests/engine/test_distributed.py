"""Batch norm over all processes, of images and volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.engine import distributed
from medseg.engine.distributed import synchronise_batch_norm


@pytest.fixture
def two_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another process had the same batch."""

    def all_reduce(values: Tensor) -> None:
        values.mul_(2)

    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)


@pytest.mark.usefixtures("two_alike")
@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm2d, (3, 4, 5, 6)), (nn.BatchNorm3d, (2, 4, 3, 5, 6))]
)
def test_two_processes_normalise_like_one_with_both_batches(
    kind: type[nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape) * 3 + 1
    alone = nn.Sequential(kind(4))
    shared = synchronise_batch_norm(nn.Sequential(kind(4)), torch.device("cpu"))
    expected = alone(torch.cat([x, x]))[: len(x)]
    torch.testing.assert_close(shared(x), expected)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)
    alone.eval()
    shared.eval()
    torch.testing.assert_close(shared(x), alone(x))
