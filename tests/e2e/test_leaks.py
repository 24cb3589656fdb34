"""No leak between the parts of a split passes unsaid, and no look at the test part unlogged."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from commands import TINY, medseg, parts_of
from data.builders import save, squares
from medseg.data.io import read_image

LEAK = "Leak: 1 patient (4 cases) on both sides of the split"


def manifest(root: Path, *, leak: bool) -> Path:
    """Ten cases of five patients, two of each, with a published split."""
    data = squares(root / "data", 10)
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    with (data / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mask", "patient", "split", "id"])
        for number, part in enumerate(parts):
            patient = 4 if leak and number < 2 else number // 2
            picture = f"{number:03}.png"
            rows.writerow([f"images/{picture}", f"masks/{picture}", patient, part, number])
    return data


def bytes_copied(data: Path, source: str, target: str) -> None:
    shutil.copy(data / "images" / f"{source}.png", data / "images" / f"{target}.png")


def scores(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def first_line(page: Path) -> str:
    """What a reader of a report sees first."""
    body = page.read_text(encoding="utf-8").split("<main>")[1]
    return body.strip().splitlines()[0]


def test_a_patient_on_both_sides_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    data = manifest(tmp_path, leak=True)
    for command in (["train", data, "-o", tmp_path / "run", *TINY], ["data", "split", data]):
        refused = medseg(*command)
        assert refused.code == 2
        assert "the split leaks: 1 patient (4 cases)" in refused.message
        assert "patient 4: 0, 1 in train; 8, 9 in test" in refused.err
        assert "Remove the copies" in refused.err
        assert "--allow-leak" in refused.err
    assert not (tmp_path / "run").exists()
    assert medseg("data", "check", data).code == 1


def test_an_allowed_leak_is_the_first_line_of_everything_that_is_said(tmp_path: Path) -> None:
    data, run = manifest(tmp_path, leak=True), tmp_path / "run"
    trained = medseg("train", data, "-o", run, *TINY, "--allow-leak")
    assert trained.code == 0
    assert trained.out.startswith(LEAK)
    assert LEAK in trained.err
    assert LEAK in first_line(run / "report.html")
    assert scores(run / "scores" / "val.json")["note"].startswith(LEAK)
    bundle = shutil.copy(run / "model.medseg", tmp_path / "handed over.medseg")
    for model in (run, run / "model.medseg", bundle):
        page = tmp_path / "evaluation.html"
        scored = medseg("evaluate", data, model, "-o", page)
        assert scored.out.startswith(LEAK)
        assert LEAK in first_line(page)
    assert LEAK in medseg("info", bundle).out


def test_a_leaking_model_is_not_blamed_on_other_data(tmp_path: Path) -> None:
    run = tmp_path / "run"
    medseg("train", manifest(tmp_path, leak=True), "-o", run, *TINY, "--allow-leak")
    elsewhere = squares(tmp_path / "elsewhere", 3, size=30)
    assert "Leak" not in medseg("evaluate", elsewhere, run).out


def test_what_does_not_leak_is_not_called_one(tmp_path: Path) -> None:
    data, run = manifest(tmp_path, leak=False), tmp_path / "run"
    trained = medseg("train", data, "-o", run, *TINY, "--allow-leak")
    assert (trained.code, "Leak" in trained.out + trained.err) == (0, False)
    assert "Leak" not in first_line(run / "report.html")


def test_a_run_whose_patients_turn_out_to_be_divided_is_not_continued(tmp_path: Path) -> None:
    data, run = manifest(tmp_path, leak=False), tmp_path / "run"
    assert medseg("train", data, "-o", run, *TINY).code == 0
    table = (data / "manifest.csv").read_text().replace("000.png,0,", "000.png,4,")
    (data / "manifest.csv").write_text(table)
    refused = medseg("train", data, "-o", run, "--resume")
    assert refused.code == 2
    assert f"{run / 'split.csv'}: the split leaks: 1 patient (3 cases)" in refused.message
    assert "Start a new run" in refused.message


def test_equal_images_in_split_folders_are_refused(tmp_path: Path) -> None:
    squares(tmp_path / "data" / "train", 6)
    squares(tmp_path / "data" / "test", 2)
    refused = medseg("train", tmp_path / "data", "-o", tmp_path / "run", *TINY)
    assert refused.code == 2
    assert "2 groups of alike images (4 cases)" in refused.message
    assert "alike images: train/000 in train; test/000 in test" in refused.err


def test_an_image_saved_again_on_the_other_side_is_a_leak(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 12, size=96)
    image = Image.fromarray(read_image(data / "images" / "000.png"))
    image.resize((80, 80)).save(data / "images" / "001.png")
    Image.new("L", (80, 80)).save(data / "masks" / "001.png")
    (data / "test.txt").write_text("001\n")
    refused = medseg("train", data, "-o", tmp_path / "run", *TINY)
    assert refused.code == 2
    assert "alike images: 000 in train; 001 in test" in refused.err


def test_a_split_file_that_leaks_is_refused_by_its_name(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 8)
    bytes_copied(data, "000", "001")
    mine = tmp_path / "mine.csv"
    rows = [f"{number:03},{part}" for number, part in enumerate(["train", "val"] * 4)]
    mine.write_text("\n".join(["case,split", *rows]))
    refused = medseg("train", data, "-o", tmp_path / "run", *TINY, "--split", mine)
    assert f"{mine}: the split leaks" in refused.err
    options = ["--split", mine, "--allow-leak"]
    allowed = medseg("train", data, "-o", tmp_path / "run", *TINY, *options)
    assert "1 group of alike images (2 cases)" in allowed.out.splitlines()[0]


def test_a_split_of_data_that_have_changed_since_is_refused(tmp_path: Path) -> None:
    data, mine = squares(tmp_path / "data", 8), tmp_path / "mine.csv"
    assert medseg("data", "split", data, "-o", mine).code == 0
    save(data / "masks" / "003.png", read_image(data / "masks" / "004.png")[..., 0])
    for kind in ("images", "masks"):
        (data / kind / "005.png").rename(data / kind / "new.png")
    options = ["--split", mine]
    refused = medseg("train", data, "-o", tmp_path / "run", *TINY, *options)
    assert refused.code == 2
    assert f"{mine}: 1 case not in the dataset: 005" in refused.err
    lines = [line for line in mine.read_text().splitlines() if not line.startswith("005")]
    mine.write_text("\n".join(lines))
    refused = medseg("train", data, "-o", tmp_path / "run", *TINY, *options)
    assert "1 changed (003), 1 new (new)" in refused.err
    mine.write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    assert medseg("train", data, "-o", tmp_path / "run", *TINY, *options).code == 0


def test_a_file_of_folds_trains_each_of_them(photos: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    assert "in 3 folds" in medseg("data", "split", photos, "-o", folds, "--folds", 3).out
    validated, tested = [], set()
    for fold in (None, 1, 2):
        run = tmp_path / f"run{fold}"
        chosen = ["--fold", fold] if fold else []
        assert medseg("train", photos, "-o", run, *TINY, "--split", folds, *chosen).code == 0
        validated += sorted(parts_of(run)["val"])
        tested.add(frozenset(parts_of(run)["test"]))
        assert f"fold: {fold or 0}\n  folds: 3\n" in (run / "recipe.yaml").read_text()
    assert len(tested) == 1
    assert sorted([*validated, *tested.pop()]) == [f"{number:03}" for number in range(20)]
    refused = medseg("train", photos, "-o", tmp_path / "r", *TINY, "--split", folds, "--fold", 3)
    assert "fold: is 3 of 3" in refused.err


def test_published_folds_are_honoured(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 6)
    entries = [
        {"image": f"images/{i:03}.png", "label": f"masks/{i:03}.png", "fold": i % 3}
        for i in range(6)
    ]
    (data / "dataset.json").write_text(json.dumps({"training": entries}))
    for fold in (None, 2):
        run = tmp_path / f"run{fold}"
        chosen = ["--fold", fold] if fold is not None else []
        ran = medseg("train", data / "dataset.json", "-o", run, *TINY, *chosen)
        assert ran.code == 0, ran.err
        assert {int(case[-3:]) % 3 for case in parts_of(run)["val"]} == {fold or 0}


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run whose test part nobody has looked at."""
    copy = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))
    (copy / "test_openings.jsonl").unlink(missing_ok=True)
    return copy


