from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data.builders import save
from medseg.data.case import Label, LabelMap
from medseg.errors import DataError, MedsegError
from medseg.metrics.borders import border
from medseg.metrics.cases import score_case
from medseg.metrics.conventions import CONVENTIONS, convention_named
from medseg.metrics.evaluation import CaseScore, summarise
from medseg.metrics.pair import Pair
from medseg.metrics.panel import METRICS, measure
from medseg.report import words
from medseg.report.terminal import render
from medseg.scoring import evaluate

Mask = NDArray[np.bool_]
NAN = math.nan
ALL_BUT_DEFAULT = [name for name in CONVENTIONS if name != "default"]


def flat() -> tuple[Mask, Mask]:
    """A disk, and one with a slit and a stray pixel that touches the image's edge."""
    y, x = np.mgrid[:24, :20]
    truth = (y - 10) ** 2 + (x - 9) ** 2 <= 40
    slit = (y == 12) & (x > 3)
    prediction = (((y - 12) ** 2 + (x - 6) ** 2 <= 38) & ~slit) | ((y == 2) & (x == 18))
    return truth, prediction


def solid() -> tuple[Mask, Mask]:
    """Two ellipsoids."""
    z, y, x = np.mgrid[:6, :16, :14]
    truth = (2 * (z - 2)) ** 2 + (y - 7) ** 2 + (x - 6) ** 2 <= 25
    return truth, (2 * (z - 3)) ** 2 + (y - 8) ** 2 + (x - 4) ** 2 <= 22


PAIRS = {
    "2D": Pair(*flat()),
    "2D, 0.5 x 2 mm": Pair(*flat(), spacing=(0.5, 2.0)),
    "3D, 5 x 1 x 0.8 mm": Pair(*solid(), spacing=(5.0, 1.0, 0.8)),
}
SHOWN = flat()[0]
EMPTY = np.zeros_like(SHOWN)


def scored(name: str, pair: Pair, metrics: Mapping[str, float]) -> dict[str, float]:
    return measure(pair, metrics, functions=CONVENTIONS[name].functions)


# By MONAI 1.6.1 (float32), surface-distance 0.1 and MedPy 0.5.2; NSD within 2.
GOLDEN: dict[str, dict[str, dict[str, float]]] = {
    "monai": {
        "2D": {
            "dice": 0.5950413,
            "iou": 0.4235294,
            "precision": 0.6371682,
            "recall": 0.5581396,
            "specificity": 0.8831909,
            "accuracy": 0.7958333,
            "hd": 6.403124,
            "hd95": 4.24264,
            "assd": 2.156062,
            "nsd": 0.5061728,
        },
        "2D, 0.5 x 2 mm": {
            "hd": 6.708204,
            "hd95": 6.048682,
            "assd": 2.010188,
            "nsd": 0.654321,
        },
        "3D, 5 x 1 x 0.8 mm": {
            "dice": 0.5568628,
            "iou": 0.3858696,
            "hd": 5.617829,
            "hd95": 5.161395,
            "assd": 1.810769,
            "nsd": 0.6891026,
        },
    },
    "deepmind": {
        "2D": {
            "dice": 0.5950413223140496,
            "hd": 6.4031242374328485,
            "hd95": 4.242640687119285,
            "nsd": 0.4954716516119916,
        },
        "2D, 0.5 x 2 mm": {"hd": 6.708203932499369, "hd95": 6.0, "nsd": 0.7371927030544905},
        "3D, 5 x 1 x 0.8 mm": {
            "dice": 0.5568627450980392,
            "hd": 5.617828762075256,
            "hd95": 5.0,
            "nsd": 0.8304800732224905,
        },
    },
    "medpy": {
        "2D": {
            "dice": 0.5950413223140496,
            "iou": 0.4235294117647059,
            "precision": 0.6371681415929203,
            "recall": 0.5581395348837209,
            "specificity": 0.8831908831908832,
            "hd": 6.4031242374328485,
            "hd95": 4.123105625617661,
            "assd": 2.1560624903114824,
        },
        "2D, 0.5 x 2 mm": {
            "hd": 6.708203932499369,
            "hd95": 6.020797289396148,
            "assd": 2.010188017329706,
        },
        "3D, 5 x 1 x 0.8 mm": {
            "dice": 0.5568627450980392,
            "hd": 5.617828762075256,
            "hd95": 5.079536339374629,
            "assd": 1.8107694643079861,
        },
    },
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in GOLDEN.items() for case in cases]
)
def test_the_numbers_are_those_of_the_program(name: str, case: str) -> None:
    expected = GOLDEN[name][case]
    exact = 1e-12 if name != "monai" else 1e-6
    assert scored(name, PAIRS[case], expected) == pytest.approx(expected, rel=exact)


