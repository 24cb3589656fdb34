from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.r2unet import R2UNet, RecurrentConv, RecurrentUnit
from medseg.nn.blocks import count_parameters

from .checks import fill_with_waves, golden, on_meta

TINY: dict[str, Any] = {"widths": (4, 6, 8)}


@pytest.mark.parametrize(("steps", "gigamacs"), [(2, 152.49), (3, 195.98)])
def test_steps_cost_arithmetic_and_no_parameters(steps: int, gigamacs: float) -> None:
    net = on_meta(R2UNet, steps=steps)
    assert count_parameters(net) == 39_091_393
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.01)


def test_channels_and_classes_change_only_the_first_layer_and_the_head() -> None:
    assert count_parameters(on_meta(R2UNet, 1, 1)) == 39_091_265
    assert count_parameters(on_meta(R2UNet, 3, 4)) == 39_091_393 + 3 * 65


def test_a_kernel_for_the_state_alone_doubles_what_is_recurrent() -> None:
    recurrent = 2 * sum(9 * w * w for w in (64, 128, 256, 512, 1024, 512, 256, 128, 64))
    assert count_parameters(on_meta(R2UNet, shared=False)) == 39_091_393 + recurrent


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_without_steps_it_is_an_ordinary_convolution(shared: bool) -> None:
    conv = RecurrentConv(4, 0, shared=shared).eval()
    x = torch.randn(2, 4, 7, 9)
    assert torch.equal(conv(x), torch.relu(conv.norm(conv.forth(x))))


@torch.no_grad()
def test_the_loop_is_the_graph_written_out() -> None:
    conv = fill_with_waves(RecurrentConv(4, 2, shared=True))

    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(conv.norm(conv.forth(x)))

    x = torch.randn(2, 4, 7, 9)
    assert torch.equal(conv(x), run(x + run(x + run(x))))


@torch.no_grad()
def test_a_state_that_is_not_looked_at_leaves_an_ordinary_residual_unit() -> None:
    unit = fill_with_waves(RecurrentUnit(3, 4, steps=2, residual=True, shared=False))
    for conv in unit.body:
        nn.init.zeros_(conv.back.weight)
    x = torch.randn(2, 3, 7, 9)
    inner = unit.project(x)
    out = inner
    for conv in unit.body:
        out = torch.relu(conv.norm(conv.forth(out)))
    torch.testing.assert_close(unit(x), inner + out)


@torch.no_grad()
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_each_step_sees_one_pixel_further(steps: int) -> None:
    conv = fill_with_waves(RecurrentConv(3, steps, shared=True)).double()
    nn.init.constant_(conv.norm.bias, 10)
    x = torch.randn(1, 3, 15, 15, dtype=torch.double)
    changed = x.clone()
    changed[0, :, 7, 7] += 1
    reached = (conv(x) != conv(changed)).any(1)[0].nonzero()
    assert (reached.amin(0).tolist(), reached.amax(0).tolist()) == (
        [6 - steps] * 2,
        [8 + steps] * 2,
    )


@torch.no_grad()
def test_without_the_identity_it_is_ru_net() -> None:
    with_it = fill_with_waves(RecurrentUnit(3, 4, steps=1, residual=True, shared=True))
    without = fill_with_waves(RecurrentUnit(3, 4, steps=1, residual=False, shared=True))
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(with_it(x), with_it.project(x) + without(x))


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        (True, [13.857044, 36.796604, -0.17933086, -0.18568453]),
        (False, [-0.39807644, 0.92049080, -0.27665371, -0.55561644]),
    ],
)
def test_known_weights_give_known_logits(shared: bool, expected: list[float]) -> None:
    assert golden(R2UNet(**TINY, steps=1, shared=shared)) == pytest.approx(expected, rel=1e-3)
