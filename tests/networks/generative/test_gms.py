from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.networks.generative.autoencoders import SmallAutoencoder, divergence, make_autoencoder
from medseg.networks.generative.gms import GMS, MappingNetwork
from medseg.nn.blocks import count_parameters


def test_the_mapping_has_the_parameters_of_the_official_code() -> None:
    assert count_parameters(MappingNetwork()) == 1_564_976


def fill(network: nn.Module) -> None:
    for index, value in enumerate(network.parameters()):
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + index)
        wave = wave * math.sqrt(2 / value[0].numel()) if value.ndim > 1 else 0.5 + 0.1 * wave
        value.data.copy_(wave.view(value.shape))


def test_the_mapping_gives_the_numbers_of_the_official_code() -> None:
    network = MappingNetwork().double()
    fill(network)
    code = torch.sin(torch.arange(2 * 4 * 5 * 6, dtype=torch.float64) * 0.37).view(2, 4, 5, 6)
    with torch.no_grad():
        found = [
            [level.mean().item(), level[1, 2, 3, 4].item()] for level in network.forward_all(code)
        ]
        assert torch.equal(network(code), network.forward_all(code)[-1])
    for ours, theirs in zip(found, GOLDEN, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


# King-HAW/GMS at e4c7e1b, ResAttnUNet_DS: level3, level2, level1, out.
GOLDEN = [
    [-0.189383382, -0.731986166],
    [0.257655339, -0.970632576],
    [-0.251515248, -0.0567081853],
    [0.255307188, 0.0624385972],
]


def test_codes_keep_their_size_at_every_level() -> None:
    levels = MappingNetwork(4, 8, width=16).forward_all(torch.zeros(2, 4, 5, 7))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 5, 7)] * 4


def test_a_code_is_an_eighth_of_a_picture_and_comes_back_to_its_size() -> None:
    autoencoder = SmallAutoencoder()
    mean, deviation = autoencoder.encode(torch.zeros(2, 3, 16, 24))
    assert mean.shape == deviation.shape == (2, 4, 2, 3)
    assert autoencoder.decode(mean).shape == (2, 3, 16, 24)


def test_the_divergence_is_zero_for_standard_codes_and_positive_for_others() -> None:
    mean, deviation = torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3)
    assert divergence(mean, deviation) == 0
    assert divergence(mean + 1, deviation).item() == pytest.approx(0.5)
    assert divergence(mean, 2 * deviation).item() == pytest.approx(0.5 * (3 - 2 * math.log(2)))


def test_a_pixels_probability_is_how_bright_it_is_decoded() -> None:
    network = GMS(width=16).eval()
    grey = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 0.2]).expand(1, 3, 8, 8)
    network.autoencoder.decode = lambda code: grey  # type: ignore[method-assign]
    shares = network(torch.zeros(1, 3, 8, 8)).sigmoid()[0, 0, 0]
    expected = torch.tensor([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.6])
    torch.testing.assert_close(shares, expected, atol=1.1e-4, rtol=0)


def test_each_of_several_classes_is_decoded_from_its_own_code() -> None:
    network = GMS(3, 3, width=16).eval()
    codes = torch.randn(2, 12, 2, 2)
    each = [network.autoencoder.decode(part).mean(1) for part in codes.chunk(3, dim=1)]
    torch.testing.assert_close(network.decode(codes), torch.stack(each, 1))


def test_scaled_codes_are_decoded_as_they_were_encoded() -> None:
    network, picture = GMS(width=16).eval(), torch.randn(1, 3, 16, 16)
    network.autoencoder.scale = 0.18215
    mean, _ = network.autoencoder.encode(picture)
    torch.testing.assert_close(network.encode(picture)[0], 0.18215 * mean)
    expected: Tensor = network.autoencoder.decode(mean).mean(1, keepdim=True)
    torch.testing.assert_close(network.decode(0.18215 * mean), expected)


def test_a_grey_image_is_the_picture_with_three_equal_channels() -> None:
    torch.manual_seed(0)
    grey, colour = GMS(1, width=16).eval(), GMS(3, width=16).eval()
    weights = {k: v for k, v in grey.state_dict().items() if k not in ("mean", "std")}
    colour.load_state_dict(weights, strict=False)
    image = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)))


def test_an_image_of_five_channels_is_an_error() -> None:
    with pytest.raises(ValueError, match="in_channels 5"):
        GMS(5)


@pytest.mark.slow
def test_the_published_autoencoder_has_its_parameters() -> None:
    pytest.importorskip("diffusers")
    with torch.device("meta"):
        assert count_parameters(make_autoencoder("stable-diffusion")) == 83_653_863
