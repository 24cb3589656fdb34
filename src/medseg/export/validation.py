"""The parts of a run's split that an export needs: validation to score, training to calibrate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Case
from medseg.errors import MedsegError
from medseg.inference.files import predict_images
from medseg.inference.predictor import Predictor
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.pairing import Reading
from medseg.scoring import choose_cases

CALIBRATION_CASES = 64
"""More do not make the ranges of values better."""


@dataclass(frozen=True)
class Validation:
    """The data that a model was trained on.

    Attributes:
        truth: the dataset.
        model: the run, which knows how the dataset was split.
        layout: how the dataset lies on disk, where it cannot be recognised.
        cases: of the validation part, labelled.
    """

    truth: Path
    model: Path
    layout: str
    cases: tuple[Case, ...]

    def dice(self, predictor: Predictor) -> float:
        """Mean Dice of the validation part in points, 0..100, as of `medseg evaluate --part val`.

        Args:
            predictor: whatever computes the model.

        Raises:
            MedsegError: a mask cannot be read.
        """
        snap = predictor.manifest.recipe.get("data", {}).get("snap_masks", "auto")
        with tempfile.TemporaryDirectory() as folder:
            predict_images(predictor, {case.id: case.image for case in self.cases}, folder)
            evaluation = evaluate_folders(
                self.truth,
                Path(folder),
                layout=self.layout,
                only=[case.id for case in self.cases],
                labels=predictor.labels if snap == "always" else None,
                reading=Reading(snap, predictor.max_pixels),
                metrics=("dice",),
            )
        mean = evaluation.overall["dice"].mean
        assert mean is not None  # empty truths count, too
        return 100 * mean

    def calibration_images(self, max_pixels: int) -> Iterator[NDArray[np.uint8]]:
        """``(H, W, C)`` images of the training part, at most 64, always the same."""
        cases = choose_cases(self.truth, self.model, "train", layout=self.layout).cases
        ordered = sorted(cases, key=lambda case: case.id)
        chosen = np.random.default_rng(0).permutation(len(ordered))[:CALIBRATION_CASES]
        for index in sorted(chosen):
            yield ordered[index].image.read_image(max_pixels=max_pixels)


def open_validation(data: Path, model: Path, *, layout: str = "auto") -> Validation:
    """The validation part of ``data`` in the split of the run ``model``.

    Raises:
        MedsegError: ``data`` cannot be read, or the run was not trained on it.
    """
    cases = choose_cases(data, model, "val", layout=layout).cases
    return Validation(data, model, layout, cases)


def no_split(data: Path, model: Path) -> MedsegError:
    """That ``model`` does not know how ``data`` was split."""
    return MedsegError(
        f"--data {data}", f"{model} does not know how it was split",
        "Give the run's folder and the data it was trained on",
    )  # fmt: skip
