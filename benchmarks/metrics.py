"""Speed and agreement of the metrics against MONAI.

    python benchmarks/metrics.py

Needs MONAI beside medseg. The whole default panel for a pair of 512 x 512 masks, and HD95, ASSD and
NSD for a volume of 256 x 256 x 128 voxels with a sparse organ, one thread each, against MONAI's
functions for the same numbers (with sub-voxel surfaces where MONAI has them, as medseg and
DeepMind's surface-distance count them); and how far the numbers are apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
    get_confusion_matrix,
)
from numpy.typing import NDArray

from common import RESULTS, save
from medseg.metrics.pair import Pair
from medseg.metrics.panel import DEFAULT_METRICS, measure

REPEATS = 5
SURFACE = ("hd95", "assd", "nsd")
TOLERANCE = 2.0


def ellipsoid(shape: tuple[int, ...], centre: float, radius: float) -> NDArray[np.bool_]:
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    parts = [((axis - centre * n) / (radius * n)) ** 2 for axis, n in zip(axes, shape, strict=True)]
    inside: NDArray[np.bool_] = np.asarray(sum(parts)) < 1
    return inside


def seconds(work: Callable[[], Any]) -> float:
    """The best of several runs."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def theirs(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: tuple[float, ...], *,
    overlaps: bool,
) -> dict[str, float]:  # fmt: skip
    """MONAI's numbers; its ASSD and HD95 count border voxels, its NSD sub-voxel surfaces."""
    y, y_pred = (torch.from_numpy(m)[None, None].float() for m in (truth, prediction))
    found = {
        "hd95": compute_hausdorff_distance(
            y_pred, y, include_background=True, percentile=95, spacing=spacing
        ),
        "assd": compute_average_surface_distance(
            y_pred, y, include_background=True, symmetric=True, spacing=spacing
        ),
        "nsd": compute_surface_dice(
            y_pred, y, [TOLERANCE], include_background=True, spacing=spacing, use_subvoxels=True
        ),
    }
    if overlaps:
        found["dice"] = compute_dice(y_pred, y)
        found["iou"] = compute_iou(y_pred, y)
        tp, fp, tn, fn = get_confusion_matrix(y_pred, y)[0, 0]
        found |= {"precision": tp / (tp + fp), "recall": tp / (tp + fn)}
        found["specificity"] = tn / (tn + fp)
    return {name: float(value) for name, value in found.items()}


def compare(shape: tuple[int, ...], spacing: tuple[float, ...], names: tuple[str, ...]) -> Any:
    truth, prediction = ellipsoid(shape, 0.5, 0.12), ellipsoid(shape, 0.52, 0.13)
    overlaps = len(names) > len(SURFACE)

    def ours() -> dict[str, float]:
        pair = Pair(truth, prediction, spacing=spacing, tolerance=TOLERANCE)
        return measure(pair, names)

    def monai() -> dict[str, float]:
        return theirs(truth, prediction, spacing, overlaps=overlaps)

    mine, other = ours(), monai()
    medseg_seconds, monai_seconds = seconds(ours), seconds(monai)
    return {
        "shape": shape,
        "spacing": spacing,
        "metrics": names,
        "medseg_seconds": medseg_seconds,
        "monai_seconds": monai_seconds,
        "ratio": monai_seconds / medseg_seconds,
        "medseg": mine,
        "monai": other,
        "nsd_difference": abs(mine["nsd"] - other["nsd"]),
    }


def main() -> None:
    import monai

    torch.set_num_threads(1)
    save(
        RESULTS / "metrics.json",
        {
            "monai": monai.__version__,
            "pair": compare((512, 512), (1.0, 1.0), DEFAULT_METRICS),
            "volume": compare((256, 256, 128), (1.0, 1.0, 2.5), SURFACE),
        },
    )


if __name__ == "__main__":
    main()
