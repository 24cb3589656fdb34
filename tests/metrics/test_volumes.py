from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from commands import TINY, medseg
from data.volumes import AXIAL, save_mha, save_nifti, save_nrrd
from medseg.metrics.folders import evaluate_folders
from medseg.report.html import read_cases

SHAPE = (16, 14, 6)
Saver = Callable[..., Path]


def ball(radius: float, value: int = 1, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """An ellipsoid that fills some slices more than others and some not at all."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = sum(((axis - n / 2) / n) ** 2 for axis, n in zip(axes, shape, strict=True))
    return np.where(distance < (radius / 16) ** 2, value, 0).astype(np.uint8)


def dice(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum()))


def data(root: Path, count: int = 3) -> Path:
    """Images with a bright ball, and its masks."""
    for index in range(count):
        mask = ball(4 + index)
        rng = np.random.default_rng(index)
        image = rng.integers(0, 200, SHAPE) + 900 * mask.astype(np.int16)
        save_nifti(root / "images" / f"p{index}.nii.gz", image.astype(np.int16))
        save_nifti(root / "masks" / f"p{index}.nii.gz", mask)
    return root


@pytest.mark.parametrize("truth_is_dataset", [True, False])
def test_a_volume_is_one_case_scored_over_all_its_voxels(
    tmp_path: Path, truth_is_dataset: bool
) -> None:
    root = data(tmp_path / "data")
    for index in range(3):
        save_nifti(tmp_path / "out" / f"p{index}.nii.gz", ball(5, 255))
    truth = root if truth_is_dataset else root / "masks"
    evaluation = evaluate_folders(truth, tmp_path / "out")
    assert [row.case for row in evaluation.rows] == ["p0", "p1", "p2"]
    for index, row in enumerate(evaluation.rows):
        assert row.metrics["dice"] == pytest.approx(dice(ball(4 + index), ball(5)))
        assert row.truth_pixels == (ball(4 + index) > 0).sum()


def test_formats_may_differ_where_the_grid_is_the_same(tmp_path: Path) -> None:
    oblique = AXIAL.copy()
    oblique[:2, :2] = [[1.2, -1.6], [1.6, 1.2]]
    for index, (name, saver) in enumerate({"nii": save_nifti, "nrrd": save_nrrd}.items()):
        save_nifti(tmp_path / "masks" / f"{index}.nii.gz", ball(4), oblique)
        saver(tmp_path / "out" / f"{index}.{name}", ball(4), oblique)
    save_nifti(tmp_path / "masks" / "m.nii.gz", ball(4), oblique)
    save_mha(tmp_path / "out" / "m.mha", ball(4), oblique)
    evaluation = evaluate_folders(tmp_path / "masks", tmp_path / "out")
    assert [row.metrics["dice"] for row in evaluation.rows] == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "affine", "status"),
    [
        ((16, 14, 5), AXIAL, "size mismatch (6x14x16 against 5x14x16)"),
        (SHAPE, np.diag([-2, 2, 5, 1.0]), "geometry mismatch (the prediction is stored in the"),
        (SHAPE, np.diag([2, 2, 6, 1.0]), "geometry mismatch (the prediction lies up to 5 mm away"),
    ],
)
def test_a_prediction_on_another_grid_is_a_failure(
    tmp_path: Path, shape: tuple[int, ...], affine: NDArray[np.float64], status: str
) -> None:
    save_nifti(tmp_path / "masks" / "a.nii.gz", ball(4))
    save_nifti(tmp_path / "masks" / "b.nii.gz", ball(4))
    save_nifti(tmp_path / "out" / "a.nii.gz", ball(4))
    save_nifti(tmp_path / "out" / "b.nii.gz", ball(4, shape=shape), affine)
    first, second = evaluate_folders(tmp_path / "masks", tmp_path / "out").rows
    assert (first.status, first.metrics["dice"]) == ("ok", 1)
    assert second.status.startswith(status)
    assert second.metrics["dice"] == 0


def test_damaged_and_foreign_predictions_are_failures(tmp_path: Path) -> None:
    for name in "abc":
        save_nifti(tmp_path / "masks" / f"{name}.nii.gz", ball(4))
    path = save_nifti(tmp_path / "out" / "a.nii.gz", ball(4))
    path.write_bytes(path.read_bytes()[:-30])
    save_nifti(tmp_path / "out" / "b.nii.gz", ball(4, 7))
    evaluation = evaluate_folders(tmp_path / "masks", tmp_path / "out")
    assert [row.status for row in evaluation.rows] == [
        "unreadable prediction", "label values", "missing prediction",
    ]  # fmt: skip


def test_voxels_outside_the_field_of_view_are_not_scored(tmp_path: Path) -> None:
    view = np.ones(SHAPE, np.uint8)
    view[:8] = 0
    wrong = ball(4)
    wrong[:8] = 1
    save_nifti(tmp_path / "i.nii.gz", ball(4))
    save_nifti(tmp_path / "m.nii.gz", ball(4))
    save_nifti(tmp_path / "v.nii.gz", view)
    save_nifti(tmp_path / "out" / "i.nii.gz", wrong)
    table = tmp_path / "manifest.csv"
    table.write_text("image,mask,field_of_view\ni.nii.gz,m.nii.gz,v.nii.gz\n")
    (row,) = evaluate_folders(table, tmp_path / "out").rows
    assert row.metrics["dice"] == 1


def test_the_report_shows_the_slice_with_most_truth(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    for index in range(3):
        save_nifti(tmp_path / "out" / f"p{index}.nii.gz", ball(5))
    shown = read_cases(evaluate_folders(root, tmp_path / "out"))
    assert len(shown) == 3
    for case in shown:
        truth = ball(4 + int(case.id[1:]))
        assert (case.truth > 0).sum() == (truth > 0).sum(axis=(0, 1)).max()
        assert case.prediction is not None
        assert case.image.shape == (14, 16, 1)
        assert case.image[case.truth > 0].mean() > case.image[case.truth == 0].mean()


def test_a_model_is_scored_on_whole_volumes(tmp_path: Path) -> None:
    root = data(tmp_path / "data", 5)
    trained = medseg("train", root, "-o", tmp_path / "run", *TINY)
    assert trained.code == 0, trained.err
    scored = medseg(
        "evaluate", root, tmp_path / "run", "--part", "all", "--masks", tmp_path / "masks",
        "-o", tmp_path / "r.html", "-o", tmp_path / "r.csv",
    )  # fmt: skip
    assert scored.code == 0, scored.err
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        *(f"p{index}.nii.gz" for index in range(5)), "predictions.json",
    ]  # fmt: skip
    rows = (tmp_path / "r.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [f"p{index}" for index in range(5)]
    again = medseg("evaluate", root, tmp_path / "masks", "-o", tmp_path / "again.csv")
    assert again.code == 0
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "r.csv").read_text()


def test_distances_of_volumes_are_in_mm(tmp_path: Path) -> None:
    thick = np.diag([1.0, 1.0, 4.0, 1.0])
    save_nifti(tmp_path / "truth" / "a.nii.gz", ball(5), thick)
    save_nifti(tmp_path / "out" / "a.nii.gz", np.roll(ball(5), 1, axis=2), thick)
    evaluation = evaluate_folders(tmp_path / "truth", tmp_path / "out", metrics=["hd"])
    assert evaluation.unit == "mm"
    assert evaluation.rows[0].metrics["hd"] == pytest.approx(4)
