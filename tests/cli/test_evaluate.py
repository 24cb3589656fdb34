from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import left_in, medseg, parts_of
from data.builders import disk, noise, save, squares
from inference.builders import ORGANS, bundle
from medseg.cli.evaluate import Whose
from medseg.metrics.conventions import CONVENTIONS


def scores(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def cases_of(path: Path) -> set[str]:
    return {row["case"] for row in scores(path)["cases"]}


def masks(folder: Path, count: int = 3, radius: float = 4) -> Path:
    for number in range(count):
        save(folder / f"{number}.png", disk(radius=radius + number))
    return folder


def test_the_truth_against_itself_scores_one(tmp_path: Path) -> None:
    truth = masks(tmp_path / "truth")
    ran = medseg("evaluate", truth, shutil.copytree(truth, tmp_path / "copy"))
    assert (ran.code, ran.err) == (0, "")
    assert "Dice 1.00, 95 % interval 1.00 to 1.00 over 3 cases, no failures" in ran.out
    assert f"{tmp_path / 'copy'} against {truth}" in ran.out
    for metric in ("Dice", "IoU", "Precision", "Recall", "Specificity"):
        assert metric in ran.out


def test_a_dataset_is_a_truth(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 3)
    ran = medseg("evaluate", data, shutil.copytree(data / "masks", tmp_path / "copy"))
    assert "Dice 1.00" in ran.out


def test_missing_and_damaged_predictions_are_named_counted_and_score_zero(tmp_path: Path) -> None:
    truth = masks(tmp_path / "truth", 4)
    given = shutil.copytree(truth, tmp_path / "given")
    (given / "0.png").unlink()
    (given / "1.png").write_text("no image")
    ran = medseg("evaluate", truth, given)
    assert ran.code == 0
    assert "Dice 0.50" in ran.out
    assert "over 4 cases, 2 failures" in ran.out
    assert "0: missing prediction" in ran.out
    assert "1: unreadable prediction" in ran.out


@pytest.mark.parametrize(("policy", "dice"), [("one", 1.0), ("zero", 0.5), ("skip", 1.0)])
def test_the_empty_policy_says_what_two_empty_masks_are_worth(
    tmp_path: Path, policy: str, dice: float
) -> None:
    save(tmp_path / "truth" / "empty.png", disk(radius=0))
    save(tmp_path / "truth" / "full.png", disk())
    given = shutil.copytree(tmp_path / "truth", tmp_path / "given")
    out = tmp_path / "scores.json"
    command = ["evaluate", tmp_path / "truth", given, "--empty-policy", policy, "-o", out]
    assert medseg(*command).code == 0
    summary = scores(out)["summary"]["mean"]["dice"]
    assert summary["mean"] == dice
    assert summary["skipped"] == (1 if policy == "skip" else 0)


def test_every_convention_there_is_can_be_chosen_and_stands_in_every_report(
    tmp_path: Path,
) -> None:
    assert [choice.value for choice in Whose] == list(CONVENTIONS)
    truth, given = masks(tmp_path / "truth"), masks(tmp_path / "given", radius=3)
    outputs = [part for name in ("a.json", "a.html") for part in ("-o", tmp_path / name)]
    ran = medseg("evaluate", truth, given, "--convention", "medpy", *outputs)
    said = "convention medpy for Dice, IoU, Precision, Recall, Specificity, HD95, ASSD"
    assert ran.code == 0
    assert said in " ".join(ran.out.split())
    assert said in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert scores(tmp_path / "a.json")["convention"] == "medpy"


def test_a_model_is_scored_by_pranets_convention_of_its_own_probabilities(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    metrics = ["--metrics", "threshold_dice", "--convention", "pranet"]
    assert medseg("evaluate", photos, trained, *metrics, "-o", out).code == 0
    for row in scores(out)["cases"]:
        assert row["dice"] == row["threshold_dice"] > 0


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("--tolerance", "nan", "it is not a distance"),
        ("--tolerance", "inf", "it is not a distance"),
        ("--tolerance", "-1", "it is not a distance"),
        ("--seed", "-1", "it is negative"),
        ("--workers", "0", "there must be one"),
    ],
)
def test_a_number_out_of_range_is_refused_before_any_work(
    tmp_path: Path, option: str, value: str, found: str
) -> None:
    refused = medseg("evaluate", tmp_path / "absent", tmp_path / "neither", option, value)
    assert refused.code == 2
    assert option in refused.err
    assert found in refused.err


