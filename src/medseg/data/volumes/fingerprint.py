"""What a dataset of volumes looks like in numbers: the facts that defaults are chosen from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, LabelMap
from medseg.data.io import MAX_PIXELS, dicom
from medseg.data.labels import Snap
from medseg.data.slices import Whole, volume_of
from medseg.data.volumes.normalise import Intensity
from medseg.data.volumes.read import Grid, grid_of, read_image, read_mask
from medseg.data.volumes.resample import ANISOTROPIC, Triple
from medseg.errors import DataError

MOST_LOOKED_AT = 100
"""Voxels of no more training volumes are read; they lie evenly over the training part."""

_FOREGROUND_VOXELS = 10_000
_AIR = -900.0
_EMPTY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """One channel of the training volumes, in stored values.

    Attributes:
        low: 0.5 percentile of voxels of structures, each volume counted alike.
        high: 99.5 percentile.
        mean: of them.
        std: their standard deviation.
        smallest: of all voxels, the median over volumes.
    """

    low: float
    high: float
    mean: float
    std: float
    smallest: float


@dataclass(frozen=True, slots=True)
class VolumeClassFacts:
    """A foreground class in the training volumes that were looked at.

    Attributes:
        name: of the label.
        voxel_share: of all known voxels.
        volume_share: of the volumes that show it.
    """

    name: str
    voxel_share: float
    volume_share: float


@dataclass(frozen=True, slots=True)
class VolumeFingerprint:
    """What the plan of a training on volumes is made from; of the training part alone, but counts.

    Attributes:
        cases: volumes in the dataset.
        labelled: usable, with a mask.
        patients: among the usable ones; None when unknown.
        training: volumes in the training part.
        looked_at: of which the voxels were read.
        plane: in which most lie; empty where it is unknown.
        shapes: slices, rows and columns of each, turned to ``plane``.
        spacings: between them in mm, likewise; None where no file says it.
        channels: of the volumes as the network sees them.
        modalities: as the dataset or its DICOM files declare them, one a channel; empty where
            they do not.
        intensities: one a channel.
        empty_share: of voxels that are 0 in every channel, the median over volumes.
        classes: the foreground, in the order of the label map.
    """

    cases: int
    labelled: int
    patients: int | None
    training: int
    looked_at: int
    plane: str
    shapes: tuple[tuple[int, int, int], ...]
    spacings: tuple[Triple, ...] | None
    channels: int
    modalities: tuple[str, ...]
    intensities: tuple[ChannelFacts, ...]
    empty_share: float
    classes: tuple[VolumeClassFacts, ...]

    @property
    def spacing(self) -> Triple | None:
        """The median along each axis."""
        return None if self.spacings is None else _median(self.spacings)

    @property
    def shape(self) -> Triple:
        """The median along each axis, in voxels."""
        return _median(self.shapes)

    def to_json(self) -> dict[str, Any]:
        """As plain dicts, lists, numbers and text."""
        return asdict(self)


def take_volume_fingerprint(
    training: Sequence[Whole],
    *,
    root: Path,
    counts: tuple[int, int, int | None],
    labels: LabelMap,
    channels: int,
    snap: Snap = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> VolumeFingerprint:
    """Measure the training volumes.

    Args:
        training: labelled volumes, at least one.
        root: of the dataset, where a ``dataset.json`` may name its modalities.
        counts: volumes in the dataset, usable ones, and patients or None.
        labels: the classes.
        channels: of the volumes as the network sees them.
        snap: as in :func:`medseg.data.labels.read_classes`.
        max_pixels: of a slice.
        progress: called with (done, all).

    Raises:
        DataError: a file cannot be read, or only some volumes say their spacing.
    """
    plane = _commonest_plane(training)
    grids = [grid_of(whole.image, plane) for whole in training]
    places = np.unique(
        np.linspace(0, len(training) - 1, min(len(training), MOST_LOOKED_AT)).round()
    )
    looked_at = [training[int(place)] for place in places]
    foreground, smallest, empty, counted = [], [], [], []
    for done, whole in enumerate(looked_at, start=1):
        image = read_image(whole.image, channels, max_pixels=max_pixels)
        mask = read_mask(whole, labels, snap=snap, max_pixels=max_pixels)
        foreground.append(_some_foreground(image, mask))
        smallest.append(image.min(axis=(1, 2, 3)))
        empty.append(1 - float(image.any(axis=0).mean()))
        counted.append(np.bincount(mask.ravel(), minlength=256))
        if progress is not None:
            progress(done, len(looked_at))
    table = np.array(counted, np.float64)  # (volumes, 256)
    table[:, IGNORE] = 0
    return VolumeFingerprint(
        *counts,
        training=len(training),
        looked_at=len(looked_at),
        plane=plane,
        shapes=tuple(grid.shape for grid in grids),
        spacings=_spacings(training, grids),
        channels=channels,
        modalities=declared_modalities(root, channels) or _modalities_of_files(looked_at, channels),
        intensities=_channel_facts(np.concatenate(foreground, axis=1), np.array(smallest)),
        empty_share=float(np.median(empty)),
        classes=tuple(
            VolumeClassFacts(
                label.name,
                float(table[:, index].sum() / max(1.0, table.sum())),
                float((table[:, index] > 0).mean()),
            )
            for index, label in enumerate(labels.foreground, start=1)
        ),
    )


def target_spacing(found: VolumeFingerprint) -> tuple[Triple | None, str]:
    """The spacing that volumes are resampled to, and why.

    The median along each axis; where slices are more than three times as far apart as pixels, and
    at least three times fewer, the 10th percentile of their distances, so that not half of all
    volumes lose slices (nnU-Net, Isensee et al. 2021).
    """
    if found.spacings is None:
        return None, "no volume says the spacing of its voxels: they are taken as they are"
    median, spacings = _median(found.spacings), np.array(found.spacings)
    coarse = int(np.argmax(median))
    others = [axis for axis in range(3) if axis != coarse]
    finest = max(median[axis] for axis in others)
    shape = found.shape
    few = ANISOTROPIC * shape[coarse] < min(shape[axis] for axis in others)
    if median[coarse] <= ANISOTROPIC * finest or not few:
        same = bool((np.ptp(spacings, axis=0) <= 1e-3 * np.array(median)).all())
        reason = "all training volumes have it" if same else "the median of the training volumes"
        return _rounded(median), reason
    tenth = max(finest, float(np.percentile(spacings[:, coarse], 10)))
    target = [tenth if axis == coarse else median[axis] for axis in range(3)]
    return _rounded((target[0], target[1], target[2])), (
        "the median of the training volumes; of the distance between slices, which are more than "
        "three times as far apart as pixels, the 10th percentile"
    )


def intensity_rules(found: VolumeFingerprint, wanted: str) -> tuple[tuple[Intensity, ...], str]:
    """How each channel is normalised, and why.

    Args:
        found: of the data.
        wanted: ``ct``, ``zscore`` or ``auto``.
    """
    foreground = found.empty_share >= _EMPTY_SHARE
    are_ct = [bool(re.search(r"\bct\b", name.lower())) for name in found.modalities]
    reason = f"the data say {', '.join(found.modalities)}"
    if not found.modalities:
        # Values alone do not tell: those of MR are stored in any unit, below -1000 as well.
        are_ct, reason = [False] * found.channels, "the data do not say their modality"
        if min(facts.smallest for facts in found.intensities) <= _AIR:
            reason += "; if values are HU, set ct"
    if wanted != "auto":
        are_ct, reason = [wanted == "ct"] * found.channels, "set"
    rules = tuple(
        _ct(facts) if is_ct else Intensity(kind="zscore", foreground=foreground)
        for facts, is_ct in zip(found.intensities, are_ct, strict=True)
    )
    if foreground and not all(are_ct):
        reason += f"; {100 * found.empty_share:.0f} % of a volume are 0 and left out of its mean"
    return rules, reason


def _ct(facts: ChannelFacts) -> Intensity:
    # Structures of one value would leave nothing to cut off at.
    high = facts.high if facts.high > facts.low else facts.low + 1.0
    return Intensity(kind="ct", low=facts.low, high=high, mean=facts.mean, std=max(facts.std, 1e-6))


def declared_modalities(root: Path, channels: int) -> tuple[str, ...]:
    """The modalities that a ``dataset.json`` of ``root`` names, if it names one a channel."""
    path = root if root.suffix.lower() == ".json" else root / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        named = content.get("channel_names") or content.get("modality") or {}
        names = tuple(str(named[key]) for key in sorted(named, key=int))
    except (OSError, ValueError, TypeError, AttributeError):
        return ()
    return names if len(names) == channels else ()


def _modalities_of_files(volumes: Sequence[Whole], channels: int) -> tuple[str, ...]:
    """What DICOM files say, where all say the same."""
    found = set()
    for whole in volumes:
        files = volume_of(whole.image)
        if files is None or not dicom.is_dicom(files[0]):
            return ()
        found.add(dicom.modality(files[0]))
    return (found.pop(),) * channels if len(found) == 1 and "" not in found else ()


def _commonest_plane(training: Sequence[Whole]) -> str:
    planes = Counter(grid_of(whole.image).plane for whole in training)
    return planes.most_common(1)[0][0]


def _spacings(training: Sequence[Whole], grids: Sequence[Grid]) -> tuple[Triple, ...] | None:
    known = tuple(grid.spacing for grid in grids if grid.spacing is not None)
    if not known:
        return None
    if len(known) < len(grids):
        silent = next(
            whole for whole, grid in zip(training, grids, strict=True) if grid.spacing is None
        )
        raise DataError(
            silent.image,
            f"does not say the spacing of its voxels, as {len(known)} of {len(grids)} volumes do",
            "Write its spacing and orientation into its header, or leave it out",
        )
    return known


def _some_foreground(image: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(C, N)``: values of structures; of a volume that shows none, nothing."""
    inside = np.flatnonzero((mask != 0) & (mask != IGNORE))
    if len(inside) > _FOREGROUND_VOXELS:
        inside = np.random.default_rng(0).choice(inside, _FOREGROUND_VOXELS, replace=False)
    return image.reshape(len(image), -1)[:, inside]


def _channel_facts(
    foreground: NDArray[np.float32], smallest: NDArray[np.float32]
) -> tuple[ChannelFacts, ...]:
    facts = []
    for values, least in zip(foreground, smallest.T, strict=True):
        wide = values.astype(np.float64) if values.size else np.zeros(1)
        low, high = np.percentile(wide, (0.5, 99.5))
        facts.append(
            ChannelFacts(
                float(low), float(high), float(wide.mean()), float(wide.std()),
                float(np.median(least)),
            )
        )  # fmt: skip
    return tuple(facts)


def _median(values: Sequence[Sequence[float]]) -> Triple:
    across, rows, columns = (float(each) for each in np.median(np.array(values), axis=0))
    return across, rows, columns


def _rounded(mm: Triple) -> Triple:
    """To five digits: headers hold float32."""
    across, rows, columns = (float(f"{each:.5g}") for each in mm)
    return across, rows, columns
