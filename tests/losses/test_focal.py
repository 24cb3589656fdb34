from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from medseg.data.case import IGNORE
from medseg.losses.focal import focal_loss, squared_dice_loss
from medseg.losses.region import cross_entropy


def case(seed: int = 0, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, 1, 6, 5, generator=random, dtype=torch.float64)
    return logits, torch.randint(0, 2, (batch, 6, 5), generator=random).to(torch.uint8)


def test_without_focus_it_is_the_cross_entropy() -> None:
    logits, mask = case()
    mask[:, 2] = IGNORE
    torch.testing.assert_close(focal_loss(logits, mask, gamma=0), cross_entropy(logits, mask))


@pytest.mark.parametrize("gamma", [1.0, 20.0])
def test_the_focal_loss_has_its_closed_form(gamma: float) -> None:
    logits, mask = case()
    p = logits[:, 0].sigmoid()
    right = torch.where(mask == 1, p, 1 - p)
    wanted = (-((1 - right) ** gamma) * right.log()).mean()
    torch.testing.assert_close(focal_loss(logits, mask, gamma=gamma), wanted)


def test_the_squared_dice_loss_has_its_closed_form() -> None:
    logits, mask = case(batch=2)
    p, t = logits[:, 0].sigmoid(), mask.double()
    wanted = [
        1 - 2 * (a * b).sum() / (a.square().sum() + b.sum()) for a, b in zip(p, t, strict=True)
    ]
    torch.testing.assert_close(squared_dice_loss(logits, mask), torch.stack(wanted).mean())


def test_a_perfect_answer_costs_nothing_and_one_to_nothing_neither() -> None:
    _, mask = case()
    for truth in (mask, torch.zeros_like(mask)):
        perfect = 200.0 * (truth.double().unsqueeze(1) - 0.5)
        assert focal_loss(perfect, truth) < 1e-12
        assert squared_dice_loss(perfect, truth) < 1e-6


@given(seed=st.integers(0, 1000))
def test_what_is_not_known_does_not_count(seed: int) -> None:
    logits, mask = case(seed)
    mask[:, :3] = IGNORE
    other = logits.clone()
    other[:, :, :3] = 7
    for loss in (focal_loss, squared_dice_loss):
        torch.testing.assert_close(loss(logits, mask), loss(other, mask))


@pytest.mark.parametrize("loss", [focal_loss, squared_dice_loss])
def test_a_batch_costs_the_mean_of_its_images(loss: object) -> None:
    assert callable(loss)
    logits, mask = case()
    each = [loss(logits[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(logits, mask), torch.stack(each).mean())


@pytest.mark.parametrize("loss", [focal_loss, squared_dice_loss])
def test_gradients_are_those_of_the_loss(loss: object) -> None:
    assert callable(loss)
    logits, mask = case(batch=1)
    mask[0, 0, 0] = IGNORE
    assert gradcheck(lambda x: loss(x, mask), logits.requires_grad_())


def test_extreme_logits_give_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[[[-1e4, 1e4, -1e4, 1e4]]]], requires_grad=True)
    mask = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    (focal_loss(logits, mask) + squared_dice_loss(logits, mask)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
