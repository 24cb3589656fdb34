"""Volumes: files, or folders of files, that hold more than one picture or say where it lies.

The content decides the format. A volume is named by its files, as :func:`volume_files` lists them.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.data.io import dicom, mha, nifti, nrrd, pages, raster, tiff
from medseg.data.io.geometry import Header
from medseg.data.io.pixels import MaskFile, check_size, unreadable
from medseg.data.io.recent import Recent
from medseg.data.io.voxels import Voxels, as_labels, as_pictures
from medseg.errors import DataError

SUFFIXES: tuple[str, ...] = (*nifti.SUFFIXES, *nrrd.SUFFIXES, *mha.SUFFIXES, *dicom.SUFFIXES)
"""Of files that always hold volumes; a TIFF may."""

# Of images, and as much again of masks.
_KEPT_BYTES = 500_000_000
_START = 544

T = TypeVar("T")


class Format(Protocol):
    """What the module of a format provides."""

    def read_header(self, files: tuple[Path, ...]) -> Header:
        """Where the voxels lie."""

    def read_voxels(self, files: tuple[Path, ...]) -> Voxels:
        """All voxels."""


def is_volume(path: Path) -> bool:
    """Whether a file, or a folder of DICOM files, is read slice by slice.

    So is a file that only has the name of a volume; reading it tells what is wrong.
    """
    try:
        return _format(path) is not None or _is_named(path)
    except Exception:  # a damaged file raises almost anything
        return _is_named(path)


def volume_files(path: Path) -> tuple[Path, ...]:
    """All files of the volume that ``path`` names.

    Raises:
        DataError: no volume, or its parts do not fit together.
    """
    return guarded(path, lambda: _files(path))


def read_header(files: tuple[Path, ...]) -> Header:
    """Where the voxels lie, without reading them.

    Raises:
        DataError: a file is missing, damaged, or not of a kind that is read.
    """
    return guarded(files[0], lambda: _cached_header(files, _stamp(files)))


def sha256(files: tuple[Path, ...]) -> str:
    """A hash of the content of all files, remembered until one changes.

    Raises:
        OSError: a file cannot be read.
    """
    return _sha256(files, _stamp(files))


def read_pictures(files: tuple[Path, ...]) -> NDArray[np.uint8]:
    """(S, H, W, C) uint8, the slices of an image; kept for a while.

    Raises:
        DataError: as :func:`read_header`, and voxels that are cut off, NaN or infinite.
    """
    return _pictures.get(
        _key(files), lambda: guarded(files[0], lambda: as_pictures(_voxels(files)))
    )


def read_labels(files: tuple[Path, ...]) -> MaskFile:
    """The slices (S, H, W) of a mask; kept for a while.

    Raises:
        DataError: as :func:`read_pictures`, and values that are no class values.
    """
    return _labels.get(_key(files), lambda: guarded(files[0], lambda: as_labels(_voxels(files))))


def read_voxels(files: tuple[Path, ...]) -> Voxels:
    """The stored values, in no cache.

    Raises:
        DataError: as :func:`read_header`, and voxels that are cut off.
    """
    return guarded(files[0], lambda: _voxels(files))


def check_slices(header: Header, max_pixels: int, *, channels: bool = False) -> None:
    """Refuse a volume whose slices cannot be read as pictures.

    Raises:
        DataError: a slice of more than ``max_pixels``, or a fourth axis where ``channels`` does
            not say that it holds the channels.
    """
    if header.channels is not None and not channels:
        size = " x ".join(map(str, (*header.shape, header.channels)))
        raise DataError(
            header.files[0],
            f"is 4D ({size}) where 3D is expected",
            "Save each channel or time as a volume of its own; several files are the channels of "
            "a case",
        )
    _, height, width = (header.shape[axis] for axis in header.slicing.order)
    check_size(header.files[0], height, width, max_pixels)


def written_suffix(files: tuple[Path, ...]) -> str:
    """How the name of a mask for this image ends; DICOM gives ``.nii.gz``, and a single DICOM
    picture ``.png``."""
    module = _format(files[0])
    if module is dicom:
        return ".png" if read_header(files).num_slices == 1 else nifti.WRITTEN
    written: str = getattr(module, "WRITTEN", ".png")
    return written


def write_mask_like(path: Path, slices: NDArray[Any], like: tuple[Path, ...]) -> None:
    """Write a mask as a volume on the grid of its image, atomically.

    Args:
        path: ends in :func:`written_suffix` of ``like``.
        slices: (S, H, W) uint8 or uint16 values, as :func:`read_pictures` cuts the image.
        like: the files of the image.

    Raises:
        DataError: colours, or slices that are not those of the image.
        MedsegError: the folder cannot be written.
    """
    header = read_header(like)
    stored = header.slicing.join(slices) if slices.ndim == 3 else slices
    if stored.shape != header.shape:
        raise DataError(
            path,
            f"a mask of shape {slices.shape} does not fit {like[0].name}",
            "Volumes hold one class value a voxel; train with masks of values, not colours",
        )
    module = _format(like[0])
    if module is dicom and path.suffix == ".png":
        raster.write_mask(path, stored[:, :, 0].T)
    elif module is dicom:
        nifti.write_affine(path, stored, header.affine)
    else:
        assert module is not None
        module.write_mask(path, stored, like)  # type: ignore[attr-defined]


def _is_named(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def _files(path: Path) -> tuple[Path, ...]:
    module = _format(path)
    if module is None:
        raise DataError(
            path,
            "is empty"
            if path.is_file() and not path.stat().st_size
            else "is no NIfTI, NRRD, MetaImage, DICOM or TIFF file of several pages",
            "It is damaged or misnamed: copy or export it again",
        )
    if path.is_dir():
        return dicom.files_of(path)
    return module.files_of(path) if module in (mha, nrrd) else (path,)


def _format(path: Path) -> Format | None:
    """The module that reads ``path``, or None when it is no volume."""
    if path.is_dir():
        return dicom if any(dicom.is_dicom(entry) for entry in sorted(path.iterdir())) else None
    # Their content may be a volume, but not under such a name; a look at each would be dear.
    if path.suffix.lower() in raster.SUFFIXES:
        return None
    with path.open("rb") as file:
        start = file.read(_START)
    # Before TIFF, because the preamble of a DICOM file may begin like one.
    if dicom.recognise(start):
        return dicom
    if start[:4] in tiff.SIGNATURES:
        return pages if pages.has_pages(path) else None
    if start[:2] == b"\x1f\x8b":
        with gzip.open(path) as packed:
            start = packed.read(_START)
        return nifti if nifti.recognise(start) else None
    for module in (nifti, nrrd, mha):
        if module.recognise(start):
            return module
    return None


def _voxels(files: tuple[Path, ...]) -> Voxels:
    module = _format(files[0])
    if module is None:
        raise DataError(
            files[0], "is not a volume any more", "Leave files alone while they are read"
        )
    return module.read_voxels(files)


@lru_cache(maxsize=256)
def _cached_header(files: tuple[Path, ...], stamp: tuple[tuple[int, int], ...]) -> Header:
    module = _format(files[0])
    if module is None:
        raise DataError(files[0], "is no volume", "Name a NIfTI, NRRD, MetaImage or DICOM file")
    return module.read_header(files)


@lru_cache(maxsize=1024)
def _sha256(files: tuple[Path, ...], stamp: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _stamp(files: tuple[Path, ...]) -> tuple[tuple[int, int], ...]:
    """Changes when a file does.

    Raises:
        DataError: a file is missing.
        OSError: a file may not be looked at.
    """
    stamp = []
    for path in files:
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise DataError(path, "does not exist", "Copy all files of the volume") from error
        stamp.append((status.st_size, status.st_mtime_ns))
    return tuple(stamp)


def _key(files: tuple[Path, ...]) -> tuple[Any, ...]:
    return guarded(files[0], lambda: (files, _stamp(files)))


def guarded(path: Path, read: Callable[[], T]) -> T:
    """``read()``, where damaged files make decoders raise almost anything."""
    try:
        return read()
    except DataError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


_pictures: Recent[NDArray[np.uint8]] = Recent(_KEPT_BYTES, lambda pictures: pictures.nbytes)
_labels: Recent[MaskFile] = Recent(_KEPT_BYTES, lambda mask: mask.values.nbytes)
