from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images.checks import fill_with_waves, on_meta
from torch import Tensor

from medseg.errors import RecipeError
from medseg.models import create_model
from medseg.networks.promptable.scribbleprompt import ScribblePromptUNet
from medseg.nn.blocks import count_parameters
from medseg.nn.prompts import PromptTensors

OFFICIAL = [-0.4866032302379608, 19.121501922607422, -1.2202953100204468, 3.1854960918426514]


def small(in_channels: int = 1) -> ScribblePromptUNet:
    torch.manual_seed(0)
    return ScribblePromptUNet(in_channels, widths=(4, 6)).eval()


def waves(*shape: int, step: float) -> Tensor:
    values = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * step)
    return values.float().view(shape)


def pointed(height: int, width: int) -> PromptTensors:
    """A box, clicks, strokes and an earlier mask in one image."""
    return PromptTensors(
        torch.tensor([[[3, 5], [10, 20], [31, 2]]]) % torch.tensor([width, height]),
        torch.tensor([[1, 0, 1]]),
        torch.tensor([[[4, 6, 20, 30]]]).clamp(max=min(height, width)),
        waves(1, 2, height, width, step=0.11).abs(),
        waves(1, 1, height, width, step=0.23),
    )


def test_it_has_as_many_parameters_as_the_official_one() -> None:
    assert count_parameters(on_meta(ScribblePromptUNet)) == 3_991_882


def test_its_weights_have_the_published_names() -> None:
    names = set(on_meta(ScribblePromptUNet).state_dict())
    blocks = [*(f"downs.{i}" for i in range(4)), *(f"ups.{i}" for i in (1, 3, 5, 7)), "bottleneck"]
    parts = ("conv.0.weight", "conv.0.bias", "conv.1.weight")
    final = {"final_conv.conv.0.weight", "final_conv.conv.0.bias"}
    assert names == {f"{block}.{part}" for block in blocks for part in parts} | final


def test_it_computes_what_the_official_code_computes() -> None:
    """Weights, image and prompts of waves; the numbers are the official code's."""
    network = fill_with_waves(ScribblePromptUNet(widths=(12,) * 4))
    with torch.inference_mode():
        logits = network(waves(1, 1, 48, 32, step=0.37).abs(), pointed(48, 32))
    found = [logits.mean().item(), logits.std().item(), *logits[0, 0, 7, 11:13].tolist()]
    assert found == pytest.approx(OFFICIAL, rel=1e-4)


@settings(deadline=None, max_examples=15)
@given(height=st.integers(1, 40), width=st.integers(1, 40), channels=st.sampled_from([1, 3]))
def test_logits_have_the_size_of_the_image(height: int, width: int, channels: int) -> None:
    image = torch.randn(1, channels, height, width)
    assert small(channels)(image, pointed(height, width)).shape == (1, 1, height, width)


def test_without_prompts_it_is_as_if_nothing_were_pointed_at() -> None:
    image = torch.randn(2, 1, 9, 14)
    network = small()
    torch.testing.assert_close(network(image), network(image, PromptTensors.none(image)))


@pytest.mark.parametrize("kind", ["points", "boxes", "scribbles", "mask"])
def test_every_kind_of_prompt_changes_the_answer(kind: str) -> None:
    image = torch.randn(1, 1, 32, 32)
    parts = vars(PromptTensors.none(image)) | {kind: getattr(pointed(32, 32), kind)}
    if kind == "points":
        parts["labels"] = pointed(32, 32).labels
    network = small()
    assert not torch.equal(network(image, PromptTensors(**parts)), network(image))


def test_an_image_of_another_size_is_segmented_as_if_its_edge_went_on() -> None:
    network, image = small(), torch.randn(1, 1, 18, 15)
    continued = torch.cat([image, image[:, :, -1:].expand(-1, -1, 2, -1)], 2)
    continued = torch.cat([continued, continued[..., -1:]], 3)
    torch.testing.assert_close(network(image), network(continued)[..., :18, :15])


def test_it_segments_one_structure_at_a_time() -> None:
    with pytest.raises(RecipeError, match="one by one"):
        create_model("scribbleprompt", num_classes=3)


@pytest.mark.parametrize("widths", [[], [8, 0], "8"])
def test_widths_that_cannot_be_are_an_error_that_names_them(widths: object) -> None:
    with pytest.raises(RecipeError, match="widths"):
        create_model("scribbleprompt", widths=widths)
