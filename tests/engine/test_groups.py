"""Trainings on data that name groups."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from data.builders import squares
from data.volumes import balls
from engine.test_methods import few, interrupted_after
from engine.test_train import assert_same_bits, without_times
from engine.test_volume_training import NETWORK
from engine.test_volume_training import run as train_volumes
from medseg import evaluate
from medseg.errors import DataError

FAIR = "method=fairseg"


def grouped(root: Path, columns: dict[str, str], count: int = 16) -> Path:
    """Squares with a manifest in which ``columns`` say, by a letter a case, who belongs where."""
    squares(root, count)
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", *columns])
        for i in range(count):
            cells = [letters[i % len(letters)].strip() for letters in columns.values()]
            table.writerow([f"images/{i:03}.png", f"masks/{i:03}.png", *cells])
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grouped(tmp_path_factory.mktemp("data") / "squares", {"group:sex": "ffm "})


def test_a_fair_run_resumes_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = few(data, tmp_path / "whole", FAIR)
    stopped = tmp_path / "stopped"
    interrupted_after(3, monkeypatch, lambda: few(data, stopped, FAIR))
    few(data, stopped, resume=True)
    assert_same_bits(whole, stopped)
    assert without_times(whole) == without_times(stopped)
    assert yaml.safe_load((whole / "recipe.yaml").read_text())["data"]["attribute"] == "sex"
    losses = json.loads((whole / "metrics.jsonl").read_text().splitlines()[0])
    assert {"loss_cross_entropy", "loss_fair_dice"} <= losses.keys()


def test_validation_tells_the_worst_group_of_any_training(tmp_path: Path) -> None:
    data = grouped(tmp_path / "data", {"group": "ab"}, count=40)
    rows = without_times(few(data, tmp_path / "run"))
    for row in rows:
        assert row["val_dice_worst_group"] <= row["val_dice"]
        assert row["val_dice_equity_scaled"] <= row["val_dice"]


def test_groups_change_no_bit_of_a_training_that_does_not_compare_them(tmp_path: Path) -> None:
    named = few(grouped(tmp_path / "named", {"group:sex": "fm"}), tmp_path / "run", epochs=1)
    plain = few(grouped(tmp_path / "plain", {"sex": "fm"}), tmp_path / "other", epochs=1)
    first, second = (without_times(folder)[0] for folder in (named, plain))
    assert {key: first[key] for key in second} == second


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"sex": "fm"}, (), "no column tells them"),
        ({"group:sex": "fm", "group:site": "ab"}, (), "Choose one: --set data.attribute=sex"),
        ({"group:sex": "fm"}, ("data.attribute=sax",), "Did you mean 'sex'"),
        ({"group:sex": "f"}, (), r"1 group of sex \(f\)"),
        ({"group:sex": " "}, (), "0 groups of sex"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused_before_training(
    columns: dict[str, str], settings: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    data = grouped(tmp_path / "data", columns)
    with pytest.raises(DataError, match=message):
        few(data, tmp_path / "run", FAIR, *settings)
    assert not (tmp_path / "run").exists()


def test_any_column_can_be_compared(tmp_path: Path) -> None:
    data = grouped(tmp_path / "data", {"site": "ab", "group:sex": "fm"})
    folder = few(data, tmp_path / "run", FAIR, "data.attribute=site", epochs=1)
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["data"]["attribute"] == "site"


def test_volumes_are_of_the_group_of_all_their_slices(tmp_path: Path) -> None:
    root = balls(tmp_path / "data", 8)
    names = sorted(path.name for path in (root / "images").iterdir())
    lines = [f"images/{name},labels/{name},{'fm'[i % 2]}" for i, name in enumerate(names)]
    (root / "manifest.csv").write_text("\n".join(["image,mask,group:sex", *lines]) + "\n")
    network = tmp_path / "tiny.py"
    network.write_text(NETWORK)
    folder = train_volumes(
        root, tmp_path / "run", str(network), FAIR, epochs=1, seed=1, batch_size=4
    ).folder
    (row,) = without_times(folder)
    assert row["loss_fair_dice"] > 0
    found = evaluate(root, folder, part="all", device="cpu", system=str(network))
    assert set(found.groups["sex"].values()) == {"f", "m"}
    assert len(found.equity) == 2
