from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.networks.images.unet import UNet

WIDTHS = (4, 6, 8, 10)


def functional_unet(weights: dict[str, Tensor], image: Tensor, levels: int) -> Tensor:
    """The figure of the paper with padded convolutions and batch norm, from bare weights."""

    def double_conv(x: Tensor, at: str) -> Tensor:
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv2d(x, weights[f"{at}.{conv}.weight"], weights[f"{at}.{conv}.bias"], padding=1)
            centred = x - weights[f"{at}.{norm}.running_mean"].view(-1, 1, 1)
            scale = (weights[f"{at}.{norm}.running_var"] + 1e-5).rsqrt()
            x = centred * (scale * weights[f"{at}.{norm}.weight"]).view(-1, 1, 1)
            x = (x + weights[f"{at}.{norm}.bias"].view(-1, 1, 1)).clamp_min(0)
        return x

    skips = []
    x = image
    for level in range(levels):
        x = double_conv(x, f"encoder.{level}")
        if level < levels - 1:
            skips.append(x)
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
    for level in range(levels - 1):
        up = F.conv_transpose2d(
            x, weights[f"up.{level}.weight"], weights[f"up.{level}.bias"], stride=2
        )
        x = double_conv(torch.cat([skips.pop(), up], 1), f"decoder.{level}")
    return F.conv2d(x, weights["head.weight"], weights["head.bias"])


def fill_with_waves(network: nn.Module) -> nn.Module:
    """Weights of a closed form, the same in every release of PyTorch and on every machine."""
    for index, (name, value) in enumerate(network.state_dict().items()):
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + index)
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            wave = 1 + 0.2 * wave
        elif value.ndim > 1:
            wave = wave * math.sqrt(2 / value[0].numel())
        value.copy_(wave.view(value.shape))
    return network.eval()


@pytest.mark.parametrize(
    ("widths", "parameters"),
    [((64, 128, 256, 512, 1024), 31_043_521), ((16, 32, 64, 128, 256), 1_944_049)],
)
def test_it_has_the_counted_parameters(widths: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        net = UNet(widths=widths)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_without_norm_it_has_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        net = UNet(1, 2, norm="none")
    # The paper's network, whose convolutions have biases and no norm, for 1 channel, 2 classes.
    assert sum(p.numel() for p in net.parameters()) == 31_030_658


def test_it_agrees_with_a_functional_implementation() -> None:
    torch.manual_seed(0)
    net = UNet(3, 2, widths=WIDTHS).double().eval()
    for name, value in net.state_dict().items():
        if name.endswith(("running_mean", "running_var")) or value.ndim == 1:
            value.uniform_(0.5, 1.5) if value.is_floating_point() else None
    x = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    expected = functional_unet(net.state_dict(), x, len(WIDTHS))
    torch.testing.assert_close(net(x), expected, atol=1e-6, rtol=1e-6)


def test_encoder_maps_halve_from_level_to_level() -> None:
    features = UNet(widths=WIDTHS).eval().forward_features(torch.zeros(1, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(WIDTHS)
    ]


def test_known_weights_give_known_logits() -> None:
    net = fill_with_waves(UNet(3, 2, widths=WIDTHS))
    image = torch.sin(torch.arange(3 * 24 * 30, dtype=torch.float64) * 0.37).float()
    with torch.inference_mode():
        logits = net(image.view(1, 3, 24, 30))
    found = [logits.mean().item(), logits.std().item(), *logits[0, :, 7, 11].tolist()]
    golden = [-0.9312451, 0.2815639, -0.9705353, -0.8975364]
    assert found == pytest.approx(golden, rel=1e-4)
