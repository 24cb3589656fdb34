from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.samples import sample
from medseg.data.case import IGNORE
from medseg.losses.masked import part_cross_entropy, part_dice, part_dice_of_batch, two_logits

LOSSES = (part_cross_entropy, part_dice, part_dice_of_batch)


def half(*size: int) -> torch.Tensor:
    part = torch.zeros(size)
    part[: size[0] // 2] = 1
    return part


@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 2, 4]))
@settings(max_examples=15, deadline=None)
def test_the_whole_image_gives_the_plain_losses(seed: int, classes: int) -> None:
    logits, mask = sample(seed, classes)
    whole = torch.ones(mask.shape[1:])
    channels = two_logits(logits)
    p = channels.softmax(1)
    t = torch.nn.functional.one_hot(mask.long(), channels.shape[1]).movedim(-1, 1)
    plain = torch.nn.functional.cross_entropy(channels, mask.long())
    assert float(part_cross_entropy(logits, mask, whole)) == pytest.approx(float(plain))
    each = 2 * (p * t).sum((2, 3)) / (p + t).sum((2, 3))
    absent = t.sum((2, 3)) == 0
    each[absent] = 1e-5 / (p.sum((2, 3))[absent] + 1e-5)
    assert float(part_dice(logits, mask, whole)) == pytest.approx(1 - float(each.mean()), abs=1e-5)
    batch = 2 * (p * t).sum((0, 2, 3)) / (p.square() + t).sum((0, 2, 3))
    found = float(part_dice_of_batch(logits, mask, whole))
    assert found == pytest.approx(1 - float(batch.mean()))


@pytest.mark.parametrize("loss", LOSSES)
def test_what_lies_outside_the_part_has_no_influence(loss) -> None:  # type: ignore[no-untyped-def]
    logits, mask = sample(0, 3)
    part = half(*mask.shape[1:])
    before = loss(logits, mask, part)
    outside = part == 0
    logits[..., outside] = 7
    mask[..., outside] = 2
    assert torch.equal(loss(logits, mask, part), before)


@pytest.mark.parametrize("loss", LOSSES)
def test_unknown_pixels_count_as_outside(loss) -> None:  # type: ignore[no-untyped-def]
    logits, mask = sample(1, 3)
    part = half(*mask.shape[1:])
    before = loss(logits, mask, part)
    mask[..., part == 0] = IGNORE
    assert torch.equal(loss(logits, mask, torch.ones_like(part)), before)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_logit_is_two_of_which_the_first_is_zero(loss) -> None:  # type: ignore[no-untyped-def]
    logits, mask = sample(2, 1)
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    part = half(*mask.shape[1:])
    assert torch.equal(loss(logits, mask, part), loss(pair, mask, part))
    assert torch.allclose(pair.softmax(1)[:, 1:], logits.sigmoid())
