from __future__ import annotations

import torch

from medseg.nn.stochastic_depth import StochasticDepth


def test_images_are_dropped_whole_as_often_as_asked_and_others_scaled_up() -> None:
    torch.manual_seed(0)
    x = torch.rand(4000, 2, 3, 1) + 1
    ratio = (StochasticDepth(0.2)(x) / x).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    dropped = ratio[:, 0] == 0
    assert abs(dropped.float().mean().item() - 0.2) < 0.03
    torch.testing.assert_close(ratio[~dropped], torch.full_like(ratio[~dropped], 1.25))


def test_nothing_is_dropped_in_evaluation_or_at_probability_0() -> None:
    x = torch.rand(64, 2)
    assert StochasticDepth(0.9).eval()(x) is x
    assert StochasticDepth(0.0)(x) is x
