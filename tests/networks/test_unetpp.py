from __future__ import annotations

import math

import pytest
import torch
from images.checks import fill_with_waves, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks.unetpp import DoubleConvolution, UNetPlusPlus, logits_of_mean
from medseg.nn.blocks import count_parameters

SMALL = (4, 6, 8, 10)
NNUNET_2D = (30, 60, 120, 240, 480, 480)
NNUNET_3D = (30, 60, 120, 240, 320, 320)


def waves(*shape: int) -> Tensor:
    values = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.37)
    return values.float().view(shape)


@pytest.mark.parametrize(
    ("channels", "classes", "options", "parameters"),
    [
        (1, 1, {"as_released": "keras", "deep_supervision": False}, 9_041_601),
        (3, 1, {"upsampling": "linear", "deep_supervision": False}, 9_163_329),
        (3, 1, {"upsampling": "linear"}, 9_163_428),
        (1, 1, {"upsampling": "linear", "deep_supervision": False}, 9_162_753),
        (3, 2, {"widths": NNUNET_2D, "as_released": "nnunet"}, 22_836_630),
        (1, 3, {"widths": NNUNET_3D, "as_released": "nnunet", "dims": 3}, 42_716_300),
    ],
)
def test_it_has_the_counted_parameters_of_the_released_networks(
    channels: int, classes: int, options: dict[str, object], parameters: int
) -> None:
    assert count_parameters(on_meta(UNetPlusPlus, channels, classes, **options)) == parameters


def test_without_norm_it_has_the_parameters_of_the_paper() -> None:
    network = on_meta(UNetPlusPlus, 1, norm="none", deep_supervision=False)
    assert round(count_parameters(network) / 1e6, 2) == 9.04


