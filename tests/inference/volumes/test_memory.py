from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.errors import MedsegError
from medseg.inference.limit import parse_ram, show_ram
from medseg.inference.volumes.memory import Need, choose_boxes, forward_bytes
from medseg.inference.volumes.sliding import Windows
from medseg.inference.volumes.streaming import Regrid

WINDOWS = Windows((16, 64, 48), (8, 16, 16), 0.5)
REGRID = Regrid((16, 64, 48), (16, 96, 48))


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GB", 2 * 10**9), ("1.5 gib", 3 * 2**29), ("800MB", 8 * 10**8), ("3kb", 3000)],
)
def test_amounts_of_memory_are_read(text: str, count: int) -> None:
    assert parse_ram(text) == count


@pytest.mark.parametrize("text", ["", "2", "GB", "two GB", "-1GB", "1,5GB", "2GBs", "nan GB"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(MedsegError, match="no amount of memory"):
        parse_ram(text)


@pytest.mark.parametrize("count", [1, 10**6, 10**6 + 1, 2_999_999_999, 10**13])
def test_an_amount_that_is_shown_can_be_given(count: int) -> None:
    assert count <= parse_ram(show_ram(count)) < count + 10**6


def test_all_there_is_takes_whole_slices() -> None:
    (box,), size = choose_boxes(WINDOWS, REGRID, 3, None)
    assert (box.rows, box.columns) == ((0, 96), (0, 48))
    sums = 4 * 3 * 8 * 64 * 48
    assert sums < size < 4 * sums


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1))
def test_parts_fit_their_room_and_cover_every_voxel_once(share: float) -> None:
    _, most = choose_boxes(WINDOWS, REGRID, 3, None)
    _, least = choose_boxes(WINDOWS, REGRID, 3, 0)
    room = round(least + share * (most - least))
    boxes, size = choose_boxes(WINDOWS, REGRID, 3, room)
    assert size <= room
    covered = np.zeros((96, 48), int)
    for box in boxes:
        covered[slice(*box.rows), slice(*box.columns)] += 1
    assert (covered == 1).all()


def test_the_smallest_parts_cost_few_windows_more() -> None:
    boxes, _ = choose_boxes(WINDOWS, REGRID, 3, 0)
    count = sum(WINDOWS.count(REGRID.reach(box)) for box in boxes)
    assert len(boxes) > 10
    assert count <= 9 * WINDOWS.count(WINDOWS.whole)


def test_the_bytes_of_a_forward_pass_are_those_of_its_tensors() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 2, 1))
    voxels = 8 * 9 * 10
    # The input may be dropped by nobody, the hidden layer only after the logits are there.
    assert forward_bytes(network, (1, 1, 8, 9, 10), torch.float32) == 4 * voxels * (1 + 4 + 2)
    assert forward_bytes(network, (1, 1, 8, 9, 10), torch.bfloat16) == 2 * voxels * (1 + 4 + 2)
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_the_room_for_logits_is_what_the_limit_leaves() -> None:
    need = Need(program=300_000_000, reading=0, volume=50_000_000, window=40_000_000, writing=0)
    room = need.room(10**9)
    assert need.peak(room) == pytest.approx(10**9, abs=2)
    assert need.peak(room + 1000) > 10**9
