from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.explain.layers import choose_layer, find_layers
from medseg.models import create_model


class Pyramid(nn.Module):
    """Has everything that is no layer to explain: a shared module, a tuple, a single cell."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(1, 6, 2, 2)
        self.shared = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.both = nn.AdaptiveMaxPool2d(2, return_indices=True)
        self.reduce = nn.Conv2d(6, 2, 1)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        deep = self.shared(self.shared(self.deep(image)))
        deep = deep * self.pool(deep) + self.both(deep)[0].mean()
        up = nn.functional.interpolate(self.reduce(deep), size=image.shape[-2:])
        out: Tensor = self.head(up)
        return out


def test_only_modules_that_make_one_map_once_can_be_explained() -> None:
    layers = find_layers(Pyramid(), torch.zeros(1, 1, 8, 8))
    assert [(each.name, each.channels, each.height, each.width) for each in layers] == [
        ("deep", 6, 4, 4),
        ("reduce", 2, 4, 4),
        ("head", 1, 8, 8),
    ]


def test_looking_for_layers_leaves_no_hooks() -> None:
    network = Pyramid()
    find_layers(network, torch.zeros(1, 1, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())


def chosen(network: nn.Module, channels: int, side: int, classes: int = 1) -> str:
    layers = find_layers(network.eval(), torch.zeros(1, channels, side, side))
    return choose_layer(layers, None, side, classes).name


def test_the_default_is_the_last_map_of_half_the_size() -> None:
    assert chosen(Pyramid(), 1, 8) == "reduce"


def test_logits_at_half_the_size_are_no_evidence() -> None:
    assert chosen(Pyramid(), 1, 8, classes=2) == "deep"


@pytest.mark.parametrize("side", [32, 33])
@pytest.mark.parametrize(
    ("system", "stage"), [("med2d-segnet", "decoder.0"), ("unet", "decoder.0")]
)
def test_the_default_is_the_last_stage_before_full_size(system: str, stage: str, side: int) -> None:
    options = {"depths": (1, 1)} if system == "med2d-segnet" else {}
    assert chosen(create_model(system, widths=(4, 6, 8), **options), 3, side) == stage


def test_a_layer_that_a_pixel_shuffle_makes_the_prediction_of_is_not_the_default() -> None:
    network = create_model(
        "med2d-segnet-fast", widths=(4, 6, 8), depths=(1, 1), expansion=2, kernel=3
    )
    assert chosen(network, 3, 32) == "decoder.0"


def test_inside_a_body_of_full_size_stages_are_found() -> None:
    assert chosen(nn.Sequential(Pyramid()), 1, 8) == "0.reduce"


def test_where_nothing_is_halved_the_last_map_is_taken() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1))
    assert chosen(network, 1, 8) == "0"


def test_inside_a_body_that_ends_in_the_logits_the_last_features_are_taken() -> None:
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    assert chosen(nn.Sequential(body), 1, 8) == "0.1"


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    layers = find_layers(Pyramid(), torch.zeros(1, 1, 8, 8))
    assert choose_layer(layers, "reduce", 8, 1).channels == 2
    with pytest.raises(MedsegError, match=r"--layer redduce: .* Did you mean 'reduce'"):
        choose_layer(layers, "redduce", 8, 1)
    with pytest.raises(MedsegError, match="--layer list"):
        choose_layer(layers, "??", 8, 1)


def test_a_network_without_layers_is_told_what_works() -> None:
    with pytest.raises(MedsegError, match="integrated-gradients"):
        choose_layer(find_layers(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 8, 8)), None, 8, 1)
