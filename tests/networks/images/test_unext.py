from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.unext import TokenizedMLP, UNeXt, shift
from medseg.nn.blocks import count_parameters

from .checks import (
    golden,
    on_meta,
)

SMALL = (8, 16, 32, 64, 128)
TINY: dict[str, Any] = {"widths": (4, 6, 8, 10, 12)}


# The first two columns are of the official modules; multiply-accumulates are for 256 pixels.
@pytest.mark.parametrize(
    ("widths", "parameters", "gigamacs"),
    [((16, 32, 128, 160, 256), 1_471_921, 0.562), (SMALL, 253_561, 0.099)],
)
def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code(
    widths: tuple[int, ...], parameters: int, gigamacs: float
) -> None:
    net = on_meta(UNeXt, widths=widths)
    assert count_parameters(net) == parameters
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.02)


def test_the_widths_quoted_of_the_papers_text_have_more_parameters_than_are_quoted() -> None:
    assert count_parameters(on_meta(UNeXt, widths=(32, 64, 128, 160, 256))) == 1_580_961


def test_classes_and_channels_change_only_head_and_first_convolution() -> None:
    assert count_parameters(on_meta(UNeXt, 1, 1)) == 1_471_921 - 2 * 9 * 16
    assert count_parameters(on_meta(UNeXt, 3, 9)) == 1_471_921 + 8 * 17


def test_encoder_maps_halve_from_a_half_to_a_thirty_second() -> None:
    features = UNeXt(**TINY).eval().forward_features(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(TINY["widths"])
    ]


def shifted_pixel_by_pixel(x: Tensor, axis: int) -> Tensor:
    """Channels in five groups of ceil(C / 5), the last perhaps smaller; outside there is 0."""
    size = -(-x.shape[1] // 5)
    out = torch.zeros_like(x)
    for channel in range(x.shape[1]):
        distance = channel // size - 2
        for i in range(x.shape[axis]):
            if 0 <= i - distance < x.shape[axis]:
                out[:, channel].select(axis - 1, i).copy_(
                    x[:, channel].select(axis - 1, i - distance)
                )
    return out


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("channels", [3, 5, 8, 16])
def test_a_shift_moves_five_groups_of_channels_by_two_pixels_at_most(
    channels: int, axis: int
) -> None:
    x = torch.randn(2, channels, 6, 1)
    x = x.expand(-1, -1, -1, 7) + torch.arange(7)
    assert torch.equal(shift(x, axis), shifted_pixel_by_pixel(x, axis))


def test_a_token_mlp_whose_last_layer_gives_zero_passes_its_input_on() -> None:
    block = TokenizedMLP(10, (3, 2))
    nn.init.zeros_(block.mix_again.weight)
    nn.init.zeros_(block.mix_again.bias)
    x = torch.randn(2, 10, 5, 4)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_a_token_mlp_sees_no_farther_than_two_shifts_and_a_3x3_convolution() -> None:
    block = TokenizedMLP(10, (3, 2)).eval()
    x = torch.randn(1, 10, 15, 15)
    changed = x.clone()
    changed[0, :, 7, 7] = torch.randn(10)
    rows, columns = (block(x) != block(changed)).any(1)[0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 10, 4, 10)


def transposed(net: UNeXt) -> dict[str, Tensor]:
    """Weights of the network that does along the height what ``net`` does along the width."""
    return {k: v.transpose(-2, -1) if v.ndim == 4 else v for k, v in net.state_dict().items()}


@torch.no_grad()
def test_the_released_order_of_shifts_is_the_papers_with_height_and_width_exchanged() -> None:
    torch.manual_seed(0)
    paper, released = UNeXt(**TINY).eval(), UNeXt(**TINY, as_released=True).eval()
    x = torch.randn(1, 3, 64, 96)
    released.load_state_dict(paper.state_dict())
    assert (released(x) - paper(x)).abs().max() > 1e-6
    released.load_state_dict(transposed(paper))
    torch.testing.assert_close(
        released(x.transpose(-2, -1)).transpose(-2, -1), paper(x), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("as_released", "expected"),
    [
        (False, [0.2669503, 0.4594175, 0.6720569, 0.8848541]),
        (True, [0.2675706, 0.4584903, 0.6215942, 0.8354558]),
    ],
)
def test_known_weights_give_known_logits(as_released: bool, expected: list[float]) -> None:
    net = UNeXt(widths=SMALL, as_released=as_released)
    assert golden(net) == pytest.approx(expected, rel=1e-4)