def test_every_opening_of_the_test_part_is_counted_and_said(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    assert "test_openings   count 0, last never" in medseg("info", run).out
    medseg("evaluate", photos, run, "--part", "val")
    out = tmp_path / "s.json"
    for count, (model, part) in enumerate(
        [(run, "auto"), (run / "model.medseg", "test"), (run, "all")], start=1
    ):
        scored = medseg("evaluate", photos, model, "--part", part, "-o", out)
        word = {1: "1st", 2: "2nd", 3: "3rd"}[count]
        assert f"test part opened for the {word} time" in scored.out
        assert scores(out)["test_openings"] == count
    page = tmp_path / "s.html"
    medseg("evaluate", photos, run, "-o", page)
    assert "test part opened for the 4th time" in page.read_text()
    facts = json.loads(medseg("info", run, "--json").out)
    logged = [json.loads(x) for x in (run / "test_openings.jsonl").read_text().splitlines()]
    assert [each["cases"] for each in logged] == [2, 2, 2, 2]
    assert facts["test_openings"] == {"count": 4, "last": logged[-1]["time"]}
    assert logged[0]["scored"] == f"{photos} (test part)"
    assert logged[0]["weights_sha256"] == facts["weights_sha256"]


def test_renamed_test_images_are_still_the_test_part(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    name = min(parts_of(run)["test"])
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        shutil.copy(photos / kind / f"{name}.png", tmp_path / "data" / kind / "renamed.png")
    assert "opened for the 1st time" in medseg("evaluate", tmp_path / "data", run).out


def test_validation_and_other_data_do_not_open_the_test_part(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    medseg("evaluate", photos, run, "--part", "val")
    medseg("evaluate", squares(tmp_path / "elsewhere", 3, size=30), run)
    assert not (run / "test_openings.jsonl").exists()


def test_an_opening_that_cannot_be_logged_is_scored_and_said(run: Path, photos: Path) -> None:
    (run / "test_openings.jsonl").mkdir()
    scored = medseg("evaluate", photos, run)
    assert scored.code == 0
    assert f"could not be logged in {run}" in scored.out
    assert "Dice" in scored.out


def test_training_again_after_a_look_is_no_longer_blind(run: Path, photos: Path) -> None:
    medseg("evaluate", photos, run)
    resumed = medseg("train", photos, "-o", run, *TINY, "--epochs", 8, "--resume")
    assert resumed.code == 0
    assert "the test part of this run has been opened 1 time" in resumed.err
    assert "not blind" not in medseg("evaluate", photos, run).out
    for entry in run.iterdir():
        if entry.name != "test_openings.jsonl":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    assert medseg("train", photos, "-o", run, *TINY, "--seed", 9).code == 0
    again = medseg("evaluate", photos, run, "--part", "test").out
    assert "opened before with other weights: choices made since are not blind" in again
    assert "opened for the 3rd time" in again


def test_classes_and_channels_are_found_without_the_published_test_part(tmp_path: Path) -> None:
    data = squares(tmp_path / "data" / "train", 10)
    for image in (data / "images").iterdir():
        Image.open(image).convert("L").save(image)
    test = squares(tmp_path / "data" / "test", 3, size=30)
    mask = read_image(test / "masks" / "000.png")[..., 0] // 255 * 77
    save(test / "masks" / "000.png", mask)
    (test / "masks" / "001.png").write_bytes((test / "masks" / "000.png").read_bytes())
    checked = medseg("data", "check", tmp_path / "data")
    assert "classes: background, foreground; grey images" in checked.out
    assert "unexpected values (77)" in checked.out
