import csv
import io
import json
import math
import tracemalloc
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medseg.data.case import IGNORE, Label, LabelMap, Region
from medseg.data.io import write_mask
from medseg.data.source import File
from medseg.errors import DataError, MedsegError
from medseg.metrics.cases import score_case
from medseg.metrics.evaluation import Evaluation, summarise
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.panel import DEFAULT_METRICS, EmptyPolicy
from medseg.metrics.statistics import bootstrap_mean

BINARY = LabelMap((Label("background", 0), Label("nucleus", 255)))
EYE = LabelMap((Label("background", 0), Label("disc", 1), Label("cup", 2)))

Mask = NDArray[np.uint8]
masks = arrays(np.uint8, (5, 6), elements=st.integers(0, 2))


def square(value: int = 255, *, at: int = 4, side: int = 8, size: int = 24) -> Mask:
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[at : at + side, at : at + side] = value
    return mask


def empty(size: int = 24) -> Mask:
    return np.zeros((size, size), dtype=np.uint8)


def write(folder: Path, files: Mapping[str, Mask]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in files.items():
        write_mask(folder / f"{name}.png", mask)
    return folder


def scores(evaluation: Evaluation, metric: str = "dice") -> dict[str, float]:
    return evaluation.case_means(metric)


@settings(deadline=None)
@given(masks, masks)
def test_exchanging_two_labels_in_both_masks_exchanges_their_rows(
    truth: Mask, claimed: Mask
) -> None:
    exchange = np.array([0, 2, 1], dtype=np.uint8)
    swapped = LabelMap((EYE.labels[0], EYE.labels[2], EYE.labels[1]))
    before = score_case(truth, claimed, EYE)
    after = score_case(exchange[truth], exchange[claimed], swapped)
    assert before == after[::-1]


@given(masks)
def test_a_prediction_equal_to_the_truth_scores_one_in_every_class(truth: Mask) -> None:
    assert all(row.metrics["dice"] == 1 for row in score_case(truth, truth, EYE))


def test_a_prediction_of_another_size_is_a_failure_that_names_both_sizes() -> None:
    truth = np.ones((20, 30), dtype=np.uint8)
    (row,) = score_case(truth, truth.T, BINARY, case="a")
    assert row.status == "size mismatch (20x30 against 30x20)"
    assert (row.truth_pixels, row.predicted_pixels, row.metrics["dice"]) == (600, 0, 0)


def test_ignored_pixels_are_not_scored() -> None:
    truth = np.array([[0, 1, 1, IGNORE, IGNORE]], np.uint8)
    scores = score_case(truth, np.array([[0, 1, 1, 1, 0]], np.uint8), BINARY)
    assert scores[0].metrics["dice"] == 1
    assert scores[0].predicted_pixels == 2


def test_regions_are_scored_in_place_of_the_classes_they_are_made_of() -> None:
    regions = (Region("whole", (1, 2)), Region("core", (2,)))
    labels = LabelMap(tuple(Label(str(i), i) for i in range(3)), regions=regions)
    truth, claimed = np.array([[0, 1, 2, 2]], np.uint8), np.array([[0, 2, 2, 2]], np.uint8)
    scores = {row.label: row.metrics["dice"] for row in score_case(truth, claimed, labels)}
    assert scores == {"whole": 1.0, "core": pytest.approx(0.8)}


def test_a_class_index_without_a_label_is_a_failure() -> None:
    rows = score_case(empty(), square(3), EYE)
    assert [row.status for row in rows] == ["label values", "label values"]


@pytest.mark.parametrize("policy", ["one", "zero", "skip"])
def test_a_missing_prediction_is_worth_zero_even_where_nothing_was_to_be_found(
    policy: EmptyPolicy,
) -> None:
    (row,) = score_case(empty(), None, BINARY, policy)
    assert (row.status, row.metrics["dice"]) == ("missing prediction", 0)


def test_the_mean_is_over_cases_of_each_cases_mean_over_classes() -> None:
    rows = [
        *score_case(square(1), square(1), EYE, "skip", case="a"),
        *score_case(square(1), square(2), EYE, "skip", case="b"),
        *score_case(empty(), empty(), EYE, "skip", case="c"),
    ]
    found = summarise(rows, EYE, "skip")
    assert scores(found) == pytest.approx({"a": 1.0, "b": 0.0, "c": math.nan}, nan_ok=True)
    assert (found.overall["dice"].mean, found.overall["dice"].n) == (0.5, 2)
    assert found.overall["dice"].skipped == 1
    assert found.classes["disc"]["dice"] == bootstrap_mean([1, 0, math.nan])
    assert found.classes["cup"]["dice"] == bootstrap_mean([math.nan, 0, math.nan])


def test_counts_tell_failures_from_missed_structures_and_false_alarms() -> None:
    rows = [
        *score_case(square(1), empty(), BINARY, case="missed"),
        *score_case(empty(), square(1), BINARY, case="false alarm"),
        *score_case(empty(), empty(), BINARY, case="rightly empty"),
        *score_case(square(1), None, BINARY, case="crashed"),
    ]
    counts = summarise(rows, BINARY).counts()
    assert (counts.cases, counts.failures, counts.empty_truths) == (4, 1, 2)
    assert (counts.missed, counts.false_alarms) == (1, 1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth = write(tmp_path / "truth", {"a": square(), "b": square(), "sub/c": empty()})
    predictions = write(
        tmp_path / "predictions", {"a": square(), "b": square(at=8), "sub/c": empty()}
    )
    return truth, predictions


def test_folders_are_paired_by_their_paths_below(folders: tuple[Path, Path]) -> None:
    found = evaluate_folders(*folders)
    assert scores(found) == {"a": 1, "b": 0.25, "sub/c": 1}
    assert (found.counts().cases, found.counts().failures, found.extra) == (3, 0, ())


def test_a_missing_prediction_stays_in_the_table_and_in_the_mean(
    folders: tuple[Path, Path],
) -> None:
    truth, predictions = folders
    (predictions / "a.png").unlink()
    found = evaluate_folders(truth, predictions)
    assert found.failures() == {"a": "missing prediction"}
    assert found.overall["dice"].mean == pytest.approx((0 + 0.25 + 1) / 3)
    assert found.overall["dice"].n == found.counts().cases == 3


def test_unusable_predictions_are_scored_zero_with_their_reason(
    folders: tuple[Path, Path],
) -> None:
    truth, predictions = folders
    (predictions / "a.png").write_bytes(b"not a picture")
    write(predictions, {"b": square(size=25), "sub/c": square(7)})
    found = evaluate_folders(truth, predictions)
    assert found.failures() == {
        "a": "unreadable prediction",
        "b": "size mismatch (24x24 against 25x25)",
        "sub/c": "label values",
    }
    assert found.overall["dice"].mean == 0


def test_predictions_without_a_truth_are_listed_and_not_scored(folders: tuple[Path, Path]) -> None:
    truth, predictions = folders
    write(predictions, {"z": square()})
    found = evaluate_folders(truth, predictions)
    assert found.extra == ("z.png",)
    assert "z" not in scores(found)


@pytest.mark.parametrize("stored", [1, 255])
@pytest.mark.parametrize("true", [1, 255, 7])
def test_binary_masks_may_store_the_foreground_differently_on_each_side(
    tmp_path: Path, true: int, stored: int
) -> None:
    truth = write(tmp_path / "truth", {"a": square(true), "b": empty()})
    predictions = write(tmp_path / "predictions", {"a": square(stored), "b": empty()})
    assert scores(evaluate_folders(truth, predictions)) == {"a": 1, "b": 1}


def test_names_match_whatever_their_mask_suffix_folder_or_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "lésion 1") for form in ("NFC", "NFD"))
    truth = write(
        tmp_path / "truth", {f"{composed}_mask": square(), "日本": square(), "deep/x_gt": square()}
    )
    predictions = write(
        tmp_path / "predictions", {decomposed: square(), "日本_mask": square(), "x": square()}
    )
    found = evaluate_folders(truth, predictions)
    assert set(scores(found).values()) == {1.0}
    assert found.counts().cases == 3


