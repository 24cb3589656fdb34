"""The same numbers from MONAI, another implementation (float32 inside)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medseg.metrics.conventions import CONVENTIONS
from medseg.metrics.pair import Pair
from medseg.metrics.panel import measure

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai import metrics as monai

pytestmark = pytest.mark.filterwarnings("ignore:monai:FutureWarning")

TOLERANCE = 2.0
SPACINGS = {2: [(1.0, 1.0), (0.7, 2.5)], 3: [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8)]}


def masks(seed: int, dimensions: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two rough blobs that overlap in part."""
    random = np.random.default_rng(seed)
    shape = (40, 33) if dimensions == 2 else (12, 19, 17)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    found = []
    for _ in range(2):
        centre = [n * random.uniform(0.4, 0.6) for n in shape]
        radius = [n * random.uniform(0.2, 0.35) for n in shape]
        inside = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radius, strict=True))
        found.append(np.asarray(inside + random.normal(0, 0.15, shape) < 1))
    return found[0], found[1]


def theirs(name: str, truth: Any, prediction: Any, spacing: tuple[float, ...]) -> float:
    y, y_pred = (torch.from_numpy(m)[None, None].float() for m in (truth, prediction))
    options = {"include_background": True, "spacing": spacing}
    confusion = monai.get_confusion_matrix(y_pred, y)
    found = {
        "dice": lambda: monai.compute_dice(y_pred, y),
        "iou": lambda: monai.compute_iou(y_pred, y),
        "hd": lambda: monai.compute_hausdorff_distance(y_pred, y, **options),
        "hd95": lambda: monai.compute_hausdorff_distance(y_pred, y, percentile=95, **options),
        "assd": lambda: monai.compute_average_surface_distance(
            y_pred, y, symmetric=True, **options
        ),
        "nsd": lambda: monai.compute_surface_dice(
            y_pred, y, [TOLERANCE], use_subvoxels=True, **options
        ),
    }
    rates = {"precision": "precision", "recall": "sensitivity", "specificity": "specificity"}
    value = (
        monai.compute_confusion_matrix_metric(rates[name], confusion)
        if name in rates
        else found[name]()
    )
    return float(value)


def ours(
    name: str, convention: str, truth: Any, prediction: Any, spacing: tuple[float, ...]
) -> float:
    pair = Pair(truth, prediction, spacing=spacing, tolerance=TOLERANCE)
    functions = CONVENTIONS[convention].functions
    return measure(pair, [name], functions=functions)[name]


@pytest.mark.parametrize("spacing", [*SPACINGS[2], *SPACINGS[3]])
@pytest.mark.parametrize("name", ["dice", "iou", "precision", "recall", "specificity"])
def test_overlaps_are_those_of_monai(name: str, spacing: tuple[float, ...]) -> None:
    for seed in range(3):
        pair = masks(seed, len(spacing))
        expected = theirs(name, *pair, spacing)
        assert 0 < expected < 1
        assert ours(name, "default", *pair, spacing) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("spacing", [*SPACINGS[2], *SPACINGS[3]])
def test_surface_dice_is_that_of_monai_with_subvoxels(spacing: tuple[float, ...]) -> None:
    for seed in range(3):
        pair = masks(seed, len(spacing))
        expected = theirs("nsd", *pair, spacing)
        assert 0 < expected < 1
        assert ours("nsd", "default", *pair, spacing) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("spacing", [*SPACINGS[2], *SPACINGS[3]])
@pytest.mark.parametrize("name", ["hd", "hd95", "assd"])
def test_distances_of_the_convention_monai_are_those_of_monai(
    name: str, spacing: tuple[float, ...]
) -> None:
    for seed in range(3):
        pair = masks(seed, len(spacing))
        expected = theirs(name, *pair, spacing)
        assert expected > 0
        assert ours(name, "monai", *pair, spacing) == pytest.approx(expected, rel=1e-6)