def test_node_i_j_sees_j_maps_of_its_row_and_one_from_below() -> None:
    for upsampling in ("transposed", "linear"):
        network = UNetPlusPlus(widths=SMALL, upsampling=upsampling)
        for i, j in ((0, 1), (1, 1), (0, 2), (1, 2), (0, 3)):
            below = SMALL[i] if upsampling == "transposed" else SMALL[i + 1]
            assert network.nodes[f"{i}_{j}"][0].in_channels == j * SMALL[i] + below


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("as_released", [False, "nnunet"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_pruned_network_gives_the_logits_of_its_columns_head(
    dims: int, as_released: object, depth: int
) -> None:
    options = {"dims": dims, "widths": SMALL, "as_released": as_released}
    torch.manual_seed(0)
    whole = UNetPlusPlus(2, 3, **options).eval()
    pruned = UNetPlusPlus(2, 3, depth=depth, **options).eval()
    kept = {name: whole.state_dict()[name] for name in pruned.state_dict()}
    pruned.load_state_dict(kept)
    x = torch.randn(1, 2, *(11, 14, 9)[:dims])
    with torch.inference_mode():
        assert torch.equal(pruned(x), whole.forward_all(x)[3 - depth])


def test_each_column_less_is_a_smaller_network() -> None:
    counts = [count_parameters(on_meta(UNetPlusPlus, depth=depth)) for depth in (1, 2, 3, 4)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] / 50


def test_the_first_of_all_outputs_is_the_logits() -> None:
    network = UNetPlusPlus(widths=SMALL).eval()
    x = torch.randn(2, 3, 10, 13)
    outputs = network.forward_all(x)
    assert [tuple(each.shape) for each in outputs] == [(2, 1, 10, 13)] * 3
    assert torch.equal(outputs[0], network(x))


def test_without_deep_supervision_the_last_column_alone_has_a_head() -> None:
    network = UNetPlusPlus(widths=SMALL, deep_supervision=False).eval()
    x = torch.randn(1, 3, 8, 8)
    (only,) = network.forward_all(x)
    assert torch.equal(only, network(x))


@pytest.mark.parametrize("classes", [1, 3])
def test_accurate_mode_is_the_mean_of_the_heads_probabilities(classes: int) -> None:
    network = UNetPlusPlus(3, classes, widths=SMALL, accurate=True).double().eval()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    squash = torch.sigmoid if classes == 1 else (lambda logits: logits.softmax(1))
    mean = torch.stack([squash(each) for each in network.forward_all(x)]).mean(0)
    torch.testing.assert_close(squash(network(x)), mean)


def test_the_mean_of_one_output_is_itself() -> None:
    logits = torch.randn(2, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(logits_of_mean([logits]), logits)


def test_the_keras_release_drops_values_and_has_no_norm() -> None:
    network = UNetPlusPlus(widths=SMALL, as_released="keras")
    kinds = [type(layer) for layer in network.nodes["0_0"]]
    assert kinds == [nn.Conv2d, nn.Identity, nn.ReLU, nn.Dropout] * 2
    x = torch.randn(1, 3, 8, 8)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_the_nnunet_release_strides_and_its_heads_have_no_bias() -> None:
    network = UNetPlusPlus(widths=SMALL, as_released="nnunet")
    strides = [network.nodes[f"{i}_0"][0].stride for i in range(4)]
    assert strides == [(1, 1), (2, 2), (2, 2), (2, 2)]
    assert isinstance(network.nodes["0_0"][1], nn.InstanceNorm2d)
    assert isinstance(network.nodes["0_0"][2], nn.LeakyReLU)
    assert all(layer.bias is None for layer in (*network.heads.values(), *network.up.values()))


def test_accurate_mode_needs_the_heads() -> None:
    with pytest.raises(ValueError, match="accurate"):
        UNetPlusPlus(widths=SMALL, accurate=True, deep_supervision=False)


def test_a_double_convolution_halves_with_a_stride_of_two() -> None:
    block = DoubleConvolution(2, 3, norm="batch", activation="relu", stride=2)
    assert block(torch.randn(2, 2, 7, 8)).shape == (2, 3, 4, 4)


# Of heads 1 and 2 of the re-implementation (github.com/4uiiurz1/pytorch-nested-unet at 557ea02) in
# weights of waves, whose later heads grow beyond single precision.
OFFICIAL = {
    1: [-0.5542793273925781, 16.220542907714844, 0.7168376445770264, -0.9693235158920288],
    2: [82.56098175048828, 1724.242919921875, -626.18359375, 283.5340270996094],
}


def test_weights_of_waves_give_the_numbers_of_the_reimplementation() -> None:
    network = fill_with_waves(UNetPlusPlus(3, 2, upsampling="linear"))
    with torch.inference_mode():
        outputs = network.forward_all(waves(1, 3, 32, 48))[::-1]
    for column, expected in OFFICIAL.items():
        logits = outputs[column - 1]
        found = [logits.mean().item(), logits.std().item(), *logits[0, :, 7, 11].tolist()]
        assert found == pytest.approx(expected, rel=1e-3)


def test_weights_of_waves_give_the_numbers_of_the_official_network() -> None:
    """Of github.com/MrGiovanni/UNetPlusPlus at 2659ddc, on nnU-Net."""
    widths = (6, 12, 24, 24, 24, 24)
    network = fill_with_waves(UNetPlusPlus(3, 2, widths=widths, as_released="nnunet"))
    with torch.inference_mode():
        logits = network(waves(1, 3, 32, 64))
    found = [logits.mean().item(), logits.std().item(), *logits[0, :, 7, 11].tolist()]
    expected = [-0.13892965, 0.57536727, -0.00025584, 0.0027173]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def discs(count: int, key: int) -> tuple[Tensor, Tensor]:
    """Noisy images with two discs, of which the brighter is meant."""
    random = torch.Generator().manual_seed(key)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    centres = torch.rand(2, count, 2, 1, 1, generator=random) * 14 + 5
    bright, faint = ((rows - c[:, 0]) ** 2 + (columns - c[:, 1]) ** 2 < 20 for c in centres)
    image = torch.maximum(bright, 0.5 * faint)
    return (image + 0.3 * torch.randn(image.shape, generator=random))[:, None], bright[:, None]


def dice_of_columns(*weights: float) -> list[float]:
    """Of the heads of columns 1 to 3, after 40 steps in which they had these weights."""
    torch.manual_seed(0)
    network = UNetPlusPlus(1, widths=SMALL)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for step in range(40):
        image, mask = discs(8, step)
        last, first, second = network.forward_all(image)
        each = [F.binary_cross_entropy_with_logits(x, mask.float()) for x in (first, second, last)]
        optimizer.zero_grad()
        sum(w * loss for w, loss in zip(weights, each, strict=True)).backward()
        optimizer.step()
    image, mask = discs(32, 1000)
    with torch.no_grad():
        last, first, second = network.eval().forward_all(image)
    found = [x > 0 for x in (first, second, last)]
    return [float(2 * (f & mask).sum() / (f.sum() + mask.sum())) for f in found]


def test_a_pruned_network_is_of_use_only_if_its_head_was_trained() -> None:
    assert min(dice_of_columns(1, 1, 1)) > 0.75
    first, second, last = dice_of_columns(0, 0, 1)
    assert last > 0.75
    assert max(first, second) < last - 0.2
