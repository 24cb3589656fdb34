from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.test_loader import pack
from medseg.data.cache import CaseCache
from medseg.data.case import IGNORE
from medseg.data.groups import Grouping
from medseg.engine.feed import ImageFeed
from medseg.methods.method import Batch
from medseg.recipe import Recipe, parse_recipe

RECIPE = parse_recipe({"data": {"image_size": 16}, "train": {"batch_size": 4}, "seed": 7})
PLAIN = parse_recipe({**RECIPE.model_dump(), "augment": {"enabled": False}})


def make_feed(
    recipe: Recipe = RECIPE, *, few_labels: bool = False, rank: int = 0, processes: int = 1
) -> ImageFeed:
    """Twelve cases: eight to train on, of which four may be unlabelled, four to validate."""
    random = np.random.default_rng(0)
    masks = random.integers(0, 2, (12, 16, 16)).astype(np.uint8)
    images = random.integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    images[..., 0] = 200 * masks
    cache = CaseCache(
        folder=Path("key"),
        ids=tuple(f"case{i}" for i in range(12)),
        images=images,
        masks=pack(masks),
        sums=np.zeros((12, 3, 2), np.int64),
        reused=False,
    )
    return ImageFeed(
        recipe,
        cache,
        train=np.arange(4 if few_labels else 8),
        val=np.arange(8, 12),
        unlabelled=np.arange(4, 8) if few_labels else None,
        normalisation=((0.5,) * 3, (0.25,) * 3),
        device=torch.device("cpu"),
        rank=rank,
        processes=processes,
    )


def same(ours: Batch, theirs: Batch) -> bool:
    return (
        torch.equal(ours["image"], theirs["image"])
        and torch.equal(ours["mask"], theirs["mask"])
        and ours["case_id"] == theirs["case_id"]
    )


@pytest.mark.parametrize("few_labels", [False, True])
def test_what_a_step_gives_does_not_depend_on_where_the_epoch_began(few_labels: bool) -> None:
    feed = make_feed(few_labels=few_labels)
    assert feed.steps_per_epoch == 2
    _, second = feed.training(3, 0)
    (again,) = feed.training(3, 1)
    assert same(second, again)


@pytest.mark.parametrize("few_labels", [False, True])
def test_processes_together_see_what_one_sees(few_labels: bool) -> None:
    whole = next(make_feed(few_labels=few_labels).training(1, 0))
    shares = [
        next(make_feed(few_labels=few_labels, rank=rank, processes=2).training(1, 0))
        for rank in (0, 1)
    ]
    for name, image, mask in zip(whole["case_id"], whole["image"], whole["mask"], strict=True):
        share = next(share for share in shares if name in share["case_id"])
        place = list(share["case_id"]).index(name)
        assert torch.equal(share["image"][place], image)
        assert torch.equal(share["mask"][place], mask)


def test_masks_of_unlabelled_cases_do_not_leave_the_cache() -> None:
    for batch in make_feed(PLAIN, few_labels=True).training(0, 0):
        assert batch["labelled"].tolist() == [True, True, False, False]
        assert bool((batch["mask"][2:] == IGNORE).all())
        assert bool((batch["mask"][:2] != IGNORE).all())


def test_batches_are_normalised_and_say_nothing_more_than_needed() -> None:
    batch = next(make_feed(PLAIN).training(0, 0))
    assert not {"labelled", "group", "scribble", "prompts", "text"} & batch.keys()
    expected = (200 / 255 * batch["mask"] - 0.5) / 0.25
    assert torch.allclose(batch["image"][:, 0], expected.float())


class Reading(nn.Module):
    """Reads the mask from the red channel; of a share of the images it says nothing."""

    def __init__(self, silent: int = 0) -> None:
        super().__init__()
        self.silent = silent

    def forward(self, image: Tensor) -> Tensor:
        logits = image[:, :1].clone()
        logits[: self.silent] = -1
        return logits


@pytest.mark.parametrize(("silent", "dice"), [(0, 4.0), (1, 3.0), (4, 0.0)])
def test_validation_sums_the_dice_of_the_cases(silent: int, dice: float) -> None:
    assert make_feed().validate(Reading(silent), nullcontext) == (dice, 4)


def test_processes_share_the_validation() -> None:
    shares = [
        make_feed(rank=rank, processes=3).validate(Reading(), nullcontext) for rank in range(3)
    ]
    assert [cases for _, cases in shares] == [2, 1, 1]


def grouped_feed(**options: int) -> ImageFeed:
    feed = make_feed(PLAIN, **options)  # type: ignore[arg-type]
    numbers = {f"case{i}": i % 2 for i in range(12) if i not in (3, 11)}
    feed.grouping = Grouping("sex", ("f", "m"), numbers)
    return feed


def test_batches_say_each_cases_group_or_that_it_is_unknown() -> None:
    for batch in grouped_feed().training(0, 0):
        expected = [-1 if case == "case3" else int(case[4:]) % 2 for case in batch["case_id"]]
        assert batch["group"].tolist() == expected


def test_validation_sums_the_dice_of_each_group_beside_that_of_all() -> None:
    # Of case 8 nothing is said; case 11 is of unknown group.
    assert grouped_feed().validate(Reading(1), nullcontext) == (3.0, 4, 1.0, 2, 1.0, 1)


def test_processes_share_the_groups() -> None:
    shares = [
        grouped_feed(rank=rank, processes=3).validate(Reading(1), nullcontext) for rank in range(3)
    ]
    assert [sum(column) for column in zip(*shares, strict=True)][1::2] == [4, 2, 1]
