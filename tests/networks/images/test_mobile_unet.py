from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg import systems
from medseg.benchmark.efficiency import count_macs
from medseg.errors import ModelError
from medseg.networks.images.mobile_unet import (
    TABLES,
    EncoderName,
    MobileUNet,
    load_encoder_weights,
    published_names,
)
from medseg.nn.blocks import count_parameters

from .checks import (
    golden,
    on_meta,
)

MOBILE = [n for n in systems.names() if "mobile_unet" in systems.load_card(n).network]
TINY: dict[str, Any] = {"encoder": "mobilenetv2_050", "widths": (8, 8, 8, 4, 4)}


# Parameters and multiply-accumulates (256 pixels) are of segmentation_models.pytorch.
@pytest.mark.parametrize(
    ("system", "parameters", "gigamacs"),
    [
        ("unet-mobilenetv2", 4_004_945, 2.753),
        ("unet-mobilenetv2-050", 2_168_977, 2.302),
        ("unet-mobilenetv3-small", 3_585_649, 2.55),
        ("unet-mobilenetv3-large", 6_685_825, 3.06),
        ("unet-efficientnet-b0", 5_834_701, 2.88),
    ],
)
def test_it_has_the_parameters_and_the_arithmetic_of_segmentation_models_pytorch(
    system: str, parameters: int, gigamacs: float
) -> None:
    net = on_meta(MobileUNet, **systems.load_card(system).options)
    assert count_parameters(net) == parameters
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.002)


# Counted of timm's encoders, level by level.
@pytest.mark.parametrize(
    ("encoder", "widths", "parameters"),
    [
        ("mobilenetv2_100", [16, 24, 32, 96, 320], [1_824, 13_968, 39_696, 487_040, 1_269_184]),
        ("mobilenetv2_050", [8, 16, 16, 48, 160], [784, 6_160, 13_056, 131_392, 328_928]),
        ("mobilenetv3_small_100", [16, 16, 24, 48, 576], [464, 744, 9_280, 180_032, 736_488]),
        ("mobilenetv3_large_100", [16, 24, 40, 112, 960], [928, 7_880, 52_312, 731_368, 2_179_464]),
        ("efficientnet_b0", [16, 24, 40, 112, 320], [2_376, 16_714, 46_640, 786_078, 2_743_580]),
    ],
)
def test_each_level_of_an_encoder_halves_the_size_and_has_the_widths_of_its_paper(
    encoder: str, widths: list[int], parameters: list[int]
) -> None:
    net: Any = on_meta(MobileUNet, encoder=encoder)
    features = net.eval().forward_features(torch.empty(1, 3, 64, 96, device="meta"))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(widths)
    ]
    assert [count_parameters(level) for level in net.encoder.levels] == parameters


# Of sorted lines "name shape", all but num_batches_tracked, of timm's encoders.
@pytest.mark.parametrize(
    ("encoder", "tensors", "digest"),
    [
        ("mobilenetv2_100", 255, "b124a779be7f4073"),
        ("mobilenetv2_050", 255, "81e3b083a5cbeabc"),
        ("mobilenetv3_small_100", 206, "c56f7c4d3d1e1f4a"),
        ("mobilenetv3_large_100", 262, "ff5d259a1c945cdd"),
        ("efficientnet_b0", 304, "115783204be6a125"),
    ],
)
def test_published_weights_have_the_names_and_shapes_that_timm_gives_them(
    encoder: str, tensors: int, digest: str
) -> None:
    net: Any = on_meta(MobileUNet, encoder=encoder)
    state = net.encoder.state_dict()
    names = published_names(net.encoder)
    lines = sorted(f"{theirs} {tuple(state[ours].shape)}" for ours, theirs in names.items())
    assert len(lines) == tensors
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)


def test_classes_and_channels_change_only_head_and_stem() -> None:
    assert count_parameters(on_meta(MobileUNet, 1, 1)) == 4_004_945 - 2 * 9 * 32
    assert count_parameters(on_meta(MobileUNet, 3, 9)) == 4_004_945 + 8 * (9 * 16 + 1)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("mobilenetv2_050", [-16.69283, 441.0151, -57.01544, -59.78628]),
        ("mobilenetv3_small_100", [0.7981374, 376.3097, -59.75115, -62.49340]),
        ("mobilenetv3_large_100", [-17.84506, 254.7890, 202.0168, 203.8917]),
        ("efficientnet_b0", [-5.858583, 105.4541, 239.5060, 252.8550]),
    ],
)
def test_known_weights_give_known_logits(encoder: EncoderName, expected: list[float]) -> None:
    net = MobileUNet(encoder=encoder)
    assert golden(net) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_every_encoder_that_can_be_asked_for_has_a_table() -> None:
    assert set(get_args(EncoderName)) == set(TABLES)