def test_a_bare_file_name_pairs_only_where_it_is_the_only_one(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", {"p1/x": square(), "p2/x": square(), "p3/y": square()})
    predictions = write(tmp_path / "predictions", {"x": square(), "y": square()})
    found = evaluate_folders(truth, predictions)
    assert set(found.failures()) == {"p1/x", "p2/x"}
    assert found.extra == ("x.png",)


def test_pictures_that_medseg_predict_drew_are_not_taken_for_masks(
    folders: tuple[Path, Path],
) -> None:
    truth, predictions = folders
    write(predictions / "overlay", {"a": square(3), "b": square(3)})
    (predictions / "predictions.json").write_text('{"labels": {"background": 0, "cell": 255}}')
    (predictions / "a.png").unlink()
    found = evaluate_folders(truth, predictions)
    assert found.failures() == {"a": "missing prediction"}
    assert found.extra == ()


def test_two_predictions_for_one_case_are_refused(folders: tuple[Path, Path]) -> None:
    truth, predictions = folders
    (predictions / "a.bmp").write_bytes((predictions / "a.png").read_bytes())
    with pytest.raises(DataError, match=r"'a.bmp', 'a.png' are all predictions for the case 'a'"):
        evaluate_folders(truth, predictions)


def test_when_nothing_matches_the_error_shows_names_of_both_sides(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", {"a": square()})
    predictions = write(tmp_path / "predictions", {"z": square()})
    with pytest.raises(DataError, match=r"1 case \('a'\) against 1 prediction \('z.png'\)"):
        evaluate_folders(truth, predictions)


def dataset(root: Path, masks_of: Mapping[str, Mask], labels: Mapping[str, Any]) -> Path:
    write(root / "images", masks_of)
    write(root / "masks", {f"{name}_mask": mask for name, mask in masks_of.items()})
    (root / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    return root


def test_a_dataset_is_the_truth_of_the_cases_asked_for(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "data", {"a": square(), "b": square()}, {"background": 0, "nucleus": 255}
    )
    predictions = write(tmp_path / "predictions", {"a": square()})
    found = evaluate_folders(root, predictions, only=["a"])
    assert scores(found) == {"a": 1}
    assert found.labels == BINARY
    assert found.sources["a"].image == File(root / "images" / "a.png")
    with pytest.raises(DataError, match="no masks for 'q'"):
        evaluate_folders(root, predictions, only=["q"])


def test_predictions_with_their_own_label_map_may_order_and_store_classes_differently(
    tmp_path: Path,
) -> None:
    truth = square(1)
    truth[6:9, 6:9] = 2
    root = dataset(tmp_path / "data", {"a": truth}, {"background": 0, "disc": 1, "cup": 2})
    stored = np.array([0, 200, 100], dtype=np.uint8)
    predictions = write(tmp_path / "predictions", {"a": stored[truth]})
    declared = {"labels": {"background": 0, "cup": 100, "disc": 200}}
    (predictions / "predictions.json").write_text(json.dumps(declared), encoding="utf-8")
    found = evaluate_folders(root, predictions)
    assert found.labels.names == ("background", "disc", "cup")
    assert [row.metrics["dice"] for row in found.rows] == [1, 1]


@pytest.mark.parametrize("names", [["background", "disc"], ["background", "disc", "rim"]])
def test_predictions_of_other_classes_are_refused(tmp_path: Path, names: list[str]) -> None:
    root = dataset(tmp_path / "data", {"a": square(1)}, {"background": 0, "disc": 1, "cup": 2})
    predictions = write(tmp_path / "predictions", {"a": square(1)})
    declared = {"labels": {name: value for value, name in enumerate(names)}}
    (predictions / "predictions.json").write_text(json.dumps(declared), encoding="utf-8")
    with pytest.raises(DataError, match="the predictions have the classes background, disc"):
        evaluate_folders(root, predictions)


def test_an_inferred_truth_takes_the_names_that_the_predictions_declare(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", {"a": square(255)})
    predictions = write(tmp_path / "predictions", {"a": square(1)})
    (predictions / "predictions.json").write_text('{"labels": {"background": 0, "polyp": 1}}')
    found = evaluate_folders(truth, predictions)
    assert found.labels.names == ("background", "polyp")
    assert scores(found) == {"a": 1}


@pytest.mark.parametrize("text", ["[]", "{", '{"labels": {"a": [1]}}', '{"labels": {"a": 1}}'])
def test_a_damaged_predictions_json_is_named(folders: tuple[Path, Path], text: str) -> None:
    truth, predictions = folders
    (predictions / "predictions.json").write_text(text)
    with pytest.raises(DataError, match=r"predictions\.json"):
        evaluate_folders(truth, predictions)


def test_json_and_csv_hold_every_case_and_undefined_values_are_blank(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    found = evaluate_folders(*folders, empty_policy="skip")
    found.save(tmp_path / "out" / "scores.json")
    found.save(tmp_path / "out" / "scores.csv")
    read = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert [case["dice"] for case in read["cases"]] == [1, 0.25, None]
    assert read["summary"]["mean"]["dice"]["skipped"] == 1
    assert read["counts"]["cases"] == 3
    text = (tmp_path / "out" / "scores.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["dice"] for line in lines] == ["1.0", "0.25", ""]
    assert tuple(lines[0])[6:] == DEFAULT_METRICS


def test_an_unknown_report_suffix_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"Use \.html, \.json or \.csv"):
        evaluate_folders(*folders).save(tmp_path / "scores.xlsx")


def test_the_order_of_threads_does_not_change_the_result(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    first = evaluate_folders(*folders, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert first == evaluate_folders(*folders)


def test_memory_does_not_grow_with_the_number_of_cases(tmp_path: Path) -> None:
    def peak(cases: int) -> int:
        root = tmp_path / str(cases)
        files = {f"{number}": square(size=400) for number in range(cases)}
        write(root / "truth", files)
        write(root / "predictions", files)
        tracemalloc.start()
        evaluate_folders(root / "truth", root / "predictions")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)
    one_pair = 2 * 400 * 400 * 4
    assert peak(60) < peak(12) + 4 * one_pair


def test_intervals_resample_patients_where_a_pattern_finds_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for patient in range(4):
        truth = random.random((16, 16)) < 0.5
        for image in range(3):
            name = f"p{patient}_{image}.png"
            wrong = truth ^ (random.random((16, 16)) < 0.1 * patient)
            write_mask(tmp_path / "truth" / name, truth.astype(np.uint8) * 255)
            write_mask(tmp_path / "out" / name, wrong.astype(np.uint8) * 255)
    alone = evaluate_folders(tmp_path / "truth", tmp_path / "out").overall["dice"]
    patients = evaluate_folders(tmp_path / "truth", tmp_path / "out", group_pattern=r"p\d")
    found = patients.overall["dice"]
    assert (alone.groups, found.groups) == (None, 4)
    assert {row.patient for row in patients.rows} == {"p0", "p1", "p2", "p3"}
    assert None not in (alone.low, alone.high, found.low, found.high)
    assert found.mean == pytest.approx(alone.mean)
    assert found.high - found.low > alone.high - alone.low  # type: ignore[operator]


def grouped(tmp_path: Path, rows: Mapping[str, str], column: str = "group:sex") -> Evaluation:
    """Cases of which those of the group ``m`` are found by half."""
    truth = {name: square() for name in rows}
    write(tmp_path / "data" / "masks", truth)
    write(tmp_path / "data" / "images", truth)
    halves = {name: square(side=4 if group == "m" else 8) for name, group in rows.items()}
    predictions = write(tmp_path / "predictions", halves)
    lines = [f"images/{name}.png,masks/{name}.png,{group}" for name, group in rows.items()]
    manifest = tmp_path / "data" / "manifest.csv"
    manifest.write_text("\n".join([f"image,mask,{column}", *lines]) + "\n")
    return evaluate_folders(tmp_path / "data", predictions)


GROUPS = {"a": "f", "b": "m", "c": "f", "d": ""}


def test_a_manifest_with_a_group_column_has_its_groups_compared(tmp_path: Path) -> None:
    found = {each.metric: each for each in grouped(tmp_path, GROUPS).equity}
    assert list(found) == ["dice", "iou"]
    dice = found["dice"]
    assert {name: mean.mean for name, mean in dice.groups.items()} == {"f": 1, "m": 0.4}
    assert (dice.worst, dice.unknown, dice.overall) == ("m", 1, pytest.approx(0.8))
    assert dice.equity_scaled == pytest.approx(0.8 / 1.6)


def test_a_column_called_group_is_enough(tmp_path: Path) -> None:
    assert grouped(tmp_path, GROUPS, "group").equity[0].attribute == "group"


def test_other_columns_are_compared_only_when_asked_for(tmp_path: Path) -> None:
    assert grouped(tmp_path, GROUPS, "sex").equity == ()
    predictions = tmp_path / "predictions"
    asked = evaluate_folders(tmp_path / "data", predictions, attributes=["sex"])
    assert asked.equity[0].worst == "m"
    with pytest.raises(DataError, match="Did you mean 'sex'"):
        evaluate_folders(tmp_path / "data", predictions, attributes=["sax"])
    with pytest.raises(DataError, match="tells no groups"):
        evaluate_folders(tmp_path / "data" / "masks", predictions, attributes=["sex"])


def test_a_single_group_is_kept_but_not_compared(tmp_path: Path) -> None:
    evaluation = grouped(tmp_path, {"a": "f", "b": "f"})
    assert evaluation.equity == ()
    assert evaluation.groups == {"sex": {"images/a": "f", "images/b": "f"}}


def test_json_and_csv_hold_the_groups(tmp_path: Path) -> None:
    evaluation = grouped(tmp_path, GROUPS)
    content = json.loads(evaluation.to_json())
    assert content["equity"][0]["groups"]["m"]["mean"] == 0.4
    assert [case["group:sex"] for case in content["cases"]] == ["f", "m", "f", None]
    rows = list(csv.DictReader(io.StringIO(evaluation.to_csv())))
    assert [row["group:sex"] for row in rows] == ["f", "m", "f", ""]


def test_each_class_has_its_groups_compared(tmp_path: Path) -> None:
    rows = [
        row
        for name, disc, cup in (("a", 1, 1), ("b", 1, 2))
        for row in score_case(
            np.array([[1, 2]], np.uint8), np.array([[disc, cup]], np.uint8), EYE, case=name
        )
    ]
    evaluation = summarise(rows, EYE, groups={"sex": {"a": "f", "b": "m"}})
    means = {
        each.label: {name: mean.mean for name, mean in each.groups.items()}
        for each in evaluation.equity
        if each.metric == "dice"
    }
    assert means[None] == {"f": pytest.approx(1 / 3), "m": 1}
    assert means["cup"] == {"f": 0, "m": 1}
