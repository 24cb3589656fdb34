from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from medseg.methods.taps import Tap, find_levels, listen, spatial_dims
from medseg.models import create_model


def names(taps: tuple[Tap, ...]) -> list[tuple[str, int, int]]:
    return [(tap.name, tap.channels, tap.stride) for tap in taps]


def test_the_levels_of_a_u_net_are_its_blocks() -> None:
    levels = find_levels(create_model("unet", num_classes=3, widths=(4, 6, 8, 10)), 3)
    assert names(levels.encoder) == [("encoder.0", 4, 1), ("encoder.1", 6, 2), ("encoder.2", 8, 4)]
    assert names(levels.decoder) == [("encoder.3", 10, 8), ("decoder.0", 8, 4), ("decoder.1", 6, 2)]
    assert levels.classes == 3


def test_blocks_inside_of_blocks_are_not_mistaken_for_levels() -> None:
    options = {"widths": (4, 6, 8, 8, 12), "depths": (1, 2, 1, 1), "kernel": 3}
    levels = find_levels(create_model("med2d-segnet", **options), 3)
    assert [tap.name for tap in levels.encoder] == ["stem", "stages.0", "stages.1", "stages.2"]
    assert [tap.stride for tap in levels.decoder] == [16, 8, 4, 2]


def test_a_network_of_volumes_has_levels_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import BasicUNet

        network = BasicUNet(3, 1, 2, features=(4, 4, 6, 8, 10, 4))
    levels = find_levels(network, 1)
    assert [tap.stride for tap in levels.encoder] == [1, 2, 4, 8]
    assert [tap.stride for tap in levels.decoder] == [16, 8, 4, 2]
    assert spatial_dims(network) == 3


def test_a_probe_leaves_the_network_as_it_was() -> None:
    network = create_model("unet", widths=(4, 6, 8)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    find_levels(network, 3)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_listening_changes_nothing_and_ends() -> None:
    network = create_model("unet", widths=(4, 6, 8)).eval()
    image = torch.randn(2, 3, 16, 24)
    tap = Tap("encoder.1", 6, 2)
    with torch.no_grad():
        logits, heard = listen(network, image, [tap])
        assert torch.equal(logits, network(image))
    assert heard["encoder.1"].shape == (2, 6, 8, 12)
    assert not network.get_submodule("encoder.1")._forward_hooks


def test_listening_ends_when_the_network_fails() -> None:
    network = create_model("unet", widths=(4, 6, 8))
    with pytest.raises(RuntimeError):
        listen(network, torch.randn(1, 5, 16, 16), [Tap("encoder.1", 6, 2)])
    assert not network.get_submodule("encoder.1")._forward_hooks


class Flat(nn.Module):
    """Convolutions that keep the size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


def test_a_network_without_scales_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than two scales"):
        find_levels(Flat(), 3)


def test_a_network_without_convolutions_is_an_error() -> None:
    with pytest.raises(ValueError, match="no convolutions"):
        find_levels(nn.Linear(2, 2), 2)
