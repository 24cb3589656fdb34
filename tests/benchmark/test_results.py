from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.grids import tiny
from medseg.benchmark.check import Checked
from medseg.benchmark.results import write_results
from medseg.benchmark.spec import Spec, parse_spec
from medseg.metrics.statistics import bootstrap_mean

DICE = {
    # system: a row per seed, a column per case
    "good": np.array([[0.9, 0.8, 0.7, 0.6], [0.7, 0.8, 0.9, 0.4]]),
    "bad": np.array([[0.5, 0.4, 0.6, 0.2], [0.3, 0.4, 0.4, 0.2]]),
}
PATIENTS = ("p", "p", "q", "r")


@pytest.fixture
def spec(photos: Path, tmp_path: Path) -> Spec:
    values = tiny(tmp_path, data=[str(photos)], unseen=[], seeds=2)
    return parse_spec({**values, "systems": [str(tmp_path / f"{name}.py") for name in DICE]})


def write(
    spec: Spec,
    folder: Path,
    *,
    failing: tuple[str, int] | None = None,
    published: dict[str, Any] | None = None,
    groups: str = "",
) -> dict[str, Any]:
    """Results of cells with the scores ``DICE``; ``failing`` is a system and seed that failed.

    ``groups`` has the sex of each case, a letter.
    """
    told = ["group:sex"] if groups else []
    records, places = [], {}
    for system, scores in DICE.items():
        for seed, row in enumerate(scores):
            place = folder / system / str(seed)
            place.mkdir(parents=True)
            named = {"system": system, "data": "photos", "seed": seed}
            places[system, "photos", seed] = place
            if (system, seed) == failing:
                records.append({**named, "status": "failed", "error": "on purpose"})
                continue
            records.append({**named, "status": "ok", "error": None, "unseen": {}})
            with (place / "test.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["case", "patient", "class", "status", "dice", "hd95", *told])
                for case, (patient, dice) in enumerate(zip(PATIENTS, row, strict=True)):
                    sex = [groups[case]] if groups else []
                    table.writerow([case, patient, "x", "ok", dice, 10 * (1 - dice), *sex])
    checked = {"photos": Checked(hash="abc", cases={"test": 4})}
    return write_results(spec, folder, records, places, checked, (), published)


def score(summary: dict[str, Any], system: str) -> dict[str, Any]:
    (found,) = (each for each in summary["scores"] if each["system"] == system)
    return dict(found)


def test_the_mean_is_over_seeds_for_each_case_then_over_cases_of_patients(
    spec: Spec, tmp_path: Path
) -> None:
    dice = score(write(spec, tmp_path), "good")["metrics"]["dice"]
    expected = bootstrap_mean(DICE["good"].mean(axis=0), groups=PATIENTS)
    assert (dice["mean"], dice["low"], dice["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert (dice["n"], dice["groups"]) == (4, 3)


def test_the_spread_over_seeds_is_kept_apart_from_that_over_cases(
    spec: Spec, tmp_path: Path
) -> None:
    dice = score(write(spec, tmp_path), "good")["metrics"]["dice"]
    assert dice["seed_means"] == pytest.approx([0.75, 0.7])
    assert dice["seed_sd"] == pytest.approx(np.std([0.75, 0.7], ddof=1))


def test_systems_are_compared_in_the_direction_of_each_metric(spec: Spec, tmp_path: Path) -> None:
    tests = {each["metric"]: each for each in write(spec, tmp_path)["tests"]}
    assert tests.keys() == {"dice", "hd95"}
    for metric, scale in (("dice", 1), ("hd95", 10)):
        assert (tests[metric]["better"], tests[metric]["other"]) == ("good", "bad")
        gap = DICE["good"].mean() - DICE["bad"].mean()
        assert tests[metric]["advantage"]["mean"] == pytest.approx(scale * gap)
        # Three patients can be signed in eight ways, of which two are as far from 0.
        assert tests[metric]["p"] == pytest.approx(2 / 8)


def test_a_failed_seed_is_named_and_not_part_of_the_mean(spec: Spec, tmp_path: Path) -> None:
    summary = write(spec, tmp_path, failing=("good", 1))
    found = score(summary, "good")
    assert (found["seeds"], found["failed_seeds"]) == ([0], [1])
    assert found["metrics"]["dice"]["mean"] == pytest.approx(0.75)
    assert found["metrics"]["dice"]["seed_sd"] is None
    (failure,) = summary["failures"]
    assert failure == {"system": "good", "data": "photos", "seed": 1, "error": "on purpose"}


def test_the_long_table_has_a_line_for_every_case_of_every_cell(spec: Spec, tmp_path: Path) -> None:
    write(spec, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "system", "data", "train_data", "seed", "case", "patient", "class", "status", "dice",
        "hd95",
    ]  # fmt: skip
    found = {(r["system"], int(r["seed"]), int(r["case"])): float(r["dice"]) for r in rows}
    assert found == {
        (system, seed, case): value
        for system, scores in DICE.items()
        for (seed, case), value in np.ndenumerate(scores)
    }


def test_published_numbers_stay_apart(spec: Spec, tmp_path: Path) -> None:
    theirs = {"source": "Someone 2025", "protocol": "another", "entries": []}
    summary = write(spec, tmp_path / "with", published=theirs)
    without = write(spec, tmp_path / "without")
    assert summary["published"] == theirs
    assert {**summary, "published": None} == without
    assert json.loads((tmp_path / "with" / "summary.json").read_text()) == summary


def test_groups_stand_in_the_summary_and_in_the_long_table(spec: Spec, tmp_path: Path) -> None:
    summary = write(spec, tmp_path, groups="ffmm")
    (found,) = score(summary, "good")["equity"]
    over_seeds = DICE["good"].mean(axis=0)
    assert (found["attribute"], found["metric"], found["worst"]) == ("sex", "dice", "m")
    assert found["groups"]["m"]["mean"] == pytest.approx(over_seeds[2:].mean())
    assert found["gap"] == pytest.approx(over_seeds[:2].mean() - over_seeds[2:].mean())
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["group:sex"] for row in rows] == list("ffmm") * 4