@pytest.mark.parametrize("option", [["--masks", "kept"], ["--tta"], ["--system", "net.py"]])
def test_what_is_for_models_is_refused_with_masks(tmp_path: Path, option: list[str]) -> None:
    truth, given = masks(tmp_path / "truth"), masks(tmp_path / "given", radius=3)
    refused = medseg("evaluate", truth, given, *option)
    assert refused.code == 2
    assert f"{option[0]}: it is for a model, and these are masks" in refused.err


def test_every_kind_of_report_is_written_and_named(tmp_path: Path) -> None:
    truth = masks(tmp_path / "truth")
    names = ["report.html", "sub folder/scores.json", "scores.csv"]
    outputs = [part for name in names for part in ("-o", tmp_path / "out" / name)]
    ran = medseg("evaluate", truth, shutil.copytree(truth, tmp_path / "copy"), *outputs)
    assert ran.code == 0
    for name in names:
        assert f"Wrote {tmp_path / 'out' / name}" in ran.out
    assert left_in(tmp_path / "out") == set(names)
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"]: row["dice"] for row in rows} == {"0": "1.0", "1": "1.0", "2": "1.0"}
    found = scores(tmp_path / "out" / "sub folder" / "scores.json")
    assert found["counts"]["cases"] == 3
    assert found["summary"]["mean"]["dice"]["mean"] == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert f"{tmp_path / 'copy'} against {truth}" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_reports_are_written_before_anything_is_said_to_who_may_not_listen(tmp_path: Path) -> None:
    truth, report = masks(tmp_path / "truth"), tmp_path / "scores.json"
    reading, writing = os.pipe()
    os.close(reading)
    subprocess.run(
        [sys.executable, "-m", "medseg", "evaluate", truth, truth, "-o", report],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert cases_of(report) == {"0", "1", "2"}


def test_another_kind_of_report_is_refused_before_any_work(trained: Path, tmp_path: Path) -> None:
    refused = medseg(
        "evaluate", tmp_path / "absent", trained, "-o", tmp_path / "a.json", "-o", "scores.xlsx"
    )
    assert refused.code == 2
    assert "scores.xlsx: '.xlsx' is not a report format. Use .html, .json or .csv" in refused.err
    assert left_in(tmp_path) == set()


def test_the_same_seed_gives_the_same_intervals(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        command = ["evaluate", photos, trained, "--part", "all", "--seed", seed]
        medseg(*command, "-o", tmp_path / f"{name}.json")
    a, b, c = (scores(tmp_path / f"{name}.json")["summary"] for name in "abc")
    assert a == b
    assert a["mean"]["dice"]["mean"] == c["mean"]["dice"]["mean"]
    assert a != c


def test_of_a_runs_own_data_the_test_part_is_scored(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    ran = medseg("evaluate", photos, trained, "-o", tmp_path / "scores.json")
    assert ran.code == 0
    assert f"{trained} against {photos} (test part)" in ran.out
    assert cases_of(tmp_path / "scores.json") == parts_of(trained)["test"]
    assert scores(tmp_path / "scores.json")["note"] == ""


@pytest.mark.parametrize(
    ("part", "note"),
    [("train", "Training cases"), ("val", "Validation cases"), ("all", "Leak: 18 of these 20")],
)
def test_another_part_is_scored_with_a_warning_in_every_report(
    trained: Path, photos: Path, tmp_path: Path, part: str, note: str
) -> None:
    outputs = ["-o", tmp_path / "scores.json", "-o", tmp_path / "report.html"]
    ran = medseg("evaluate", photos, trained, "--part", part, *outputs)
    assert note in ran.out
    parts = parts_of(trained)
    expected = parts[part] if part != "all" else set.union(*parts.values())
    assert cases_of(tmp_path / "scores.json") == expected
    assert note in scores(tmp_path / "scores.json")["note"]
    assert note in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_all_of_other_data_is_scored_without_a_warning(trained: Path, tmp_path: Path) -> None:
    elsewhere = squares(tmp_path / "elsewhere", 3, size=30)
    for image in (elsewhere / "images").iterdir():
        save(image, noise(100 + int(image.stem), (30, 30)))
    out = tmp_path / "scores.json"
    assert medseg("evaluate", elsewhere, trained / "model.medseg", "-o", out).code == 0
    assert cases_of(out) == {"000", "001", "002"}
    assert scores(out)["note"] == ""


def test_a_bundle_without_its_run_still_knows_what_it_was_trained_on(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    bundle = shutil.copy(trained / "model.medseg", tmp_path / "handed over.medseg")
    ran = medseg("evaluate", photos, bundle)
    assert "Leak: 18 of these 20 images were trained or chosen on." in ran.out
    refused = medseg("evaluate", photos, bundle, "--part", "test")
    assert refused.code == 2
    assert "does not know how" in refused.err
    assert "--part all" in refused.err


def test_renamed_training_images_are_still_a_leak(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    name = sorted(parts_of(trained)["train"])[0]
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        shutil.copy(photos / kind / f"{name}.png", tmp_path / "data" / kind / "renamed.png")
        save(tmp_path / "data" / kind / "new.png", disk() if kind == "masks" else noise(77))
    assert "Leak: 1 of these 2 images" in medseg("evaluate", tmp_path / "data", trained).out


def test_the_masks_that_were_scored_are_kept_on_request(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    medseg("evaluate", photos, trained, "--masks", tmp_path / "kept", "-o", tmp_path / "1.json")
    again = ["evaluate", photos, tmp_path / "kept", "-o", tmp_path / "2.json"]
    assert left_in(tmp_path / "kept") == {
        "predictions.json", *(f"{case}.png" for case in parts_of(trained)["test"]),
    }  # fmt: skip
    medseg(*again)
    scored = {r["case"]: r["dice"] for r in scores(tmp_path / "1.json")["cases"]}
    from_masks = {r["case"]: r["dice"] for r in scores(tmp_path / "2.json")["cases"]}
    assert {case: from_masks[case] for case in scored} == scored


def test_masks_of_other_images_with_the_same_names_are_not_scored(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    elsewhere = squares(tmp_path / "elsewhere", 20)
    for image in (elsewhere / "images").iterdir():
        save(image, noise(500 + int(image.stem), (24, 24)))
    medseg("evaluate", photos, trained, "--part", "all", "--masks", tmp_path / "masks")
    for name, options in (("kept", ["--masks", tmp_path / "masks"]), ("fresh", [])):
        medseg("evaluate", elsewhere, trained, *options, "-o", tmp_path / f"{name}.json")
    assert scores(tmp_path / "kept.json") == scores(tmp_path / "fresh.json")


def test_the_true_masks_are_not_taken_for_the_models(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    refused = medseg("evaluate", data, trained, "--masks", data / "masks")
    assert refused.code == 2
    assert "no prediction of medseg's" in refused.err
    assert not (data / "masks" / "predictions.json").exists()


def test_swapped_arguments_are_named_as_such(trained: Path, photos: Path) -> None:
    for model in (trained, trained / "model.medseg"):
        refused = medseg("evaluate", model, photos)
        assert refused.code == 2
        assert f"{model}: this is a model, not the truth" in refused.err
        assert "first" in refused.err


def test_a_folder_of_masks_gives_a_model_nothing_to_predict(trained: Path, photos: Path) -> None:
    refused = medseg("evaluate", photos / "masks", trained)
    assert refused.code == 2
    assert f"{photos / 'masks'}: it is not a dataset" in refused.err
    assert "images/ and masks/" in refused.err


@pytest.mark.parametrize(
    ("arguments", "named", "remedy"),
    [
        (["absent", "{photos}/masks"], "absent: does not exist", "Check the name"),
        (["{photos}", "absent"], "absent: does not exist", "folder of predicted masks"),
        (["{photos}", "{photos}/masks", "--part", "test"], "--part test", "Give a run"),
        (["{photos}", "strangers"], "strangers: no prediction has the name", "Name each"),
        (["empty", "{photos}/masks"], "empty: holds no masks", "Give a dataset"),
        (["{photos}", "{photos}/images/000.png"], "000.png: is not a folder", "Name the"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_named(
    arguments: list[str],
    named: str,
    remedy: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save(tmp_path / "strangers" / "someone.png", disk())
    refused = medseg("evaluate", *(text.format(photos=photos) for text in arguments))
    assert refused.code == 2
    assert refused.out == ""
    assert named in refused.err
    assert remedy in refused.err


def test_a_damaged_split_of_a_run_is_named(trained: Path, photos: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))
    (run / "split.csv").write_text("nonsense\n")
    refused = medseg("evaluate", photos, run)
    assert refused.code == 2
    assert f"{run / 'split.csv'}: is not a split file" in refused.err


def test_other_metrics_can_be_chosen(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    found = medseg(
        "evaluate", photos / "masks", photos / "masks", "--metrics", "hd, boundary_iou", "-o", table
    )
    assert found.code == 0
    assert table.read_text().splitlines()[0].endswith(",dice,hd,boundary_iou")
    assert "Boundary IoU" in found.out


def test_an_unknown_metric_is_refused(photos: Path) -> None:
    found = medseg("evaluate", photos / "masks", photos / "masks", "--metrics", "dicee")
    assert found.code == 2
    assert "--metrics dicee: there is no such metric. Did you mean 'dice'?" in found.message


def test_metrics_of_probabilities_are_those_of_the_model(
    photos: Path, trained: Path, tmp_path: Path
) -> None:
    names = "brier,ece,roc_auc,pr_auc,mae,s_measure,e_measure,weighted_f,threshold_dice"
    options = ["--metrics", names, "--part", "all", "-o", tmp_path / "model.json"]
    assert medseg("evaluate", photos, trained, *options).code == 0
    predicted = medseg("predict", trained, photos, "-o", tmp_path / "out", "--probabilities")
    assert predicted.code == 0
    options = ["--metrics", names, "-o", tmp_path / "masks.json"]
    assert medseg("evaluate", photos, tmp_path / "out", *options).code == 0
    model, masks = (scores(tmp_path / f"{name}.json") for name in ("model", "masks"))
    assert model["cases"] == masks["cases"]
    assert 0 < model["summary"]["mean"]["brier"]["mean"] < 1


def test_masks_without_probabilities_cannot_be_graded(photos: Path) -> None:
    found = medseg("evaluate", photos / "masks", photos / "masks", "--metrics", "ece")
    assert found.code == 2
    assert "--metrics ece: it needs probabilities" in found.message


def test_a_model_of_other_classes_is_named_and_not_the_place_of_its_masks(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 2)
    (data / "labels.json").write_text('{"background": 0, "square": 1, "circle": 2}')
    model = bundle(tmp_path / "model.medseg", ORGANS)
    ran = medseg("evaluate", data, model)
    assert ran.code == 2
    assert f"{model}: the predictions have the classes background, liver, vein" in ran.message


def with_manifest(folder: Path, column: str) -> tuple[Path, Path]:
    """Squares of two groups, and masks of which those of the second are empty."""
    data = squares(folder / "data", 6)
    lines = [f"images/{i:03}.png,masks/{i:03}.png,{'fm'[i % 2]}" for i in range(6)]
    (data / "manifest.csv").write_text("\n".join([f"image,mask,{column}", *lines]) + "\n")
    given = shutil.copytree(data / "masks", folder / "given")
    for i in (1, 3, 5):
        save(given / f"{i:03}.png", np.zeros((24, 24), np.uint8))
    return data, given


def test_groups_that_the_manifest_names_are_compared_in_every_report(tmp_path: Path) -> None:
    data, given = with_manifest(tmp_path, "group:sex")
    reports = [tmp_path / f"report.{suffix}" for suffix in ("json", "csv", "html")]
    ran = medseg("evaluate", data, given, *(x for path in reports for x in ("-o", path)))
    assert ran.code == 0
    assert "worst m, 1.000 below f" in ran.out
    assert "equity-scaled Dice 0.250" in ran.out
    assert scores(reports[0])["equity"][0]["worst"] == "m"
    rows = list(csv.DictReader(reports[1].read_text(encoding="utf-8").splitlines()))
    assert [row["group:sex"] for row in rows] == ["f", "m"] * 3
    assert "By sex" in reports[2].read_text(encoding="utf-8")


def test_groups_of_any_column_are_compared_on_request(tmp_path: Path) -> None:
    data, given = with_manifest(tmp_path, "sex")
    assert "worst" not in medseg("evaluate", data, given).out
    assert "worst m" in medseg("evaluate", data, given, "--attribute", "sex").out
    ran = medseg("evaluate", data, given, "--attribute", "age")
    assert ran.code == 2
    assert "no column 'group:age' or 'age'" in ran.message


def test_tables_with_groups_can_be_compared(tmp_path: Path) -> None:
    data, given = with_manifest(tmp_path, "group:sex")
    tables = [tmp_path / f"{name}.csv" for name in ("first", "second")]
    for table, masks_ in zip(tables, (given, data / "masks"), strict=True):
        medseg("evaluate", data, masks_, "-o", table)
    ran = medseg("compare", *tables)
    assert ran.code == 0
    refused = medseg("compare", *tables, "--metric", "group:sex")
    assert "it has no metric 'group:sex'" in refused.message
