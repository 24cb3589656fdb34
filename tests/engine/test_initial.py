"""What is carried over from one network to another, and what begins anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from inference.builders import BINARY, NETWORK, ORGANS, bundle
from medseg.engine.initial import Carried, Origin, carry_over, load_origin, with_channels
from medseg.errors import ModelError
from medseg.models import create_model


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """Three classes, one channel."""
    folder = tmp_path_factory.mktemp("origin")
    return load_origin(str(bundle(folder / "organs.medseg", ORGANS, channels=1)))


def build(
    origin: Origin,
    *,
    channels: int = 1,
    classes: tuple[str, ...] = tuple(ORGANS),
    options: dict[str, Any] = NETWORK,
    seed: int = 1,
) -> tuple[nn.Module, dict[str, Tensor], Carried]:
    """A network with other weights, those weights, and what was carried over into it."""
    torch.manual_seed(seed)
    outputs = 1 if len(classes) == 2 else len(classes)
    network = create_model("med2d-segnet", in_channels=channels, num_classes=outputs, **options)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    carried = carry_over(
        network,
        origin,
        system="med2d-segnet",
        options=options,
        in_channels=channels,
        num_classes=outputs,
        classes=classes,
    )
    return network, before, carried


def test_of_the_same_task_everything_is_carried_over(organs: Origin) -> None:
    network, _, carried = build(organs)
    assert carried.adapted == carried.fresh == ()
    assert carried.numbers == carried.total
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, organs.weights[name]), name


@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(("background", "liver"), id="fewer"),
        pytest.param(("background", "liver", "vein", "cyst"), id="more"),
        pytest.param(("background", "vein", "liver"), id="as many others"),
    ],
)
def test_the_head_begins_anew_where_classes_differ(
    organs: Origin, classes: tuple[str, ...]
) -> None:
    network, before, carried = build(organs, classes=classes)
    assert carried.fresh == ("head.weight", "head.bias")
    assert carried.adapted == ()
    for name, tensor in network.state_dict().items():
        expected = before[name] if name.startswith("head.") else organs.weights[name]
        assert torch.equal(tensor, expected), name


def test_one_foreground_class_takes_the_place_of_another(tmp_path: Path) -> None:
    origin = load_origin(str(bundle(tmp_path / "nucleus.medseg", BINARY)))
    _, _, carried = build(origin, channels=3, classes=("background", "polyp"))
    assert carried.fresh == ()


def test_a_first_convolution_is_made_for_other_channels(organs: Origin) -> None:
    network, _, carried = build(organs, channels=3)
    assert len(carried.adapted) == 1
    (name,) = carried.adapted
    kernel, old = network.state_dict()[name], organs.weights[name]
    assert kernel.shape[1] == 3
    assert torch.allclose(kernel, old.expand_as(kernel) / 3)
    assert carried.fresh == ()


@given(before=st.integers(1, 6), after=st.integers(1, 6), seed=st.integers(0, 100))
def test_an_image_of_alike_channels_is_answered_as_before(
    before: int, after: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    kernel = torch.randn(4, before, 3, 3, generator=random)
    plane = torch.randn(1, 1, 8, 8, generator=random)
    old = nn.functional.conv2d(plane.expand(1, before, 8, 8), kernel)
    new = nn.functional.conv2d(plane.expand(1, after, 8, 8), with_channels(kernel, after))
    assert torch.allclose(old, new, atol=1e-4)


def test_layers_of_another_shape_begin_anew(organs: Origin) -> None:
    network, before, carried = build(organs, options={**NETWORK, "widths": [4, 6, 12]})
    assert carried.whole
    assert carried.fresh
    for name in carried.fresh:
        assert torch.equal(network.state_dict()[name], before[name]), name


def test_the_randomness_of_a_training_is_left_as_it_was(organs: Origin) -> None:
    build(organs, seed=5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    create_model("med2d-segnet", in_channels=1, num_classes=3, **NETWORK)
    assert torch.equal(torch.rand(1), drawn)


def test_a_network_that_nothing_fits_is_refused(organs: Origin) -> None:
    network = create_model("unet", in_channels=1, num_classes=3, widths=[4, 8])
    with pytest.raises(ModelError, match=r"\(med2d-segnet\) do not fit unet: \d+ of "):
        carry_over(
            network,
            organs,
            system="unet",
            options={"widths": [4, 8]},
            in_channels=1,
            num_classes=3,
            classes=tuple(ORGANS),
        )


def test_what_was_carried_over_is_said_in_a_line(organs: Origin) -> None:
    _, _, carried = build(organs, channels=3, classes=("background", "liver"))
    text = str(carried)
    assert f"{carried.numbers:,} of {carried.total:,} numbers carried over" in text
    assert text.endswith("from other channels; new: head.weight, head.bias")
    many = Carried((), (), tuple(f"layer{n}" for n in range(9)), 0, 9)
    assert str(many).endswith("layer5 and 3 tensors more")


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "model.medseg")
    sha256 = load_origin(str(path)).manifest.weights_sha256
    assert load_origin(str(path), sha256).name == str(path)
    bundle(path, seed=3)
    with pytest.raises(ModelError, match="not those that the run began from"):
        load_origin(str(path), sha256)


def test_a_graph_has_no_weights_to_train_further(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(ModelError, match=r"--init .*model.onnx: it is no model that can be"):
        load_origin(str(tmp_path / "model.onnx"))
