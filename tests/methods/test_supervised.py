from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import RecipeError
from medseg.losses.boundary import boundary_loss
from medseg.losses.lovasz import lovasz_loss
from medseg.losses.tversky import tversky_loss
from medseg.losses.weighted import weighted_losses
from medseg.methods.method import Batch
from medseg.methods.supervised import Supervised
from medseg.networks.images.mk_unet import MKUNet
from medseg.recipe import Recipe, parse_recipe


class TwoSides(nn.Module):
    """Logits and two side outputs, from a convolution each."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(3, 1, 1) for _ in range(3))

    def forward_all(self, image: Tensor) -> list[Tensor]:
        return [head(image) for head in self.heads]

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_all(image)[0]


def recipe_with(**loss: Any) -> Recipe:
    return parse_recipe({"loss": loss})


def make_batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 2, (4, 8, 8), generator=random).to(torch.uint8)
    image = torch.randn(4, 3, 8, 8, generator=random)
    return {"image": image, "mask": mask, "case_id": tuple("abcd")}


def test_each_term_has_its_weight_and_its_options() -> None:
    settings = {"tversky": 2, "tversky_alpha": 0.2, "tversky_beta": 0.8, "tversky_gamma": 0.5}
    method = Supervised(
        nn.Conv2d(3, 1, 1),
        recipe_with(cross_entropy=0, dice=0, lovasz=3, boundary=0.25, **settings),
    )
    batch = make_batch()
    logits, mask = method.network(batch["image"]), batch["mask"]
    losses = method.training_step(batch)
    assert losses.keys() == {"tversky", "lovasz", "boundary"}
    torch.testing.assert_close(
        losses["tversky"], 2 * tversky_loss(logits, mask, alpha=0.2, beta=0.8, gamma=0.5)
    )
    torch.testing.assert_close(losses["lovasz"], 3 * lovasz_loss(logits, mask))
    torch.testing.assert_close(losses["boundary"], boundary_loss(logits, mask) / 4)


def test_side_outputs_get_the_same_losses_times_their_weights() -> None:
    network, batch = TwoSides(), make_batch()
    recipe = recipe_with(deep_supervision=(0.5, 0.25))
    losses = Supervised(network, recipe).training_step(batch)
    logits, *sides = network.forward_all(batch["image"])
    expected = weighted_losses(logits, batch["mask"], recipe.loss)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    totals = [sum(weighted_losses(s, batch["mask"], recipe.loss).values()) for s in sides]
    torch.testing.assert_close(losses["deep_supervision"], totals[0] / 2 + totals[1] / 4)


def test_side_heads_learn_only_with_deep_supervision() -> None:
    network = MKUNet(widths=(4, 4, 8, 8, 8))
    batch = make_batch()
    batch["image"], batch["mask"] = batch["image"].repeat(1, 1, 4, 4), batch["mask"].repeat(1, 4, 4)

    def gradients(*weights: float) -> list[Tensor | None]:
        network.zero_grad()
        losses = Supervised(network, recipe_with(deep_supervision=weights)).training_step(batch)
        torch.stack(list(losses.values())).sum().backward()
        return [head.weight.grad for head in network.sides]

    assert gradients() == [None, None, None]
    assert all(grad is not None and grad.any() for grad in gradients(1, 1, 1))


def test_a_network_without_side_outputs_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no side outputs"):
        Supervised(nn.Conv2d(3, 1, 1), recipe_with(deep_supervision=(1,)))


def test_a_wrong_number_of_weights_is_refused() -> None:
    method = Supervised(TwoSides(), recipe_with(deep_supervision=(1, 1, 1)))
    with pytest.raises(RecipeError, match="3 weights for the 2 side outputs"):
        method.training_step(make_batch())


def test_a_recipe_in_which_nothing_is_minimised_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least one weight"):
        recipe_with(cross_entropy=0, dice=0, deep_supervision=(1,))
