"""What every network satisfies, asked of a small form of each.

A new network needs a row in ``SMALL``, under one of its systems; a new system of a network that
has a row needs nothing.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg import systems
from medseg.errors import RecipeError
from medseg.models import create_model, network_options

from .checks import (
    exported,
    fill_and_normalise,
    fill_with_waves,
    losses_of_training,
    shape_of_logits,
    traced_difference,
    without_gradient,
)


def waves_and_live_attention(network: nn.Module) -> nn.Module:
    """MK-UNet whose attention's only ReLU in the middle is not dead.

    Its fresh weights are so small that without a batch's norms gradients vanish.
    """
    fill_with_waves(network)
    for attention in network.channel_attention:  # type: ignore[union-attr]
        attention.layers[0].weight.data.abs_()
    return network


@dataclass(frozen=True)
class Small:
    """A network of a few thousand parameters, and what is its own in what all satisfy."""

    options: Mapping[str, Any]
    multiple: int
    """Of pixels, to which the edge of an image is continued; 1 where it is not."""
    refused: tuple[tuple[str, Any], ...]
    """Options and values that are errors."""
    largest: int = 70
    """Pixels of a side, beyond the multiple."""
    steps: int = 12
    """Of training, after which the loss is lower by a tenth."""
    alive: Callable[[nn.Module], nn.Module] = nn.Module.eval
    """Gives weights for which no gradient vanishes."""
    aside: tuple[str, ...] = ()
    """Modules that the logits do not depend on."""
    tracer_warns: bool = False
    """Of shapes that are right at every size."""
    traced_in: torch.dtype = torch.float32
    """Double where weights of waves make much of the last digits."""
    exported_at: int = 64
    exported_with: Callable[[nn.Module], nn.Module] = fill_with_waves
    head: str = "head"
    """The layer that gives the logits."""


WIDTHS_OF_SIX = (
    ("widths", []),
    ("widths", [8, 16, 24]),
    ("widths", [8, 16, 24, 32, 48, 62]),
    ("widths", [0] * 6),
    ("widths", [8, 16, 24, 32, 4, 64]),
)
SMALL: Mapping[str, Small] = {
    "bcp": Small(
        options={"widths": (4, 6, 8), "dropout": (0.0, 0.1, 0.2)},
        multiple=4,
        steps=20,
        refused=(
            ("widths", []),
            ("widths", [8]),
            ("widths", [8, 0, 8, 8, 8]),
            ("dropout", [0.1]),
            ("dropout", [0.1, 0.1, 0.1, 0.1, 1.0]),
        ),
    ),
    "cmunext": Small(
        options={"widths": (4, 6, 8, 10), "depths": (1, 2, 1, 1), "kernels": (3, 5, 7, 3)},
        multiple=8,
        refused=(
            ("widths", []),
            ("widths", [8]),
            ("widths", [16, 32, 64, 80, 0]),
            ("depths", [1, 1]),
            ("depths", [1, 1, 1, 1, 0]),
            ("kernels", [3, 3]),
            ("kernels", [3, 3, 7, 7, 8]),
        ),
    ),
    "ege-unet": Small(
        options={"widths": (4, 8, 8, 8, 12, 16)},
        multiple=32,
        refused=WIDTHS_OF_SIX,
        tracer_warns=True,
    ),
    "encoder-plain": Small(
        options={"widths": (8, 8, 16, 16, 16), "depths": (1, 2, 1, 1)},
        multiple=1,
        refused=(("block", "residuall"), ("widths", []), ("depths", [1, 1, 1, 0])),
        tracer_warns=True,
    ),
    "gms": Small(
        options={"width": 16},
        multiple=8,
        refused=(("autoencoder", "vae"), ("width", 0), ("width", 24)),
        aside=tuple(f"mapping.heads.{level}.{layer}" for level in range(3) for layer in (0, 2)),
        head="autoencoder.last",
        tracer_warns=True,
    ),
    "lightm-unet": Small(
        options={"width": 8, "depths": (0, 0, 1, 0)},
        multiple=8,
        refused=(("width", 0), ("width", 12), ("depths", [1, 2, 2]), ("depths", [1, 2, 2, -1])),
        steps=20,
        tracer_warns=True,
        traced_in=torch.float64,
    ),
    "lv-unet": Small(
        options={"widths": (24, 16, 32)},
        multiple=128,
        refused=(
            ("widths", []),
            ("widths", [160, 0]),
            ("reach", -1),
            ("slope", -0.1),
            ("slope", 1.5),
        ),
        largest=140,
        exported_at=128,
    ),
    "malunet": Small(
        options={"widths": (4, 8, 8, 8, 12, 16)},
        multiple=32,
        refused=WIDTHS_OF_SIX,
        tracer_warns=True,
    ),
    "med2d-segnet": Small(
        options={"widths": (4, 6, 8, 8, 12), "depths": (1, 2, 1, 1), "kernel": 3},
        multiple=1,
        refused=(
            ("kernel", 4),
            ("kernel", -1),
            ("kernel", 2.5),
            ("expansion", 0),
            ("expansion", -2),
            ("gate", "gapp"),
            ("norm", "layer"),
            ("stem_stride", 3),
            ("decoder", "dense"),
            ("kernel", [3, 3]),
            ("kernel", [3, 3, 4, 3]),
            ("expansion", [1, 2, 3]),
            ("expansion", [1, 2, 0, 3]),
            ("activation", "tanh"),
            ("widths", []),
            ("widths", [8]),
            ("widths", [0, 8, 8, 8, 8]),
            ("widths", 8),
            ("depths", [1, 1]),
            ("depths", [1, 1, 1, 0]),
        ),
    ),
    "mk-unet": Small(
        options={"widths": (4, 6, 8, 10, 12)},
        multiple=32,
        refused=(
            ("widths", []),
            ("widths", [4, 8, 16, 24]),
            ("widths", [4, 8, 15, 24, 32]),
            ("widths", [4, 8, 16, 24, 0]),
            ("kernels", []),
            ("kernels", [1, 4]),
            ("expansion", 0),
        ),
        alive=waves_and_live_attention,
        aside=("sides.0", "sides.1", "sides.2"),
    ),
    "mobileuvit": Small(
        options={
            "widths": (4, 6, 8, 12),
            "depths": (1, 2, 1, 2, 1),
            "kernels": (3, 5, 3),
            "heads": 2,
        },
        multiple=16,
        refused=(
            ("widths", [16, 32, 64]),
            ("widths", [16, 0, 64, 128]),
            ("widths", [16, 32, 66, 128]),
            ("widths", [16, 32, 64, 126]),
            ("depths", [1, 1, 3, 3]),
            ("depths", [1, 1, 3, 3, 0]),
            ("kernels", [3, 3]),
            ("kernels", [3, 3, 6]),
            ("heads", 0),
            ("drop", 1.0),
            ("drop", -0.1),
        ),
        # With waves alone logits are of the order of 10^8, and single precision is off by 5 %.
        exported_with=fill_and_normalise,
    ),
    "r2unet": Small(
        options={"widths": (4, 6, 8)},
        multiple=4,
        refused=(
            ("widths", []),
            ("widths", [8, 0]),
            ("steps", -1),
        ),
    ),
    "tinyu-net": Small(
        options={"widths": (8, 16, 16), "receptive_fields": 4},
        multiple=4,
        steps=20,
        refused=(
            ("widths", []),
            ("widths", [16, 0]),
            ("widths", [64, 72]),
            ("receptive_fields", 0),
            ("receptive_fields", 7),
        ),
    ),
    "u-lite": Small(
        options={"widths": (4, 6, 8, 12), "kernel": 5},
        multiple=8,
        steps=20,
        refused=(
            ("widths", []),
            ("widths", [8]),
            ("widths", [0, 8]),
            ("widths", [8, 10]),
            ("kernel", 4),
        ),
    ),
    "unet": Small(
        options={"widths": (4, 6, 8, 10)},
        multiple=8,
        refused=(
            ("widths", []),
            ("widths", [8, 0]),
            ("widths", "8"),
            ("norm", "layer"),
            ("activation", "tanh"),
        ),
    ),
    "unet-mobilenetv2": Small(
        options={"widths": (8, 8, 8, 4, 4)},
        multiple=32,
        refused=(
            ("encoder", "resnet34"),
            ("widths", [16, 16, 16, 16]),
            ("widths", [16, 16, 16, 16, 0]),
        ),
    ),
    "unetpp": Small(
        options={"widths": (4, 6, 8)},
        multiple=4,
        refused=(
            ("widths", []),
            ("widths", [8]),
            ("widths", [8, 16, 0]),
            ("depth", 0),
            ("depth", 5),
            ("norm", "layer"),
            ("upsampling", "nearest"),
            ("as_released", "pytorch"),
            ("dims", 1),
        ),
        aside=("heads.1",),
        head="heads.4",
    ),
    "unext": Small(
        options={"widths": (4, 6, 8, 10, 12)},
        multiple=32,
        refused=(
            ("widths", []),
            ("widths", [8]),
            ("widths", [8, 8, 8, 8, 0]),
            ("widths", "8"),
        ),
    ),
}
# Networks that are pointed at something have a contract of their own, and so do those of volumes.
PLAIN = [
    name
    for name in systems.names()
    if 2 in systems.load_card(name).dims and not systems.load_card(name).prompts
]
OF_NETWORK = {systems.load_card(name).network: small for name, small in SMALL.items()}


def small_forms() -> dict[str, Small]:
    """By system: of every network all forms that differ, such as one for each encoder."""
    forms: dict[str, Small] = {}
    seen = []
    for name in systems.names():
        network = systems.load_card(name).network
        if network in OF_NETWORK:
            made = (network, network_options(name, OF_NETWORK[network].options))
            if made not in seen:
                seen.append(made)
                forms[name] = OF_NETWORK[network]
    return forms


FORMS = small_forms()
EVERY = pytest.mark.parametrize("system", FORMS)


def build(system: str, channels: int = 3, classes: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return create_model(system, in_channels=channels, num_classes=classes, **FORMS[system].options)


# For tests that leave the weights as they are.
built_once = functools.cache(build)


@pytest.mark.parametrize("system", PLAIN)
def test_the_network_of_every_system_is_asked_here(system: str) -> None:
    network = systems.load_card(system).network
    assert network in OF_NETWORK, (
        f'{network} is not tested: add a row "{system}": Small(...) to SMALL in {__file__}, '
        "with options for a few thousand parameters and values that it refuses"
    )


@settings(deadline=None, max_examples=15)
@given(data=st.data(), channels=st.sampled_from([1, 3]), classes=st.sampled_from([1, 4, 9]))
@EVERY
def test_logits_have_the_size_of_the_image(
    system: str, data: st.DataObject, channels: int, classes: int
) -> None:
    side = st.integers(1, FORMS[system].largest)
    height, width = data.draw(side), data.draw(side)
    shape = shape_of_logits(built_once(system, channels, classes), 2, channels, height, width)
    assert shape == (2, classes, height, width)


@EVERY
def test_a_pixel_a_row_and_a_column_have_logits(system: str) -> None:
    network = built_once(system, 3, 1)
    for size in ((1, 1), (1, 67), (67, 1)):
        assert shape_of_logits(network, 1, 3, *size) == (1, 1, *size)


@pytest.mark.parametrize("system", [name for name, small in FORMS.items() if small.multiple > 1])
def test_an_image_of_another_size_is_segmented_as_if_its_edge_went_on(system: str) -> None:
    network, multiple = build(system, channels=1).eval(), FORMS[system].multiple
    x = torch.randn(1, 1, 21, 62)
    continued = torch.cat([x, x[:, :, -1:].expand(-1, -1, -21 % multiple, -1)], 2)
    continued = torch.cat([continued, continued[..., -1:].expand(-1, -1, -1, -62 % multiple)], 3)
    torch.testing.assert_close(network(x), network(continued)[..., :21, :62])


@EVERY
def test_every_parameter_that_is_not_aside_gets_a_gradient(system: str) -> None:
    small = FORMS[system]
    network = small.alive(build(system))
    aside = [
        name for name, _ in network.named_parameters() if name.rpartition(".")[0] in small.aside
    ]
    assert without_gradient(network, 4, 3, 64, 96) == aside


@EVERY
def test_its_loss_falls(system: str) -> None:
    losses = losses_of_training(build(system, channels=1), FORMS[system].steps)
    assert losses[-1] < 0.9 * losses[0]


@EVERY
def test_a_traced_network_gives_the_same_logits_at_any_size(system: str) -> None:
    network = fill_and_normalise(build(system)).to(FORMS[system].traced_in)
    with warnings.catch_warnings():
        if FORMS[system].tracer_warns:
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
        difference = traced_difference(network, (64, 64), (17, 29), (136, 40))
    assert difference < 1e-5


@pytest.mark.parametrize(
    ("system", "option", "value"),
    [(system, *bad) for system, small in SMALL.items() for bad in small.refused],
)
def test_a_bad_option_is_an_error_that_names_it_and_its_value(
    system: str, option: str, value: Any
) -> None:
    with pytest.raises(RecipeError, match=option) as caught:
        create_model(system, **{option: value})
    assert str(value) in str(caught.value)


# These are asked by tests/export/test_systems.py alone, which asks every system in every format.
EXPORTED_ELSEWHERE = {
    "encoder-axial",
    "encoder-convnext",
    "encoder-mobilenetv2",
    "encoder-plain",
    "encoder-residual",
    "med2d-segnet",
    "mk-unet-m",
    "mk-unet-s",
    "unet",
    "unet-narrow",
    "unetpp-nnunet",
}


@pytest.mark.slow
@pytest.mark.parametrize("system", sorted(set(PLAIN) - EXPORTED_ELSEWHERE))
def test_onnx_runtime_draws_the_same_mask(system: str) -> None:
    small = OF_NETWORK[systems.load_card(system).network]
    ours, theirs = exported(system, small.exported_at, fill=small.exported_with, head=small.head)
    assert abs(ours - theirs).max() < 1e-4