# What the same versions give; an exception of MedPy's and infinity are NaN.
MISSED, FALSE_ALARM, NOTHING = (SHOWN, EMPTY), (EMPTY, SHOWN), (EMPTY, EMPTY)
SPECIFICITY = 1 - SHOWN.mean()
WHERE_EMPTY = [
    ("monai", MISSED, {"dice": 0, "iou": 0, "precision": NAN, "recall": 0, "nsd": 0}),
    ("monai", FALSE_ALARM, {"dice": NAN, "iou": NAN, "precision": 0, "recall": NAN, "nsd": 0}),
    ("monai", NOTHING, {"dice": NAN, "iou": NAN, "precision": NAN, "recall": NAN, "nsd": NAN}),
    *[
        ("monai", masks, {"hd": NAN, "hd95": NAN, "assd": NAN})
        for masks in (MISSED, FALSE_ALARM, NOTHING)
    ],
    ("monai", MISSED, {"specificity": 1, "accuracy": SPECIFICITY}),
    ("monai", FALSE_ALARM, {"specificity": SPECIFICITY, "accuracy": SPECIFICITY}),
    ("deepmind", MISSED, {"dice": 0, "hd": NAN, "hd95": NAN, "nsd": 0}),
    ("deepmind", FALSE_ALARM, {"dice": 0, "hd": NAN, "hd95": NAN, "nsd": 0}),
    ("deepmind", NOTHING, {"dice": NAN, "hd": NAN, "hd95": NAN, "nsd": NAN}),
    ("nnunet", MISSED, {"dice": 0, "iou": 0}),
    ("nnunet", FALSE_ALARM, {"dice": 0, "iou": 0}),
    ("nnunet", NOTHING, {"dice": NAN, "iou": NAN}),
    ("medpy", MISSED, {"dice": 0, "iou": 0, "precision": NAN, "recall": 0, "specificity": 1}),
    ("medpy", FALSE_ALARM, {"dice": 0, "iou": 0, "precision": 0, "recall": NAN}),
    ("medpy", NOTHING, {"dice": NAN, "iou": 1, "precision": NAN, "recall": NAN}),
    *[
        ("medpy", masks, {"hd": NAN, "hd95": NAN, "assd": NAN})
        for masks in (MISSED, FALSE_ALARM, NOTHING)
    ],
]


@pytest.mark.parametrize(("name", "masks", "expected"), WHERE_EMPTY)
def test_empty_regions_are_worth_what_they_are_in_the_program(
    name: str, masks: tuple[Mask, Mask], expected: dict[str, float]
) -> None:
    assert scored(name, Pair(*masks), expected) == pytest.approx(expected, nan_ok=True)


def test_pranet_takes_dice_and_iou_over_256_thresholds_of_the_stretched_map() -> None:
    truth = np.array([[1, 1, 0, 0]], bool)
    # Stretched it is 1, 1/2, 0, 0.
    pair = Pair(truth, truth, probability=np.array([[0.8, 0.5, 0.2, 0.2]]))
    found = scored("pranet", pair, {"dice": 0, "iou": 0, "threshold_dice": 0})
    # At t = 0 all four; at 1 to 127 of 255 both; at the other 128 the first alone.
    assert found["dice"] == pytest.approx((4 / 6 + 127 * 1 + 128 * 2 / 3) / 256)
    assert found["iou"] == pytest.approx((2 / 4 + 127 * 1 + 128 * 1 / 2) / 256)
    assert found["threshold_dice"] == found["dice"]


def test_pranet_gives_nothing_for_finding_nothing_where_there_is_nothing() -> None:
    pair = Pair(EMPTY, EMPTY, probability=np.zeros(EMPTY.shape))
    found = scored("pranet", pair, {"dice": 0, "iou": 0, "threshold_dice": 0, "weighted_f": 0})
    assert found == pytest.approx(
        {"dice": 0, "iou": 0, "threshold_dice": 0, "weighted_f": NAN}, nan_ok=True
    )


def test_pranets_program_divides_the_e_measure_by_one_pixel_less() -> None:
    pair = Pair(EMPTY, EMPTY, probability=np.full(EMPTY.shape, 0.3))
    default = measure(pair, ["e_measure"])["e_measure"]
    found = scored("pranet", pair, {"e_measure": 0})["e_measure"]
    assert found == pytest.approx(default * EMPTY.size / (EMPTY.size - 1))


def test_a_border_is_what_touches_the_outside_or_the_images_edge_by_a_side() -> None:
    full = np.ones((4, 5), bool)
    inside = np.zeros((4, 5), bool)
    inside[1:3, 1:4] = True
    assert np.array_equal(border(full), ~inside)


@pytest.mark.parametrize("name", ALL_BUT_DEFAULT)
def test_what_a_convention_does_not_define_stays_the_defaults(name: str) -> None:
    others = [metric for metric in METRICS if metric not in CONVENTIONS[name].functions]
    truth, prediction = flat()
    pair = Pair(truth, prediction, probability=np.where(prediction, 0.9, 0.2))
    assert scored(name, pair, dict.fromkeys(others, 0)) == measure(pair, others)


