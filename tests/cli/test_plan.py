from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import TINY, left_in, medseg


def planned(data: Path, *options: object) -> dict[str, Any]:
    ran = medseg("data", "plan", data, "--json", "--device", "cpu", *options)
    assert (ran.code, ran.err) == (0, "")
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_the_tables_say_what_was_measured_what_is_chosen_and_why(photos: Path) -> None:
    shown = medseg("data", "plan", photos, "--device", "cpu")
    assert (shown.code, shown.err) == (0, "")
    for text in (
        "20, of which 20 labelled and 16 to train on",
        "published split",
        "24 px",
        "no training image is larger than 24 px; the median object of 'foreground' is 24 px",
        "a quarter of the 16 training images",
        "30,000 presentations of 16 images",
        "at the peak (forecast)",
        "1 cross-entropy + 1 Dice",
    ):
        assert text in shown.out


def test_training_follows_the_plan_and_keeps_it(photos: Path, tmp_path: Path) -> None:
    options = ("--set", "train.epochs=1", "--set", "network.widths=[8,8,8]",
               "--set", "network.depths=[1,1]", "--set", "network.kernel=3")  # fmt: skip
    expected = planned(photos, *options)
    ran = medseg("train", photos, "-o", tmp_path / "run", "--device", "cpu", *options)
    assert ran.code == 0
    assert "64 px: no training image is larger than 24 px" in ran.err
    kept = json.loads((tmp_path / "run" / "plan.json").read_text())
    for found in (expected, kept):
        found["memory"].pop("free_gb")
    assert kept == expected
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    for key, line in kept["plan"].items():
        section, _, name = key.partition(".")
        if name:
            assert recipe[section][name] == line["value"]


def test_any_line_can_be_overridden(photos: Path) -> None:
    found = planned(photos, "--set", "data.image_size=48", "--set", "train.batch_size=2")
    for key, value in (("data.image_size", 48), ("train.batch_size", 2)):
        assert found["plan"][key] == {"value": value, "auto": False, "reason": "set"}


def test_the_plan_is_written_and_nothing_else(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "plan.json"
    assert medseg("data", "plan", photos, "-o", out, "--device", "cpu").code == 0
    assert left_in(tmp_path) == {"sub/plan.json"}
    assert json.loads(out.read_text())["plan"]["data.image_size"]["value"] == 64


def test_another_system_needs_another_amount_of_memory(photos: Path) -> None:
    sizes = [
        planned(photos, "--system", system)["memory"]["forecast_gb"]
        for system in ("unet-narrow", "unet")
    ]
    assert sizes[0] < sizes[1]


def test_a_resumed_run_keeps_its_plan(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert medseg("train", photos, "-o", run, *TINY).code == 0
    before = (run / "plan.json").read_bytes()
    assert medseg("train", photos, "-o", run, "--resume", "--device", "cpu").code == 0
    assert (run / "plan.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--system", "med2d"], "med2d-segnet"),
        (["--set", "data.image_sise=3"], "data.image_size"),
        (["--set", "data.image_size=big"], "auto"),
        (["--device", "tpu"], "--device tpu"),
        (["--set", "train.batch_size=99"], "only 16 training images"),
        (["--set", "data.max_megapixels=0.0001"], "medseg data check"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_planned_is_refused_by_name(
    photos: Path, options: list[str], named: str
) -> None:
    refused = medseg("data", "plan", photos, *options)
    assert refused.code == 2
    assert named in refused.err
    assert refused.out == ""


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused = medseg("data", "plan", tmp_path / "nothing")
    assert refused.code == 2
    assert "nothing" in refused.err
