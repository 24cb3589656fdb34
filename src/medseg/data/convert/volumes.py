"""Writing volumes as gzipped NIfTI."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.convert.items import Item, Job, numbered, room_for, stored, with_suffix
from medseg.data.io import nifti
from medseg.data.io.geometry import AS_STORED, Header
from medseg.data.io.volume import read_header, read_pictures, read_voxels
from medseg.data.labels import encode_mask
from medseg.data.slices import Slice, Stack
from medseg.data.source import Channels, Source

_GZIP = b"\x1f\x8b"
_SHOWN = "volumes keep the 8-bit grey values that they are shown with (DICOM window)"
_UNPLACED = "volumes without spacing and orientation got a spacing of 1 mm"


def write_images(job: Job, item: Item, stem: Path, *, colours: bool = True) -> list[Path]:
    """Write a volume, one file a channel; NIfTI is copied, other formats keep their values.

    Args:
        job: the conversion.
        item: a volume.
        stem: the path without number and suffix; numbers are left out for a single file.
        colours: whether a file may hold colours, else they are channels.
    """
    image = item.case.image
    parts = image.parts if isinstance(image, Channels) else (image,)
    volumes: list[tuple[Path | NDArray[Any], Header]] = []
    for part in parts:
        assert isinstance(part, Slice)
        header = read_header(part.volume)
        split = header.channels is not None or (header.colour and not colours)
        if len(part.volume) == 1 and _is_nifti(part.volume[0]) and not split:
            volumes.append((part.volume[0], header))
        else:
            values = _values(job, part, header, split=split)
            volumes += [(channel, header) for channel in values]
    paths = []
    for index, (volume, header) in enumerate(volumes):
        path = with_suffix(stem if len(volumes) == 1 else numbered(stem, index), nifti.WRITTEN)
        if isinstance(volume, Path):
            _copy(volume, path)
        else:
            _save(job, path, volume, header)
        job.count(copied=isinstance(volume, Path))
        paths.append(path)
    return paths


def write_mask(job: Job, item: Item, stem: Path) -> Path | None:
    """Write a volume's mask with its stored values, on the grid of its image; None without one."""
    masks = [case.mask for case in item.cases if case.mask is not None]
    if len(masks) < len(item.cases):
        return None
    copied = _copied(masks, stem)
    if copied is not None:
        return copied
    classes = [encode_mask(mask.read_mask(), job.labels, where=mask) for mask in masks]
    return write_values(job, item, stem, stored(np.stack(classes), job.labels))


def write_view(job: Job, item: Item, stem: Path) -> Path | None:
    """Write a volume's field of view; None without one."""
    views = [case.field_of_view for case in item.cases if case.field_of_view is not None]
    if len(views) < len(item.cases):
        return None
    file = Stack(tuple(views)).read_mask()
    inside = file.values > (127 if file.lossy else 0)
    return _copied(views, stem) or write_values(
        job, item, stem, np.where(inside, 255, 0).astype(np.uint8)
    )


def write_values(job: Job, item: Item, stem: Path, slices: NDArray[Any]) -> Path:
    """Write (S, H, W) values as a volume on the grid of the item's image."""
    image = item.case.image
    part = image.parts[0] if isinstance(image, Channels) else image
    assert isinstance(part, Slice)
    header = read_header(part.volume)
    path = with_suffix(stem, nifti.WRITTEN)
    values = np.ascontiguousarray(header.slicing.join(slices))
    if _is_nifti(part.volume[0]):
        nifti.write_mask(room_for(path), values, part.volume)
    else:
        _save(job, path, values, header)
    return path


def _copied(masks: Sequence[Source], stem: Path) -> Path | None:
    """Copy a mask that is a NIfTI file; None when it is something else."""
    first = masks[0]
    if not isinstance(first, Slice) or not _is_nifti(first.volume[0]):
        return None
    _copy(first.volume[0], with_suffix(stem, nifti.WRITTEN))
    return with_suffix(stem, nifti.WRITTEN)


def _values(job: Job, part: Slice, header: Header, *, split: bool) -> list[NDArray[Any]]:
    """Each channel (I, J, K), or all colours in one, from which medseg reads the same pictures:
    as stored if it can be, else as shown."""
    voxels = read_voxels(part.volume)
    values = voxels.values
    hidden = voxels.window is not None or voxels.inverted
    # The channels of a colour are scaled together, those in files of their own each by itself.
    scaled = voxels.colour and values.dtype != np.uint8
    if hidden or scaled or voxels.palette is not None or values.dtype.kind not in "uif":
        values = header.slicing.join(read_pictures(part.volume))
        if hidden:
            job.note(_SHOWN)
    if values.ndim == 3:
        return [values]
    if values.shape[3] == 3 and not split:
        colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        return [np.ascontiguousarray(values).view(colour)[..., 0]]
    return [values[..., channel] for channel in range(values.shape[3])]


def _save(job: Job, path: Path, values: NDArray[Any], header: Header) -> None:
    affine = header.affine
    if affine is None:
        # The orientation in which slices are shown as they are stored.
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        assert header.slicing == AS_STORED
        job.note(_UNPLACED)
    nifti.write_affine(room_for(path), _in_nifti(values), affine)


def _in_nifti(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in a type that every reader of NIfTI knows."""
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        return values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    if values.dtype.kind in "ui" and values.dtype.itemsize == 8:
        small = values.min() >= -(2**31) and values.max() < 2**31
        return values.astype(np.int32 if small else np.float64)
    return values


def _is_nifti(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    with gzip.open(path) if packed else path.open("rb") as content:
        return nifti.recognise(content.read(544))


def _copy(source: Path, target: Path) -> None:
    room_for(target)
    with source.open("rb") as content:
        packed = content.read(2) == _GZIP
        content.seek(0)
        with target.open("wb") as raw:
            if packed:
                shutil.copyfileobj(content, raw)
            else:
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
                    shutil.copyfileobj(content, file)
