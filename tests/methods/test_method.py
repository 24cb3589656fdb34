from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg.losses.region import cross_entropy, dice_loss
from medseg.methods.method import Batch, warmup_cosine
from medseg.methods.supervised import Supervised
from medseg.recipe import OptimizerSettings, Recipe, parse_recipe

SETTINGS = OptimizerSettings(learning_rate=1e-2, final_learning_rate=1e-4, warmup=0.1)


def make_batch(batch: int = 4) -> Batch:
    random = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(batch, 3, 8, 8, generator=random),
        "mask": torch.randint(0, 2, (batch, 8, 8), generator=random).to(torch.uint8),
        "case_id": tuple(map(str, range(batch))),
    }


def make_method(**loss: float) -> Supervised:
    return Supervised(nn.Conv2d(3, 1, 3, padding=1), parse_recipe({"loss": loss}))


def test_the_rate_rises_linearly_to_its_peak_at_the_end_of_the_warm_up() -> None:
    rates = [warmup_cosine(SETTINGS, step, 200) for step in range(20)]
    assert rates == pytest.approx([1e-2 * (step + 1) / 20 for step in range(20)])


def test_the_last_step_has_the_final_rate() -> None:
    assert warmup_cosine(SETTINGS, 199, 200) == pytest.approx(1e-4)


def test_half_way_down_the_rate_is_the_mean_of_peak_and_final() -> None:
    assert warmup_cosine(SETTINGS, 19 + 90, 200) == pytest.approx((1e-2 + 1e-4) / 2)


@given(
    steps=st.integers(1, 500),
    warmup=st.floats(0, 0.9),
    peak=st.floats(1e-5, 1),
    share=st.floats(0, 1),
)
def test_the_rate_rises_then_falls_and_stays_between_zero_and_the_peak(
    steps: int, warmup: float, peak: float, share: float
) -> None:
    settings = OptimizerSettings(
        learning_rate=peak, final_learning_rate=share * peak, warmup=warmup
    )
    rates = [warmup_cosine(settings, step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    # A tiny share of the peak may round to a final rate of exactly zero.
    lowest = min(rates)
    assert lowest > 0 or (settings.final_learning_rate == 0 and lowest == 0)
    assert max(rates) <= peak * (1 + 1e-9)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert abs(top - math.floor(warmup * steps)) <= 1


def test_biases_and_norms_are_not_decayed() -> None:
    method = Supervised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), Recipe())
    decayed, plain = method.make_optimizer().param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert [p.shape for p in plain["params"]] == [(4,), (4,), (4,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (1e-2, 0)


def test_the_losses_are_weighted_as_the_recipe_says() -> None:
    method, batch = make_method(cross_entropy=0.5, dice=2.0), make_batch()
    logits = method.network(batch["image"])
    losses = method.training_step(batch)
    torch.testing.assert_close(losses["cross_entropy"], 0.5 * cross_entropy(logits, batch["mask"]))
    torch.testing.assert_close(losses["dice"], 2 * dice_loss(logits, batch["mask"]))


def test_a_loss_of_weight_zero_is_left_out() -> None:
    assert make_method(dice=0).training_step(make_batch()).keys() == {"cross_entropy"}


def test_gradients_of_two_halves_average_to_those_of_the_batch() -> None:
    method, batch = make_method(), make_batch(4)

    def gradient(part: slice) -> torch.Tensor:
        method.zero_grad()
        piece: Batch = {
            "image": batch["image"][part],
            "mask": batch["mask"][part],
            "case_id": batch["case_id"][part],
        }
        torch.stack(list(method(piece).values())).sum().backward()
        grads = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        return torch.cat(grads)

    halves = (gradient(slice(0, 2)) + gradient(slice(2, 4))) / 2
    torch.testing.assert_close(gradient(slice(0, 4)), halves)
