from __future__ import annotations

import pytest
import torch

from medseg.benchmark.efficiency import count_macs
from medseg.networks.lightm_unet import LightMUNet, RVMLayer
from medseg.nn.blocks import count_parameters

from .checks import fill_with_waves, golden, on_meta, shape_of_logits


@pytest.mark.parametrize(
    ("dims", "classes", "width", "parameters"),
    [
        (2, 2, 32, 5_011_683),
        (3, 3, 32, 5_015_766),
        (2, 2, 8, 380_787),
        (2, 2, 16, 1_342_915),
        (2, 2, 24, 2_886_707),
    ],
)
def test_it_has_the_parameters_of_the_official_code(
    dims: int, classes: int, width: int, parameters: int
) -> None:
    network = on_meta(LightMUNet, 1, classes, dims=dims, width=width)
    assert count_parameters(network) == parameters


def test_it_has_the_arithmetic_of_the_official_code_beside_the_scans() -> None:
    network = on_meta(LightMUNet, 1, 2).eval()
    macs = count_macs(network, torch.empty(1, 1, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(11.93, rel=0.002)


def test_the_logits_are_those_that_were_compared_with_the_official_code() -> None:
    assert golden(LightMUNet(width=8), size=(24, 40)) == pytest.approx(IMAGE, rel=1e-3)
    network = fill_with_waves(LightMUNet(1, 2, dims=3, width=8, depths=(1, 1, 1, 1)))
    volume = torch.sin(torch.arange(16.0 * 8 * 24) * 0.37).view(1, 1, 16, 8, 24)
    with torch.inference_mode():
        logits = network(volume)
    found = [logits.mean().item(), logits.std().item(), *logits[0, 1, 3, 5, 7:9].tolist()]
    assert found == pytest.approx(VOLUME, rel=1e-3)


IMAGE = [-0.23341, 0.519195, -1.72318, -0.833876]
VOLUME = [0.203835, 0.755729, 0.260877, 0.638036]


@pytest.mark.parametrize("size", [(1, 1, 1), (9, 17, 5), (8, 16, 8)])
def test_volumes_of_any_size_have_logits_of_their_size(size: tuple[int, int, int]) -> None:
    network = LightMUNet(1, 3, dims=3, width=8, depths=(0, 1, 0, 0))
    assert shape_of_logits(network, 2, 1, *size) == (2, 3, *size)


def test_a_layer_sees_a_pixel_in_those_that_follow_it_row_by_row_and_in_no_other() -> None:
    torch.manual_seed(0)
    layer, image = RVMLayer(8, 6).double(), torch.randn(1, 8, 4, 5, dtype=torch.float64)
    changed = image.clone()
    changed[:, 0, 2, 3] += 1  # of one channel: the norm would take a shift of all away
    moved = (layer(changed) - layer(image)).abs().sum(1).flatten()
    assert moved[: 2 * 5 + 3].max() < 1e-12
    assert moved[2 * 5 + 3 :].min() > 1e-9


def test_a_layer_without_its_scan_is_a_norm_and_a_linear_layer() -> None:
    torch.manual_seed(0)
    layer, image = RVMLayer(8, 6), torch.randn(2, 8, 4, 5)
    layer.mamba.leave.weight.data.zero_()
    expected = layer.project(layer.norm(image.movedim(1, -1))).movedim(-1, 1)
    torch.testing.assert_close(layer(image), expected)


def test_maps_halve_and_channels_double_down_to_an_eighth() -> None:
    features = on_meta(LightMUNet, width=8).forward_features(
        torch.empty(1, 3, 32, 48, device="meta")
    )
    assert [tuple(f.shape) for f in features] == [
        (1, 8, 32, 48),
        (1, 16, 16, 24),
        (1, 32, 8, 12),
        (1, 64, 4, 6),
    ]
