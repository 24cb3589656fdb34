"""NIfTI-1 and NIfTI-2, single files, plain or gzipped; read and written with nibabel."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.geometry import Header, make_header
from medseg.data.io.voxels import Voxels
from medseg.errors import DataError
from medseg.files import atomic_path

SUFFIXES = (".nii", ".nii.gz")
WRITTEN = ".nii.gz"

_GZIP = b"\x1f\x8b"
# Deflate packs 1032 bytes into one at most.
_MOST_PACKED = 1032


def recognise(start: bytes) -> bool:
    """Whether a file, decompressed, starts like this format."""
    return start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"


def read_header(files: tuple[Path, ...]) -> Header:
    with _opened(files[0]) as image:
        return _header(files, image)


def read_voxels(files: tuple[Path, ...]) -> Voxels:
    with _opened(files[0]) as image:
        header = _header(files, image)
        _check_complete(files[0], image)
        values = np.asanyarray(image.dataobj)
    if values.dtype.names is not None:
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
        return Voxels(header, values.reshape(*header.shape, 3), colour=True)
    if values.dtype.kind not in "biuf":
        raise DataError(files[0], f"holds values of type {values.dtype}", "Save real numbers")
    further = () if header.channels is None else (header.channels,)
    return Voxels(header, values.reshape(*header.shape, *further))


def write_mask(path: Path, values: NDArray[Any], like: tuple[Path, ...]) -> None:
    """Write a mask on the grid of the image ``like``, with the same sform, qform and codes."""
    with _opened(like[0]) as image:
        shape = values.shape if len(image.shape) > 3 else image.shape
        header = image.header.copy()
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        header["intent_code"] = 0
        save(path, type(image)(values.reshape(shape), None, header))


def write_affine(path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None) -> None:
    """Write a mask with an affine in mm; without one, spacing is 1."""
    nibabel = _nibabel(path)
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    if affine is not None:
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
    save(path, image)


def save(path: Path, image: Any) -> None:
    """Write a nibabel image, atomically; the same image gives the same bytes."""
    with (
        atomic_path(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
    ):
        image.to_stream(packed)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The image, whose voxels can be read inside the block."""
    nibabel = _nibabel(path)
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        start = stream.read(8)
        stream.seek(0)
        kind = nibabel.Nifti2Image if start[4:8] == b"n+2\0" else nibabel.Nifti1Image
        yield kind.from_stream(stream)


def _header(files: tuple[Path, ...], image: Any) -> Header:
    shape = [*image.shape, 1, 1, 1][: max(3, len(image.shape))]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) > 4:
        raise DataError(
            files[0],
            f"has {len(shape)} axes ({' x '.join(map(str, shape))})",
            "Save a volume of three axes, or of four when the last one counts channels",
        )
    colour = image.get_data_dtype().names is not None
    if colour and len(shape) == 4:
        raise DataError(files[0], "is a series of colour volumes", "Save one volume a file")
    channels = shape[3] if len(shape) == 4 else None
    # Scaled values are computed in float64, and twice.
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    decoding = image.get_data_dtype().itemsize + (16 if scaled else 0)
    return make_header(
        files,
        tuple(shape[:3]),
        image.affine,
        channels=channels,
        colour=colour,
        decoding=decoding,
    )


def _check_complete(path: Path, image: Any) -> None:
    """Refuse a file that cannot hold what its header promises, before memory is taken for it."""
    promised = int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize
    if promised > path.stat().st_size * _MOST_PACKED:
        raise DataError(
            path, f"its header promises {promised:,} bytes of voxels", "Copy or export it again"
        )


def _nibabel(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise DataError(
            path, "is a NIfTI file, which needs nibabel", "pip install 'medseg[volumes]'"
        ) from error
    return nibabel
