from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from losses.samples import sample
from medseg.data.case import IGNORE
from medseg.data.groups import UNKNOWN
from medseg.losses.fair import fair_error_bound_loss, group_error_loss
from medseg.losses.masked import two_logits

BEST = math.tanh(1)


def waves(*shape: int) -> Tensor:
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (3 * torch.sin(0.7 * steps + 1)).reshape(shape).float()


def classes(count: int, *shape: int) -> Tensor:
    numbers = torch.arange(math.prod(shape)) * 7 % 11 % count
    return numbers.reshape(shape).to(torch.uint8)


def dice_of(p: Tensor, mask: Tensor) -> Tensor:
    """The mean over classes, with sums over the batch."""
    t = torch.nn.functional.one_hot(mask.long(), p.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = (0, *range(2, p.ndim))
    overlap, total = (p * t).sum(axes), (p.square() + t).sum(axes)
    return (1 - (2 * overlap + 1e-5) / (total + 1e-5)).mean()


# Computed with febs_loss of github.com/Harvard-Ophthalmology-AI-Lab/FairSeg, TransUNet/utils.py.
@pytest.mark.parametrize(
    ("group", "gamma", "loss"),
    [
        ([0, 1, 0, 1], 1.0, 0.584606650),
        ([0, 1, 0, 1], 2.0, 0.585105358),
        ([0, 1, 1, 2], 1.0, 0.585573497),
        ([0, 1, 1, 2], 2.0, 0.587060552),
    ],
)
def test_with_every_group_in_the_batch_the_loss_is_the_official_one(
    group: list[int], gamma: float, loss: float
) -> None:
    logits, mask = waves(4, 3, 12, 9), classes(3, 4, 12, 9)
    found = fair_error_bound_loss(logits, mask, torch.tensor(group), gamma=gamma)
    assert float(found) == pytest.approx(loss, abs=1e-7)
    groups = max(group) + 1
    released = fair_error_bound_loss(
        logits, mask, torch.tensor(group), gamma=gamma, released=groups
    )
    assert float(released) == pytest.approx(loss, abs=1e-7)


def test_one_logit_gives_the_official_loss_of_two_channels() -> None:
    found = fair_error_bound_loss(
        waves(4, 1, 12, 9), classes(2, 4, 12, 9), torch.tensor([0, 1, 1, 0])
    )
    assert float(found) == pytest.approx(0.469108569, abs=1e-6)


def test_as_released_a_group_that_is_absent_stops_all_learning() -> None:
    logits = waves(4, 3, 12, 9).requires_grad_()
    group = torch.tensor([0, 1, 0, 1])
    loss = fair_error_bound_loss(logits, classes(3, 4, 12, 9), group, released=3)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.999999929, abs=1e-7)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_group_that_is_absent_changes_nothing() -> None:
    logits, mask = waves(4, 3, 12, 9), classes(3, 4, 12, 9)
    found = fair_error_bound_loss(logits, mask, torch.tensor([0, 2, 0, 2]))
    assert torch.equal(found, fair_error_bound_loss(logits, mask, torch.tensor([0, 1, 0, 1])))


# Likewise; an unknown group stands in the table's last place unless the last group does.
@pytest.mark.parametrize(
    ("group", "gamma", "loss"),
    [
        ([0, -1, 0, 1], 1.0, 0.584786868),
        ([-1, 0, 0, -1], 1.0, 0.585261100),
        ([-1, 0, 0, -1], 2.0, 0.586428944),
    ],
)
def test_as_released_an_unknown_group_gets_the_weight_of_the_last_one(
    group: list[int], gamma: float, loss: float
) -> None:
    found = fair_error_bound_loss(
        waves(4, 3, 12, 9), classes(3, 4, 12, 9), torch.tensor(group), gamma=gamma, released=2
    )
    assert float(found) == pytest.approx(loss, abs=2e-7)


