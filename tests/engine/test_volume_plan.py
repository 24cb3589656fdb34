"""What ``auto`` means for volumes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.volumes.fingerprint import (
    ChannelFacts,
    VolumeClassFacts,
    VolumeFingerprint,
    intensity_rules,
    target_spacing,
)
from medseg.engine.plan import Plan
from medseg.engine.volume_plan import make_volume_plan, plan_patch
from medseg.errors import MedsegError
from medseg.methods.supervised import Supervised
from medseg.recipe import Recipe, parse_recipe

MR = ChannelFacts(low=10, high=90, mean=50, std=20, smallest=0)
CT = ChannelFacts(low=-60, high=180, mean=70, std=40, smallest=-1024)
FOUND = VolumeFingerprint(
    cases=30, labelled=30, patients=30, training=20, looked_at=20, plane="axial",
    shapes=((40, 100, 90),) * 20, spacings=((1.0, 1.0, 1.0),) * 20, channels=1, modalities=(),
    intensities=(MR,), empty_share=0.0, classes=(VolumeClassFacts("liver", 0.1, 1.0),),
)  # fmt: skip


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(image)
        return found


def plan(
    found: VolumeFingerprint = FOUND, device: str = "cpu", processes: int = 1, **values: Any
) -> Plan:
    return make_volume_plan(
        parse_recipe({"system": "stu-net-s", **values}),
        found,
        layout="folders",
        device=torch.device(device),
        precision="fp32",
        processes=processes,
        build=lambda recipe: Supervised(Small(), recipe),
    )


def any_size(patch: tuple[int, int, int]) -> bool:
    return True


def test_small_volumes_fit_into_one_patch() -> None:
    patch, reason = plan_patch((35, 50, 34), (1.0, 1.0, 1.0), 10**6, any_size)
    assert patch == (40, 56, 40)
    assert reason == "the median volume"


@given(
    shape=st.tuples(*[st.floats(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 10)] * 3),
    voxels=st.integers(16**3, 128**3),
)
@settings(max_examples=60, deadline=None)
def test_a_patch_keeps_the_budget_in_multiples_of_8(
    shape: tuple[float, float, float], spacing: tuple[float, float, float], voxels: int
) -> None:
    patch, _ = plan_patch(shape, spacing, voxels, any_size)
    assert math.prod(patch) <= voxels
    assert all(side % 8 == 0 and side >= 16 for side in patch)


def test_a_patch_is_cut_where_it_is_longest_in_mm() -> None:
    patch, reason = plan_patch((64, 64, 64), (4.0, 1.0, 1.0), 32 * 64 * 64, any_size)
    assert patch == (32, 64, 64)
    assert "131,072 voxels" in reason


def test_a_patch_is_cut_until_it_fits_into_memory() -> None:
    patch, reason = plan_patch((64, 64, 64), None, 10**9, lambda patch: math.prod(patch) <= 48**3)
    assert math.prod(patch) <= 48**3
    assert "memory" in reason


def test_nothing_is_left_to_auto() -> None:
    recipe = plan().recipe
    assert "auto" not in (
        recipe.data.spacing, recipe.data.patch, recipe.data.patches_per_volume,
        recipe.data.channels, recipe.train.epochs, recipe.train.batch_size, recipe.train.patience,
        recipe.augment3d.flip,
    )  # fmt: skip


def test_what_is_set_stays() -> None:
    made = plan(data={"patch": (16, 24, 32), "spacing": (2, 2, 2), "patches_per_volume": 3})
    assert made.recipe.data.patch == (16, 24, 32)
    assert made.recipe.data.spacing == (2, 2, 2)
    assert made.recipe.data.patches_per_volume == 3
    assert not made.choices["data.patch"].auto


def test_larger_volumes_give_more_patches_an_epoch() -> None:
    assert plan().choices["data.patches_per_volume"].value == 4
    small = replace(FOUND, shapes=((16, 16, 16),) * 20)
    assert plan(small).choices["data.patches_per_volume"].value == 1


def test_the_batch_is_a_multiple_of_the_processes() -> None:
    assert plan(processes=3).recipe.train.batch_size == 3


def test_names_that_tell_left_from_right_are_not_mirrored() -> None:
    sided = (VolumeClassFacts("Left kidney", 0.1, 1.0), VolumeClassFacts("right-kidney", 0.1, 1.0))
    assert plan(replace(FOUND, classes=sided)).recipe.augment3d.flip == ("slices", "rows")
    sagittal = replace(FOUND, classes=sided, plane="sagittal")
    assert plan(sagittal).recipe.augment3d.flip == ("rows", "columns")
    alike = (VolumeClassFacts("leftover", 0.1, 1.0),)
    assert plan(replace(FOUND, classes=alike)).recipe.augment3d.flip == (
        "slices", "rows", "columns",
    )  # fmt: skip


def test_what_does_not_fit_into_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.engine.volume_plan.free_memory", lambda device: 1000)
    with pytest.raises(MedsegError, match=r"16 x 16 x 16 voxels takes .* are free"):
        plan()


def test_the_target_is_the_median_spacing() -> None:
    spacings = ((1.0, 0.5, 0.5), (2.0, 0.6, 0.6), (2.5, 0.7, 0.7))
    target, reason = target_spacing(replace(FOUND, spacings=spacings))
    assert target == (2.0, 0.6, 0.6)
    assert "median" in reason


def test_far_apart_slices_take_the_finer_tenth() -> None:
    spacings = tuple((float(mm), 1.0, 1.0) for mm in range(4, 15))
    found = replace(FOUND, shapes=((12, 200, 200),) * 11, spacings=spacings)
    target, reason = target_spacing(found)
    assert target == (5.0, 1.0, 1.0)
    assert "10th percentile" in reason


def test_without_a_spacing_nothing_is_resampled() -> None:
    assert target_spacing(replace(FOUND, spacings=None))[0] is None
    assert plan(replace(FOUND, spacings=None)).recipe.data.spacing == "auto"


def test_a_spacing_that_no_file_says_can_be_stated() -> None:
    thick = plan(replace(FOUND, spacings=None), data={"spacing": (8, 1, 1)})
    assert thick.choices["data.spacing"].value == (8, 1, 1)
    # 40 slices of 8 mm are the longest side.
    assert thick.recipe.data.patch[0] < plan().recipe.data.patch[0]


@pytest.mark.parametrize(
    ("facts", "modalities", "wanted", "kind"),
    [
        (MR, (), "auto", "zscore"),
        (CT, (), "auto", "zscore"),
        (CT, (), "ct", "ct"),
        (MR, ("CT",), "auto", "ct"),
        (CT, ("PET",), "auto", "zscore"),
        (CT, ("Contrast agent T1",), "auto", "zscore"),
        (CT, (), "zscore", "zscore"),
        (MR, ("MRI",), "ct", "ct"),
    ],
)
def test_the_modality_decides_how_values_are_normalised(
    facts: ChannelFacts, modalities: tuple[str, ...], wanted: str, kind: str
) -> None:
    found = replace(FOUND, intensities=(facts,), modalities=modalities)
    (rule,), reason = intensity_rules(found, wanted)
    assert rule.kind == kind
    assert reason
    if kind == "ct":
        assert (rule.low, rule.high, rule.mean, rule.std) == (
            facts.low, facts.high, facts.mean, facts.std,
        )  # fmt: skip


def test_values_that_may_be_hu_are_pointed_out() -> None:
    assert "set ct" in intensity_rules(replace(FOUND, intensities=(CT,)), "auto")[1]
    assert "set ct" not in intensity_rules(FOUND, "auto")[1]


def test_volumes_that_are_empty_around_the_body_are_normalised_by_the_rest() -> None:
    assert intensity_rules(replace(FOUND, empty_share=0.6), "auto")[0][0].foreground
    assert not intensity_rules(replace(FOUND, empty_share=0.1), "auto")[0][0].foreground


def test_the_recipe_of_a_plan_gives_the_same_plan() -> None:
    first = plan()
    again = make_volume_plan(
        first.recipe,
        FOUND,
        layout="folders",
        device=torch.device("cpu"),
        precision="fp32",
        processes=1,
        build=lambda recipe: Supervised(Small(), recipe),
    )
    assert again.recipe == first.recipe
    assert isinstance(again.recipe, Recipe)
