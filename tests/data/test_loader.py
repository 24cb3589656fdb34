from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.data.cache import CaseCache, PackedMasks
from medseg.data.loader import (
    CachedBatch,
    epoch_order,
    ordered_batches,
    training_batches,
    two_stream_batches,
)


def pack(masks: NDArray[np.uint8]) -> PackedMasks:
    streams = [zlib.compress(mask.tobytes()) for mask in masks]
    data = np.frombuffer(b"".join(streams), np.uint8)
    return PackedMasks(data, np.cumsum([0, *map(len, streams)]), size=masks.shape[1])


def make_cache(count: int) -> CaseCache:
    """Images and masks whose every pixel is the number of their case."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    return CaseCache(
        folder=Path(),
        ids=tuple(f"case{i}" for i in range(count)),
        images=np.broadcast_to(images, (count, 4, 4, 3)),
        masks=pack(np.broadcast_to(images[..., 0], (count, 4, 4))),
        sums=np.zeros((count, 3, 2), np.int64),
        reused=False,
    )


def numbers(batch: CachedBatch) -> list[int]:
    return batch.mask[:, 0, 0].tolist()


@given(count=st.integers(1, 60), batch_size=st.integers(1, 12), data=st.data())
def test_an_epoch_shows_each_case_at_most_once_and_drops_only_the_last_batch(
    count: int, batch_size: int, data: st.DataObject
) -> None:
    rows = np.array(data.draw(st.permutations(range(count))))[: data.draw(st.integers(1, count))]
    batches = list(
        training_batches(make_cache(count), rows, batch_size=batch_size, seed=0, epoch=0)
    )
    seen = [n for batch in batches for n in numbers(batch)]
    assert len(set(seen)) == len(seen) == len(rows) // batch_size * batch_size
    assert set(seen) <= set(rows.tolist())


def test_a_batchs_image_mask_and_names_belong_together() -> None:
    for batch in training_batches(make_cache(9), np.arange(9), batch_size=3, seed=1, epoch=2):
        assert batch.image.shape == (3, 3, 4, 4)
        assert batch.image[:, 0, 0, 0].tolist() == numbers(batch)
        assert batch.case_id == tuple(f"case{n}" for n in numbers(batch))
        assert batch.image.dtype == batch.mask.dtype == torch.uint8


@given(
    count=st.integers(8, 40),
    batch_size=st.sampled_from([4, 8]),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_any_number_of_processes_sees_the_same_cases_in_each_step(
    count: int, batch_size: int, seed: int, epoch: int
) -> None:
    def steps(processes: int) -> list[list[tuple[int, int]]]:
        parts = [
            training_batches(
                make_cache(count), np.arange(count), batch_size=batch_size, seed=seed,
                epoch=epoch, rank=rank, processes=processes,
            )
            for rank in range(processes)
        ]  # fmt: skip
        return [
            [pair for batch in step for pair in zip(batch.position, numbers(batch), strict=True)]
            for step in zip(*parts, strict=True)
        ]

    assert steps(1) == steps(2) == steps(4)


@given(first=st.integers(0, 12), epoch=st.integers(0, 5))
def test_an_epoch_begun_in_the_middle_goes_on_with_the_same_batches(first: int, epoch: int) -> None:
    def batches(first_step: int) -> list[tuple[tuple[int, ...], list[int]]]:
        found = training_batches(
            make_cache(30), np.arange(30), batch_size=3, seed=7, epoch=epoch, first_step=first_step
        )
        return [(batch.position, numbers(batch)) for batch in found]

    assert batches(first) == batches(0)[first:]


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6), count=st.integers(0, 50))
def test_an_order_is_a_permutation_that_depends_on_seed_and_epoch_alone(
    seed: int, epoch: int, count: int
) -> None:
    order = epoch_order(seed, epoch, count)
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, epoch_order(seed, epoch, count))


def test_orders_of_different_seeds_and_epochs_differ() -> None:
    orders = {tuple(epoch_order(seed, epoch, 20)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


@given(count=st.integers(1, 20), batch_size=st.integers(1, 9))
def test_ordered_batches_give_every_case_once_in_order(count: int, batch_size: int) -> None:
    rows = np.arange(count)[::-1]
    batches = list(ordered_batches(make_cache(count), rows, batch_size=batch_size))
    assert [n for batch in batches for n in numbers(batch)] == rows.tolist()
    assert all(len(numbers(batch)) == batch_size for batch in batches[:-1])


def test_cases_read_the_same_after_their_pages_were_given_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    packed = pack(pixels[..., 0])
    packed.data.tofile(tmp_path / "masks.bin")
    cache = CaseCache(
        folder=tmp_path,
        ids=tuple("abcde"),
        images=np.load(tmp_path / "images.npy", mmap_mode="r"),
        masks=replace(packed, data=np.memmap(tmp_path / "masks.bin", np.uint8, "r")),
        sums=np.zeros((5, 3, 2), np.int64),
        reused=True,
    )
    for _ in range(2):
        batch = next(ordered_batches(cache, np.arange(5), batch_size=5))
        assert np.array_equal(batch.image.permute(0, 2, 3, 1).numpy(), pixels)
        assert np.array_equal(batch.mask.numpy(), pixels[..., 0])
        cache.release()


def streams(cache: CaseCache, epoch: int = 0, **options: Any) -> list[CachedBatch]:
    given = {"batch_size": 4, "seed": 3, **options}
    known, others = np.arange(5), np.arange(5, 8)
    return list(two_stream_batches(cache, known, others, epoch=epoch, **given))


def test_half_of_a_two_stream_batch_is_labelled() -> None:
    cache = make_cache(8)
    batches = streams(cache)
    assert len(batches) == 2
    labelled, unlabelled = set(cache.ids[:5]), set(cache.ids[5:8])
    for batch in batches:
        assert set(batch.case_id[:2]) <= labelled
        assert set(batch.case_id[2:]) <= unlabelled


def test_an_epoch_shows_no_labelled_case_twice_and_keys_differ() -> None:
    cache = make_cache(8)
    batches = streams(cache)
    seen = [case for batch in batches for case in batch.case_id[:2]]
    assert len(set(seen)) == len(seen) == 4
    keys = [position for batch in batches for position in batch.position]
    assert len(set(keys)) == len(keys)


def test_unlabelled_cases_follow_each_other_through_the_epochs() -> None:
    cache = make_cache(8)
    seen = [case for e in range(3) for batch in streams(cache, e) for case in batch.case_id[2:]]
    for turn in range(4):
        assert set(seen[3 * turn : 3 * turn + 3]) == set(cache.ids[5:8])


def test_two_streams_go_on_where_they_stopped() -> None:
    cache = make_cache(8)
    assert streams(cache, first_step=1)[0].case_id == streams(cache)[1].case_id


def test_processes_share_a_two_stream_batch() -> None:
    cache = make_cache(8)
    for step, whole in enumerate(streams(cache)):
        shares = [streams(cache, rank=rank, processes=2)[step] for rank in (0, 1)]
        first, second = (share.case_id for share in shares)
        assert whole.case_id == (first[0], second[0], first[1], second[1])
        assert {p for share in shares for p in share.position} == set(whole.position)
