"""Masks that number their objects are scored by these numbers, not by what happens to touch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from commands import medseg
from medseg.data.io import write_mask
from medseg.data.registry import Registration, register
from medseg.errors import DataError
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.numbered import INSTANCE_METRICS, Numbered
from medseg.report.html import read_cases

OBJECTS = ("aji", "pq", "ap", "object_f1", "object_dice", "object_hausdorff")

Map = NDArray[np.integer]


def touching(first: int = 7, second: int = 900) -> Map:
    """Two squares of 4 x 4 pixels side by side, which together are one component."""
    numbers = np.zeros((10, 12), np.uint16)
    numbers[3:7, 2:6], numbers[3:7, 6:10] = first, second
    return numbers


def write(folder: Path, **masks: Map) -> Path:
    for name, mask in masks.items():
        write_mask(folder / f"{name}.png", mask)
    return folder


def scores(truth: Path, predictions: Path, *, instances: bool = True) -> Mapping[str, float]:
    found = evaluate_folders(truth, predictions, metrics=INSTANCE_METRICS, instances=instances)
    (row,) = found.rows
    return row.metrics


def test_objects_that_touch_are_several_whatever_their_numbers(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    found = scores(truth, write(tmp_path / "out", a=touching(2, 1)))
    assert [found[name] for name in ("dice", *OBJECTS)] == [1, 1, 1, 1, 1, 1, 0]


def test_a_class_mask_of_objects_that_touch_finds_them_as_one(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    found = scores(truth, write(tmp_path / "out", a=(touching() > 0).astype(np.uint8) * 255))
    # The best partner of both: IoU 1/2, which is no match, but covers all of the first.
    assert found["dice"] == 1
    assert found["aji"] == pytest.approx((16 + 16) / (32 + 32))
    assert (found["pq"], found["ap"]) == (0, 0)
    assert found["object_f1"] == pytest.approx(2 / 3)
    assert found["object_dice"] == pytest.approx(2 * 16 / (16 + 32))


def test_two_numbers_for_one_object_part_it(tmp_path: Path) -> None:
    whole = (touching() > 0).astype(np.uint8)
    whole[0, 0] = 2
    halves = touching()
    halves[0, 0] = 3
    found = scores(write(tmp_path / "truth", a=whole), write(tmp_path / "out", a=halves))
    # Of 2 true and 3 predicted objects the single pixel is found.
    assert found["rq"] == pytest.approx(2 / 5)
    assert found["aji"] == pytest.approx((16 + 1) / (32 + 16 + 1))


def test_an_object_in_two_pieces_is_one(tmp_path: Path) -> None:
    pieces = np.zeros((8, 8), np.uint8)
    pieces[1:3, 1:7], pieces[5:7, 1:7], pieces[0, 0] = 4, 4, 5
    found = scores(write(tmp_path / "truth", a=pieces), write(tmp_path / "out", a=pieces))
    assert found["pq"] == 1


def test_a_missed_image_of_objects_scores_the_worst(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    found = scores(truth, write(tmp_path / "out", a=np.zeros((10, 12), np.uint8)))
    assert [found[name] for name in OBJECTS[:-1]] == [0] * 5
    assert found["object_hausdorff"] == pytest.approx(np.hypot(10, 12))


def test_a_prediction_of_another_size_is_a_failure(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    out = write(tmp_path / "out", a=touching().T)
    found = evaluate_folders(truth, out, instances=True, metrics=["pq"])
    assert found.failures() == {"a": "size mismatch (10x12 against 12x10)"}
    assert found.rows[0].metrics["pq"] == 0


def test_numbers_are_asked_of_the_truth_and_found_in_predictions(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    regions = write(tmp_path / "regions", a=(touching() > 0).astype(np.uint8))
    assert evaluate_folders(truth, truth, instances=True).numbered == Numbered(True, True)
    assert evaluate_folders(truth, regions, instances=True).numbered == Numbered(True, False)
    with pytest.raises(DataError, match="no mask numbers its objects"):
        evaluate_folders(regions, truth, instances=True)


def test_predictions_that_declare_their_classes_are_no_numbers(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    out = write(tmp_path / "out", a=(touching() > 0).astype(np.uint8) * 255)
    (out / "predictions.json").write_text('{"labels": {"background": 0, "nucleus": 255}}')
    found = evaluate_folders(truth, out, instances=True, metrics=["pq"])
    assert found.labels.names == ("background", "nucleus")
    assert (found.rows[0].metrics["dice"], found.rows[0].metrics["pq"]) == (1, 0)


def test_a_jpeg_holds_no_numbers(tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    Image.fromarray(touching(60, 200).astype(np.uint8)).save(truth / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: went through lossy compression"):
        evaluate_folders(truth, truth, instances=True)


def test_a_registered_dataset_of_numbered_objects_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_HOME", str(tmp_path / "home"))
    write(tmp_path / "data" / "images", a=np.zeros((10, 12), np.uint8))
    write(tmp_path / "data" / "masks", a=touching())
    register(Registration("nuclei", tmp_path / "data", entry=False, objects=True))
    out = write(tmp_path / "out", a=touching())
    found = scores(Path("nuclei"), out, instances=False)
    assert (found["dice"], found["pq"], found["aji"]) == (1, 1, 1)


def test_a_report_shows_numbered_masks_as_regions(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    (case,) = read_cases(evaluate_folders(truth, truth, instances=True))
    assert case.prediction is not None
    assert set(np.unique(case.truth)) == set(np.unique(case.prediction)) == {0, 1}


def test_the_command_says_whose_objects_are_numbered(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", a=touching())
    page = tmp_path / "page.html"
    ran = medseg("evaluate", truth, truth, "--instances", "-o", page, "--workers", "1")
    assert ran.code == 0
    assert "objects: by number" in ran.out
    assert "PQ" in ran.out
    assert "objects: by number" in page.read_text(encoding="utf-8")