@given(seed=st.integers(0, 1000), count=st.sampled_from([1, 2, 4]), gamma=st.floats(0, 3))
@settings(max_examples=15, deadline=None)
def test_one_group_gives_the_dice_loss_of_probabilities_times_the_best_weight(
    seed: int, count: int, gamma: float
) -> None:
    logits, mask = sample(seed, count)
    found = fair_error_bound_loss(logits, mask, torch.tensor([3, 3, 3]), gamma=gamma)
    plain = dice_of(BEST * two_logits(logits).softmax(1), mask)
    assert float(found) == pytest.approx(float(plain), abs=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_samples_of_unknown_group_get_the_best_weight_and_have_no_say(seed: int) -> None:
    logits, mask = sample(seed, 3)
    found = fair_error_bound_loss(logits, mask, torch.full((3,), UNKNOWN))
    assert float(found) == pytest.approx(float(dice_of(BEST * logits.softmax(1), mask)))
    # The first sample is almost right, and would be the best group if it were one.
    logits[0] = 20 * torch.nn.functional.one_hot(mask[0].long(), 3).movedim(-1, 0)
    mixed = fair_error_bound_loss(logits, mask, torch.tensor([UNKNOWN, 0, 0]))
    assert float(mixed) == pytest.approx(float(dice_of(BEST * logits.softmax(1), mask)))


@given(seed=st.integers(0, 1000), gamma=st.floats(0.1, 3))
@settings(max_examples=15, deadline=None)
def test_the_weight_is_tanh_of_the_least_loss_over_the_groups_own(seed: int, gamma: float) -> None:
    logits, mask = sample(seed, 3, batch=4)
    group = torch.tensor([0, 0, 1, 1])
    p = logits.softmax(1)
    losses = torch.stack([3 * dice_of(p[group == g], mask[group == g]) for g in (0, 1)])
    weight = torch.tanh((losses.min() / losses) ** gamma)
    assert float(weight.max()) == pytest.approx(BEST)
    assert weight.argmin() == losses.argmax()
    found = fair_error_bound_loss(logits, mask, group, gamma=gamma)
    assert float(found) == pytest.approx(float(dice_of(weight[group, None, None, None] * p, mask)))


def test_without_scaling_groups_do_not_matter() -> None:
    logits, mask = sample(0, 3)
    found = {
        float(fair_error_bound_loss(logits, mask, torch.tensor(group), gamma=0.0))
        for group in ([0, 0, 0], [0, 1, 2], [UNKNOWN, 0, 1])
    }
    assert len(found) == 1


def test_no_gradient_goes_through_the_weights() -> None:
    logits, mask = sample(0, 3)
    logits.requires_grad_()
    group = torch.tensor([0, 1, 1])
    (found,) = torch.autograd.grad(fair_error_bound_loss(logits, mask, group), logits)
    with torch.no_grad():
        p = logits.softmax(1)
        losses = torch.stack([dice_of(p[group == g], mask[group == g]) for g in (0, 1)])
        weight = torch.tanh(losses.min() / losses)[group, None, None, None]
    (fixed,) = torch.autograd.grad(dice_of(weight * logits.softmax(1), mask), logits)
    assert torch.allclose(found, fixed, atol=1e-12)


def test_groups_that_are_segmented_perfectly_are_alike() -> None:
    _, mask = sample(0, 3)
    perfect = 1e4 * torch.nn.functional.one_hot(mask.long(), 3).movedim(-1, 1).double()
    found = fair_error_bound_loss(perfect, mask, torch.tensor([0, 1, 2]))
    assert float(found) == pytest.approx(1 - 2 * BEST / (BEST**2 + 1), abs=1e-6)


def test_unknown_pixels_have_no_influence() -> None:
    logits, mask = sample(0, 3)
    mask[:, :2] = IGNORE
    group = torch.tensor([0, 1, 1])
    before = fair_error_bound_loss(logits, mask, group)
    logits[:, :, :2] = 9
    assert torch.equal(fair_error_bound_loss(logits, mask, group), before)


def test_a_volume_counts_like_an_image_of_the_same_pixels() -> None:
    logits, mask = sample(0, 3, size=(4, 6, 5))
    group = torch.tensor([0, 1, 1])
    flat = fair_error_bound_loss(logits.flatten(3), mask.flatten(2), group)
    assert float(fair_error_bound_loss(logits, mask, group)) == pytest.approx(float(flat))


@given(seed=st.integers(0, 1000), gamma=st.floats(0.1, 3))
@settings(max_examples=15, deadline=None)
def test_the_mean_of_the_groups_losses_weighs_the_largest_most(seed: int, gamma: float) -> None:
    logits, mask = sample(seed, 3, batch=4)
    group = torch.tensor([0, 1, 1, 1])
    p = logits.softmax(1)
    losses = torch.stack([dice_of(p[group == g], mask[group == g]) for g in (0, 1)])
    weight = torch.tanh((losses / losses.max()) ** gamma)
    assert weight.argmax() == losses.argmax()
    found = group_error_loss(logits, mask, group, gamma=gamma)
    assert float(found) == pytest.approx(float((weight * losses).sum() / weight.sum()))


def test_without_scaling_each_group_counts_once_whatever_its_size() -> None:
    logits, mask = sample(0, 3, batch=4)
    p = logits.softmax(1)
    halves = dice_of(p[:1], mask[:1]) + dice_of(p[1:], mask[1:])
    found = group_error_loss(logits, mask, torch.tensor([0, 1, 1, 1]), gamma=0.0)
    assert float(found) == pytest.approx(float(halves) / 2)


@pytest.mark.parametrize("known", [0, UNKNOWN])
def test_the_mean_over_one_group_is_its_dice_loss(known: int) -> None:
    logits, mask = sample(0, 1)
    found = group_error_loss(logits, mask, torch.full((3,), known))
    assert float(found) == pytest.approx(float(dice_of(two_logits(logits).softmax(1), mask)))


def test_the_two_ways_of_scaling_pull_the_worst_group_in_opposite_directions() -> None:
    _, mask = sample(0, 3, batch=4)
    group = torch.tensor([0, 0, 1, 1])
    truth = torch.nn.functional.one_hot(mask.long(), 3).movedim(-1, 1).double()
    # The second group is further from the truth.
    logits = truth * torch.tensor([2.0, 2.0, 0.5, 0.5]).view(4, 1, 1, 1)

    def share(loss: object, gamma: float) -> float:
        """Of the gradient, that of the worst group's images."""
        image = logits.clone().requires_grad_()
        assert callable(loss)
        (pull,) = torch.autograd.grad(loss(image, mask, group, gamma=gamma), image)
        each = pull.abs().sum((1, 2, 3))
        return float(each[2:].sum() / each.sum())

    assert share(fair_error_bound_loss, 3.0) < share(fair_error_bound_loss, 0.0)
    assert share(group_error_loss, 3.0) > share(group_error_loss, 0.0)


@pytest.mark.parametrize("loss", [fair_error_bound_loss, group_error_loss])
def test_autocast_does_not_reach_the_sums(loss) -> None:  # type: ignore[no-untyped-def]
    logits, mask = waves(4, 3, 12, 9), classes(3, 4, 12, 9)
    group = torch.tensor([0, 1, 0, 1])
    plain = loss(logits, mask, group)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, mask, group), plain)
