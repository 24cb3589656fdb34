from __future__ import annotations

import pytest
import torch
from torch import nn

from losses.samples import sample
from medseg.errors import RecipeError
from medseg.losses.fair import fair_error_bound_loss, group_error_loss
from medseg.losses.region import cross_entropy
from medseg.methods.fairseg import FairSeg
from medseg.methods.method import Batch, TrainingData
from medseg.recipe import parse_recipe

RECIPE = parse_recipe({})


def make_batch(group: list[int], seed: int = 0) -> Batch:
    image, mask = sample(seed, 3, batch=len(group))
    return {
        "image": image.float(),
        "mask": mask,
        "case_id": tuple(map(str, group)),
        "group": torch.tensor(group),
    }


def data_of(*groups: str) -> TrainingData:
    return TrainingData(split={}, images={}, num_classes=3, mean=(0,), std=(1,), groups=groups)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.8])
def test_the_losses_are_a_cross_entropy_and_a_scaled_dice_that_share_the_weight(
    weight: float,
) -> None:
    batch = make_batch([0, 1, 1])
    found = FairSeg(nn.Identity(), RECIPE, gamma=2.0, fair_weight=weight)(batch)
    logits, mask = batch["image"], batch["mask"]
    fair = fair_error_bound_loss(logits, mask, batch["group"], gamma=2.0)
    assert float(found["cross_entropy"]) == pytest.approx(
        (1 - weight) * float(cross_entropy(logits, mask))
    )
    assert float(found["fair_dice"]) == pytest.approx(weight * float(fair))


def test_as_released_all_groups_of_the_data_count_wherever_they_are() -> None:
    batch = make_batch([0, 1, 1])
    for released, loss in ((False, 0.5), (True, 1.0)):
        method = FairSeg(nn.Identity(), RECIPE, as_released=released)
        method.prepare(data_of("a", "b", "c"))
        found = 2 * float(method(batch)["fair_dice"])
        assert (found > 0.999) == (loss == 1.0)


@pytest.mark.parametrize("options", [{"gamma": -1.0}, {"fair_weight": 1.5}, {"fair_weight": -0.1}])
def test_a_value_out_of_its_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        FairSeg(nn.Identity(), RECIPE, **options)  # type: ignore[arg-type]


def test_side_outputs_are_refused() -> None:
    recipe = parse_recipe({"loss": {"deep_supervision": [0.5]}})
    with pytest.raises(RecipeError, match="no losses of side outputs"):
        FairSeg(nn.Identity(), recipe)


def test_the_weights_may_be_those_of_the_losses_instead() -> None:
    batch = make_batch([0, 1, 1])
    found = FairSeg(nn.Identity(), RECIPE, scaled="losses", gamma=2.0)(batch)
    fair = group_error_loss(batch["image"], batch["mask"], batch["group"], gamma=2.0)
    assert float(found["fair_dice"]) == pytest.approx(0.5 * float(fair))
    with pytest.raises(ValueError, match="as_released"):
        FairSeg(nn.Identity(), RECIPE, scaled="losses", as_released=True)
