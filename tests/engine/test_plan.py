from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.data.fingerprint import ClassFacts, Fingerprint, Intensities, Objects, Spread
from medseg.engine import plan as planning
from medseg.engine.plan import (
    Plan,
    make_plan,
    plan_batch_size,
    plan_epochs,
    plan_image_size,
)
from medseg.errors import MedsegError
from medseg.methods.supervised import Supervised
from medseg.recipe import Recipe, parse_recipe

COUNTS = st.integers(1, 100_000)


class Pixelwise(nn.Module):
    """The smallest network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layer(image)
        return out


class Curious(Pixelwise):
    """Looks at the values of its input, which a forecast does not have."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) if float(image.sum()) > 0 else super().forward(-image)


def objects(small: float, median: float, *, side: int = 400) -> Objects:
    """Objects whose diameters are given in pixels of images of ``side`` pixels."""
    across = (small, median, 2 * median)
    return Objects(10, 0, across, tuple(value / side for value in across))  # type: ignore[arg-type]


def facts(
    small: float = 30, median: float = 80, *, side: int = 400, kept: float = 0.98
) -> ClassFacts:
    """A class; masks keep ``kept`` at 256 px, half of what they lose there at twice the size."""
    dice = {size: 1 - (1 - kept) * 256 / size for size in (128, 256, 384, 512)}
    return ClassFacts("polyp", 0.1, 1.0, objects(small, median, side=side), dice)


def fingerprint(*classes: ClassFacts, training: int = 100, side: int = 400) -> Fingerprint:
    one = Spread(side, side, side)
    return Fingerprint(
        cases=training, labelled=training, patients=None, published={}, training=training,
        looked_at=training, height=one, width=one, aspect=Spread(1, 1, 1), longest=side,
        channels=3, intensities=(Intensities(100, 50, (1, 2, 3, 4, 5)),) * 3,
        classes=classes or (facts(side=side),), spacing=None,
    )  # fmt: skip


def planned(
    recipe: Recipe | None = None,
    found: Fingerprint | None = None,
    *,
    network: type[nn.Module] = Pixelwise,
    **options: Any,
) -> Plan:
    given = {"device": torch.device("cpu"), "precision": "fp32", "processes": 1, **options}
    return make_plan(
        recipe or Recipe(),
        found or fingerprint(),
        layout="folders",
        build=lambda recipe: Supervised(network(), recipe),
        **given,
    )


def size_of(found: Fingerprint, device: str = "cpu", *, presentations: int = 3000) -> int:
    chosen, reason = plan_image_size(
        found, presentations=presentations, device=device, fits=lambda size: True
    )
    assert reason
    return chosen


@given(cases=COUNTS)
def test_epochs_show_thirty_thousand_images_within_30_and_300_epochs(cases: int) -> None:
    epochs = plan_epochs(cases)
    assert 30 <= epochs <= 300
    if 100 < cases < 1000:
        assert abs(epochs * cases - 30_000) <= cases / 2


@given(cases=COUNTS, size=st.integers(16, 4096), device=st.sampled_from(["cpu", "cuda", "mps"]))
def test_a_batch_leaves_four_steps_an_epoch_or_is_one_image(
    cases: int, size: int, device: str
) -> None:
    batch = plan_batch_size(cases, size, device)
    assert 1 <= batch <= 16
    assert batch == 1 or cases // batch >= 4


@pytest.mark.parametrize(
    ("size", "batch"), [(64, 8), (128, 8), (256, 3), (352, 2), (512, 1), (1024, 1)]
)
def test_a_cpu_takes_fewer_of_larger_images(size: int, batch: int) -> None:
    assert plan_batch_size(1000, size, "cpu") == batch


@settings(deadline=None, max_examples=20)
@given(cases=st.integers(8, 5000), processes=st.integers(1, 4))
def test_nothing_is_left_to_choose_and_processes_share_evenly(cases: int, processes: int) -> None:
    recipe = planned(found=fingerprint(training=cases), processes=processes).recipe
    text = str(recipe.train.model_dump()) + str(recipe.data.channels) + str(recipe.data.image_size)
    assert "auto" not in text
    assert isinstance(recipe.train.batch_size, int)
    assert recipe.train.batch_size % processes == 0
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


def test_what_the_user_chose_is_kept_and_said_to_be_set() -> None:
    chosen = parse_recipe(
        {
            "train": {"epochs": 7, "batch_size": 5, "patience": 2, "precision": "bf16"},
            "data": {"image_size": 100, "channels": 3},
        }
    )
    plan = planned(chosen, precision="bf16")
    assert plan.recipe == chosen.model_copy(
        update={"data": chosen.data.model_copy(update={"layout": "folders"})}
    )
    keys = [f"train.{key}" for key in ("epochs", "batch_size", "patience", "precision")]
    for key in (*keys, "data.image_size", "data.channels"):
        assert plan.choices[key].reason == "set"
        assert not plan.choices[key].auto