@pytest.mark.parametrize("name", ALL_BUT_DEFAULT)
def test_conventions_define_only_metrics_there_are(name: str) -> None:
    assert CONVENTIONS[name].functions
    assert set(CONVENTIONS[name].functions) <= set(METRICS)


def test_an_unknown_convention_is_refused_with_the_nearest() -> None:
    with pytest.raises(MedsegError, match=r"--convention monia: there is no such .*monai"):
        convention_named("monia")


LABELS = LabelMap((Label("background", 0), Label("polyp", 1)))


def rows_of(name: str) -> list[CaseScore]:
    """A perfect case, one missed and one without a prediction."""
    truth = SHOWN.astype(np.uint8)
    predictions = {"perfect": truth, "missed": np.zeros_like(truth), "absent": None}
    return [
        row
        for case, prediction in predictions.items()
        for row in score_case(truth, prediction, LABELS, case=case, convention=CONVENTIONS[name])
    ]


def test_what_a_convention_leaves_out_is_counted_beside_the_mean() -> None:
    evaluation = summarise(rows_of("medpy"), LABELS, convention=CONVENTIONS["medpy"])
    assert evaluation.overall["hd95"].skipped == 1
    assert evaluation.counts().missed == 1
    shown = terminal(evaluation)
    assert "1 left out" in next(line for line in shown.splitlines() if "HD95" in line)


def test_a_failure_takes_the_worst_score_under_every_convention() -> None:
    for name in CONVENTIONS:
        absent = rows_of(name)[-1]
        assert absent.metrics["dice"] == 0
        assert absent.metrics["hd95"] == pytest.approx(math.hypot(*SHOWN.shape))


def test_reports_name_the_convention_and_what_is_not_its_own() -> None:
    evaluation = summarise(
        [row for row in rows_of("nnunet") if row.status == "ok"],
        LABELS,
        convention=CONVENTIONS["nnunet"],
    )
    assert words.convention(evaluation).startswith("convention nnunet for Dice, IoU; default for")
    assert "convention nnunet for Dice, IoU" in terminal(evaluation)
    found = json.loads(evaluation.to_json())
    assert (found["convention"], found["convention_metrics"]) == ("nnunet", ["dice", "iou"])


def test_nothing_is_said_of_the_default_convention() -> None:
    assert words.convention(summarise(rows_of("default"), LABELS)) == ""


def terminal(evaluation: object) -> str:
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=200).print(render(evaluation))  # type: ignore[arg-type]
    return out.getvalue()


def folder(path: Path, count: int, shift: int = 0, prefix: str = "") -> Path:
    for number in range(count):
        save(path / f"{prefix}{number}.png", np.roll(SHOWN, shift, 0).astype(np.uint8) * 255)
    return path


def test_a_folder_of_masks_alone_has_no_numbers_of_pranets(tmp_path: Path) -> None:
    truth, given = folder(tmp_path / "truth", 2), folder(tmp_path / "given", 2, 1)
    with pytest.raises(MedsegError, match="--convention pranet: it needs probabilities"):
        evaluate(truth, given, convention="pranet")


def test_masks_with_their_probabilities_are_scored_as_pranet_does(tmp_path: Path) -> None:
    truth, given = folder(tmp_path / "truth", 1), folder(tmp_path / "given", 1, 2)
    (given / "probabilities").mkdir()
    # Sure of everything: the mask's Dice, but that of the whole image at t = 0.
    map_ = np.roll(SHOWN, 2, 0)[None].astype(np.float32)
    np.savez(given / "probabilities" / "0.npz", probabilities=map_)
    usual = evaluate(truth, given).overall["dice"].mean
    assert usual is not None
    whole = 2 * SHOWN.sum() / (SHOWN.sum() + SHOWN.size)
    found = evaluate(truth, given, convention="pranet").overall["dice"].mean
    assert found == pytest.approx((255 * usual + whole) / 256)


def test_folders_without_a_name_in_common_are_counted_and_named(tmp_path: Path) -> None:
    truth, given = folder(tmp_path / "truth", 4, prefix="a"), folder(tmp_path / "given", 1)
    found = r"4 cases \('a0', 'a1', 'a2' ...\) against 1 prediction \('0.png'\)"
    with pytest.raises(DataError, match=found):
        evaluate(truth, given)


def test_a_truth_that_was_predicted_looks_swapped(tmp_path: Path) -> None:
    truth, given = folder(tmp_path / "truth", 2), folder(tmp_path / "given", 2, 1)
    labels = {"labels": {"background": 0, "polyp": 255}}
    (truth / "predictions.json").write_text(json.dumps(labels), encoding="utf-8")
    assert "are the two swapped?" in evaluate(truth, given).note
    assert evaluate(given, truth).note == ""


def test_predictions_equal_to_the_truth_are_doubted(tmp_path: Path) -> None:
    truth = folder(tmp_path / "truth", 2)
    assert "are these predictions the truth itself?" in evaluate(truth, truth).note
    assert evaluate(truth, folder(tmp_path / "given", 2, 1)).note == ""