def published(encoder: EncoderName = "mobilenetv2_050") -> dict[str, Tensor]:
    """Noise in timm's layout, with a classifier."""
    network = MobileUNet(encoder=encoder)
    state = network.encoder.state_dict()
    names = published_names(network.encoder)
    weights = {theirs: torch.rand_like(state[ours]) for ours, theirs in names.items()}
    return {**weights, "classifier.weight": torch.rand(10, 20), "classifier.bias": torch.rand(10)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_published_weights_are_loaded_into_the_encoder_and_nowhere_else(
    suffix: str, tmp_path: Path
) -> None:
    weights = published()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    network: Any = MobileUNet(**TINY)
    before = {k: v.clone() for k, v in network.state_dict().items() if not k.startswith("encoder")}
    load_encoder_weights(network, path)
    levels = network.encoder.levels
    for module, name in [
        (levels[0][0][0], "conv_stem"),
        (levels[0][0][1], "bn1"),
        (levels[0][1].body.depthwise[0], "blocks.0.0.conv_dw"),
        (levels[0][1].body.project[1], "blocks.0.0.bn2"),
        (levels[1][0].body.expand[0], "blocks.1.0.conv_pw"),
        (levels[3][4].body.project[1], "blocks.4.0.bn3"),
        (levels[4][3].body.depthwise[1], "blocks.6.0.bn2"),
    ]:
        for key, value in module.state_dict().items():
            if key != "num_batches_tracked":
                assert torch.equal(value, weights[f"{name}.{key}"])
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())


def test_squeeze_and_excitation_and_last_convolution_are_loaded(tmp_path: Path) -> None:
    weights = published("mobilenetv3_small_100")
    save_file(weights, tmp_path / "w.safetensors")
    network: Any = MobileUNet(encoder="mobilenetv3_small_100", widths=TINY["widths"])
    load_encoder_weights(network, tmp_path / "w.safetensors")
    squeeze_excite = network.encoder.levels[3][0].body.squeeze_excite
    assert torch.equal(squeeze_excite.reduce.bias, weights["blocks.2.0.se.conv_reduce.bias"])
    assert torch.equal(squeeze_excite.restore.weight, weights["blocks.2.0.se.conv_expand.weight"])
    assert torch.equal(network.encoder.levels[4][-1][0].weight, weights["blocks.5.0.conv.weight"])


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 6])
def test_encoder_maps_of_grey_are_those_of_equal_colours(channels: int, tmp_path: Path) -> None:
    save_file(published(), tmp_path / "w.safetensors")
    grey, colour = MobileUNet(channels, **TINY).eval(), MobileUNet(**TINY).eval()
    for network in (grey, colour):
        load_encoder_weights(network, tmp_path / "w.safetensors")
    x = torch.randn(1, 1, 32, 32)
    of_grey = grey.forward_features(x.expand(-1, channels, -1, -1))
    for ours, theirs in zip(of_grey, colour.forward_features(x.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def unchanged_by(network: nn.Module, path: Path) -> str:
    """What is said of ``path``, which must leave the weights as they were."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_encoder_weights(network, path)  # type: ignore[arg-type]
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())
    return str(caught.value)


@pytest.mark.parametrize("name", ["absent.safetensors", "broken.safetensors", "broken.pth"])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"not weights")
    message = unchanged_by(MobileUNet(**TINY), tmp_path / name)
    assert name in message
    assert "cannot be read" in message


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(published("mobilenetv3_small_100"), path)
    other = unchanged_by(MobileUNet(**TINY), path)
    assert "there is no blocks.3.2.conv_pw.weight" in other
    save_file(published(), path)
    wider = unchanged_by(MobileUNet(encoder="mobilenetv2_100", widths=TINY["widths"]), path)
    assert "conv_stem.weight is (16, 3, 3, 3), and the encoder's is (32, 3, 3, 3)" in wider


def test_a_file_of_something_else_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": published()}, tmp_path / "w.pth")
    assert "tensors by name" in unchanged_by(MobileUNet(**TINY), tmp_path / "w.pth")