def test_the_plan_is_json_and_gives_a_reason_for_every_line() -> None:
    plan = planned()
    read = json.loads(json.dumps(plan.to_json()))
    assert all(line["reason"] for line in read["plan"].values())
    assert read["plan"]["data.image_size"]["value"] == 256
    assert read["fingerprint"]["training"] == 100
    assert read["memory"]["forecast_gb"] == pytest.approx(sum(read["memory"]["parts_gb"].values()),
                                                          abs=0.002)  # fmt: skip


def test_ordinary_images_are_seen_at_256_px() -> None:
    assert size_of(fingerprint()) == 256


@pytest.mark.parametrize(("side", "size"), [(24, 64), (64, 64), (120, 128), (200, 224), (250, 256)])
def test_images_that_are_all_smaller_are_not_blown_up(side: int, size: int) -> None:
    assert size_of(fingerprint(facts(1, 2, side=side, kept=0.5), side=side)) == size


@pytest.mark.parametrize(
    ("found", "size"),
    [
        (facts(small=6, median=40, side=700), 384),
        (facts(small=4.5, median=40, side=700), 512),
        (facts(side=700, kept=0.85), 384),
        (facts(side=700, kept=0.82), 512),
    ],
    ids=["small objects", "tiny objects", "thin", "very thin"],
)
def test_structures_that_would_vanish_are_seen_larger(found: ClassFacts, size: int) -> None:
    assert size_of(fingerprint(found, side=700)) == size


@pytest.mark.parametrize(("side", "size"), [(256, 256), (300, 320), (400, 416), (700, 512)])
def test_a_larger_size_is_no_larger_than_the_images(side: int, size: int) -> None:
    assert size_of(fingerprint(facts(1, 20, side=side, kept=0.5), side=side)) == size


@pytest.mark.parametrize(("presentations", "size"), [(7_000, 512), (10_000, 384), (20_000, 256)])
def test_on_a_cpu_a_larger_size_may_not_take_longer_than_an_ordinary_training(
    presentations: int, size: int
) -> None:
    found = fingerprint(facts(3, 20, side=700, kept=0.5), side=700)
    assert size_of(found, presentations=presentations) == size
    assert size_of(found, "cuda", presentations=presentations) == 512


def test_a_larger_size_must_fit_into_memory_and_the_reason_says_what_is_lost() -> None:
    found = fingerprint(facts(3, 20, side=700, kept=0.5), side=700)
    size, reason = plan_image_size(
        found, presentations=3000, device="cpu", fits=lambda size: size < 500
    )
    assert size == 384
    assert "512 px" in reason
    assert "not fit into memory" in reason


def test_a_dataset_without_any_object_keeps_the_default() -> None:
    nothing = replace(facts(), objects=Objects(0, 3, (0, 0, 0), (0, 0, 0)))
    assert size_of(fingerprint(nothing)) == 256


def test_the_batch_shrinks_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe({"data": {"image_size": 128}})
    full = planned(recipe)
    assert full.recipe.train.batch_size == 8
    assert full.forecast is not None
    room = planned(
        recipe.model_copy(update={"train": recipe.train.model_copy(update={"batch_size": 5})})
    ).forecast
    assert room is not None
    monkeypatch.setattr(planning, "MARGIN", 1.0)
    monkeypatch.setattr(planning, "free_memory", lambda device: room.total)
    small = planned(recipe)
    assert small.recipe.train.batch_size == 5
    assert small.forecast == room
    assert "8 would not fit into memory" in small.choices["train.batch_size"].reason


def test_a_batch_of_one_that_does_not_fit_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "free_memory", lambda device: 100_000_000)
    with pytest.raises(MedsegError, match=r"1 image of 256 px takes 0\.\d GB.*Lower --image-size"):
        planned()


def test_a_batch_that_was_asked_for_is_tried_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "free_memory", lambda device: 100_000_000)
    plan = planned(parse_recipe({"train": {"batch_size": 4}}))
    assert plan.recipe.train.batch_size == 4
    assert "more than there is" in plan.memory


def test_a_network_that_looks_at_values_is_planned_without_a_forecast() -> None:
    plan = planned(network=Curious)
    assert plan.recipe.train.batch_size == 3
    assert plan.to_json()["memory"]["forecast_gb"] is None
    assert plan.memory.startswith("not forecast")
