from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from medseg.inference.budget import built_within


def test_a_network_like_its_weights_can_be_built() -> None:
    with built_within(2, 12):
        assert nn.Linear(3, 3).weight.shape == (3, 3)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_far_more_numbers_than_the_weights_have_are_refused(device: str) -> None:
    with pytest.raises(ValueError, match="more numbers"), built_within(2, 12):
        nn.Linear(10_000, 10_000, device=device)


def test_far_more_tensors_than_the_weights_have_are_refused() -> None:
    with pytest.raises(ValueError, match="more tensors"), built_within(2, 12):
        nn.Sequential(*(nn.BatchNorm2d(1) for _ in range(1_000)))


def test_far_more_modules_than_the_weights_have_are_refused() -> None:
    with pytest.raises(ValueError, match="more modules"), built_within(2, 12):
        nn.Sequential(*(nn.Identity() for _ in range(20_100)))


def test_tables_that_are_not_stored_count() -> None:
    holder = nn.Module()
    with pytest.raises(ValueError, match="more numbers"), built_within(2, 12):
        holder.register_buffer("table", torch.empty(10_000_000, device="meta"), persistent=False)


def test_nothing_is_counted_afterwards_nor_in_other_threads() -> None:
    built: list[nn.Module] = []
    with built_within(2, 12):
        thread = threading.Thread(target=lambda: built.append(nn.Linear(2000, 2000)))
        thread.start()
        thread.join()
    built.append(nn.Linear(2000, 2000))
    assert len(built) == 2
