from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.engine.run import make_recipe
from medseg.errors import RecipeError
from medseg.losses.region import cross_entropy, dice_loss
from medseg.methods.method import Batch
from medseg.methods.text_driven import TextDriven
from medseg.networks.language.text_network import TextNetwork
from medseg.recipe import Recipe

SETTINGS = {"system": "vlsm-adapter", "loss": {"dice": 1.5, "cross_entropy": 1.0}}


class Listener(TextNetwork):
    """Gives the image, and remembers what it was asked."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = frozen
        self.asked: list[Sequence[str] | None] = []

    def ask(self, image: Tensor, sentences: Sequence[str]) -> Tensor:
        return image[:, :1].expand(-1, len(sentences), -1, -1)

    def forward(self, image: Tensor, texts: Sequence[str] | None = None) -> Tensor:
        self.asked.append(texts)
        return self.scale * image


def waves() -> tuple[Tensor, Tensor]:
    """Logits and a mask, which the official loss was computed of, too."""
    n = torch.arange(40, dtype=torch.float64).view(2, 1, 4, 5)
    mask = (torch.sin(1.1 + 0.37 * n) > 0.2).to(torch.uint8)
    return 3 * torch.sin(0.5 + 0.37 * n), mask[:, 0]


def batch_of(**more: Any) -> Batch:
    image, mask = waves()
    return {"image": image, "mask": mask, "case_id": ["a", "b"], **more}  # type: ignore[typeddict-item]


def method_of(network: nn.Module | None = None, **options: Any) -> TextDriven:
    return TextDriven(network or Listener(), Recipe(**SETTINGS), **options)


def test_each_image_is_asked_for_what_its_sentence_says() -> None:
    network = Listener()
    losses = method_of(network).training_step(batch_of(text=["a polyp", "nuclei"]))
    assert network.asked == [["a polyp", "nuclei"]]
    logits, mask = (each.float() if each.is_floating_point() else each for each in waves())
    assert losses["dice"].item() == pytest.approx(1.5 * dice_loss(logits, mask).item())
    assert losses["cross_entropy"].item() == pytest.approx(cross_entropy(logits, mask).item())


def test_as_released_probabilities_are_taken_for_logits_in_the_cross_entropy_alone() -> None:
    batch = batch_of(text=["", ""])
    released, meant = (method_of(as_released=each).training_step(batch) for each in (True, False))
    # monai 1.6.1, DiceCELoss(lambda_dice=0)(sigmoid(logits), mask).
    assert released["cross_entropy"].item() == pytest.approx(0.6393604970502725, abs=1e-6)
    assert released["dice"].item() == meant["dice"].item()
    assert meant["cross_entropy"].item() != pytest.approx(0.639360, abs=1e-3)


def test_images_without_content_have_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Listener()
    method_of(network).training_step(batch_of())
    assert network.asked == [["", ""]]


def test_a_network_that_is_frozen_around_random_weights_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"network\.weights.*nothing is downloaded.*size=tiny"):
        method_of(Listener(frozen=True))
    recipe = Recipe(**SETTINGS, init="runs/first")
    assert TextDriven(Listener(frozen=True), recipe).network.frozen


@pytest.mark.parametrize("absent", [-0.1, 1.0])
def test_a_share_that_is_none_is_an_error(absent: float) -> None:
    with pytest.raises(ValueError, match="absent="):
        method_of(absent=absent)


def test_side_outputs_are_not_weighed() -> None:
    recipe = Recipe(system="vlsm-adapter", loss={"deep_supervision": (1.0,)})
    with pytest.raises(RecipeError, match=r"loss\.deep_supervision"):
        TextDriven(Listener(), recipe)


def test_networks_and_methods_that_do_not_fit_are_refused_before_any_data_is_read() -> None:
    tiny = ["network.size=tiny"]
    with pytest.raises(RecipeError, match="method=text-driven"):
        make_recipe({"system": "vlsm-adapter", "method": "supervised"}, tiny)
    with pytest.raises(RecipeError, match="unet takes no prompts"):
        make_recipe({"system": "unet", "method": "text-driven"}, [])
    assert make_recipe({"system": "vlsm-adapter"}, tiny).method == "text-driven"


def test_a_network_that_is_pointed_at_otherwise_is_refused() -> None:
    class Clicked(nn.Module):
        prompts = ("point",)

    with pytest.raises(RecipeError, match=r"does not take text.*method=interactive"):
        method_of(Clicked())
