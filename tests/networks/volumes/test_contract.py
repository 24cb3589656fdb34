"""What every network of volumes satisfies, asked of a small form of each.

A new network needs a row in ``SMALL``, under one of its systems.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images.checks import fill_with_waves, shape_of_logits, without_gradient
from torch import nn

from medseg import systems
from medseg.errors import RecipeError
from medseg.export.graph import quiet
from medseg.losses.region import cross_entropy, dice_loss
from medseg.models import create_model


@dataclass(frozen=True)
class Small:
    """A network of a few thousand parameters, and what is its own in what all satisfy."""

    options: Mapping[str, Any]
    multiple: tuple[int, int, int]
    """Of voxels, to which the end of each axis is continued; 1 where it is not."""
    refused: tuple[tuple[str, Any], ...]
    """Options and values that are errors."""
    aside: tuple[str, ...] = ()
    """Modules that the logits do not depend on."""
    steps: int = 12
    """Of training, after which the loss is lower by a tenth."""
    tracer_warns: bool = False
    """Of shapes that are right at every size."""


SMALL: Mapping[str, Small] = {
    "lightm-unet": Small(
        options={"width": 8, "depths": (1, 0, 1, 0), "dims": 3},
        multiple=(8, 8, 8),
        refused=(("dims", 4), ("width", 6)),
        tracer_warns=True,
    ),
    "stu-net": Small(
        options={"widths": (4, 6, 8), "strides": ((2, 2, 2), (1, 2, 2))},
        multiple=(2, 4, 4),
        refused=(
            ("widths", [8]),
            ("widths", [32, 64, 128, 256, 512, 0]),
            ("depth", 0),
            ("strides", [[2, 2, 2]]),
            ("strides", [[0, 2, 2]]),
        ),
        aside=("heads.0",),
    ),
    "unetpp": Small(
        options={"widths": (4, 6, 8), "dims": 3},
        multiple=(4, 4, 4),
        refused=(("dims", 4),),
        aside=("heads.1",),
    ),
}
OF_NETWORK = {systems.load_card(name).network: small for name, small in SMALL.items()}
EVERY = pytest.mark.parametrize("system", SMALL)


def build(system: str, channels: int = 1, classes: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return create_model(system, in_channels=channels, num_classes=classes, **SMALL[system].options)


# For tests that leave the weights as they are.
built_once = functools.cache(build)


@pytest.mark.parametrize(
    "system",
    [name for name in systems.names() if 3 in systems.load_card(name).dims],
)
def test_the_network_of_every_system_is_asked_here(system: str) -> None:
    network = systems.load_card(system).network
    assert network in OF_NETWORK, (
        f'{network} is not tested: add a row "{system}": Small(...) to SMALL in {__file__}, '
        "with options for a few thousand parameters and values that it refuses"
    )


@settings(deadline=None, max_examples=12)
@given(
    size=st.tuples(*[st.integers(1, 13)] * 3),
    channels=st.sampled_from([1, 3]),
    classes=st.sampled_from([1, 4]),
)
@EVERY
def test_logits_have_the_size_of_the_volume(
    system: str, size: tuple[int, int, int], channels: int, classes: int
) -> None:
    shape = shape_of_logits(built_once(system, channels, classes), 2, channels, *size)
    assert shape == (2, classes, *size)


@EVERY
def test_a_voxel_has_logits(system: str) -> None:
    assert shape_of_logits(built_once(system), 1, 1, 1, 1, 1) == (1, 1, 1, 1, 1)


@EVERY
def test_a_volume_of_another_size_is_segmented_as_if_its_end_went_on(system: str) -> None:
    network = built_once(system).eval()
    x = torch.randn(1, 1, 5, 6, 7)
    continued = x
    for axis, multiple in enumerate(SMALL[system].multiple, 2):
        missing = -x.shape[axis] % multiple
        last = continued.narrow(axis, continued.shape[axis] - 1, 1)
        continued = torch.cat([continued, *[last] * missing], dim=axis)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network(continued)[:, :, :5, :6, :7])


@EVERY
def test_every_parameter_that_is_not_aside_gets_a_gradient(system: str) -> None:
    network = build(system).eval()
    aside = [
        name
        for name, _ in network.named_parameters()
        if name.rpartition(".")[0] in SMALL[system].aside
    ]
    # Before a norm of instances a bias has a gradient of rounding errors, or none.
    gone = without_gradient(network, 2, 1, 8, 16, 16)
    assert set(aside) <= set(gone)
    assert [name for name in gone if name not in aside and not name.endswith("bias")] == []


@EVERY
def test_its_loss_falls(system: str) -> None:
    network = build(system)
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.arange(16)] * 3, indexing="ij")
    masks = torch.stack([sum((a - c) ** 2 for a in axes) < 25 for c in (6, 10)])
    volumes = masks[:, None] + 0.5 * torch.randn(2, 1, 16, 16, 16)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(SMALL[system].steps):
        logits = network.train()(volumes)
        loss = cross_entropy(logits, masks.byte()) + dice_loss(logits, masks.byte())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@EVERY
def test_a_traced_network_gives_the_same_logits_at_any_size(system: str) -> None:
    # In double precision, as rounding errors may grow along a network of waves.
    network = fill_with_waves(build(system)).double()
    example = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64)
    with warnings.catch_warnings():
        if SMALL[system].tracer_warns:
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced: Any = torch.jit.trace(network, example, check_trace=False)
    with torch.inference_mode():
        for size in ((9, 17, 12), (8, 32, 16)):
            x = torch.randn(2, 1, *size, dtype=torch.float64)
            torch.testing.assert_close(traced(x), network(x))


@pytest.mark.parametrize(
    ("system", "option", "value"),
    [(system, *bad) for system, small in SMALL.items() for bad in small.refused],
)
def test_a_bad_option_is_an_error_that_names_it_and_its_value(
    system: str, option: str, value: Any
) -> None:
    with pytest.raises(RecipeError, match=option) as caught:
        create_model(system, **{option: value})
    assert str(value).strip("[]") in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("system", SMALL)
def test_onnx_runtime_gives_the_same_logits_at_another_size(system: str) -> None:
    network = fill_with_waves(build(system))
    dims = {0: "batch", 2: "depth", 3: "height", 4: "width"}
    x = torch.sin(torch.arange(2 * 16 * 24 * 20).view(2, 1, 16, 24, 20) * 0.37)
    # The exporter warns of what PyTorch itself will change.
    with quiet():
        program: Any = torch.onnx.export(
            network,
            (torch.zeros(2, 1, 16, 16, 16),),
            dynamo=True,
            opset_version=18,
            input_names=["image"],
            dynamic_shapes=(dict.fromkeys(dims, torch.export.Dim.DYNAMIC),),
            verbose=False,
        )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": x.numpy()})
    with torch.inference_mode():
        single, exact = network(x), network.double()(x.double())
    # A long scan rounds by more than 1e-4 in PyTorch's single precision, too.
    rounding = float((single - exact).abs().max())
    assert float((torch.from_numpy(found) - exact).abs().max()) < max(1e-4, 2 * rounding)
