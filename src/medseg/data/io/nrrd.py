"""NRRD, with its voxels in the same file or beside it; read with pynrrd."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.geometry import Header, make_header
from medseg.data.io.voxels import Voxels
from medseg.errors import DataError
from medseg.files import atomic_path

SUFFIXES = (".nrrd", ".nhdr")
WRITTEN = ".nrrd"

# To RAS+; other spaces say nothing of the body.
_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_COLOURS = ("RGB-color", "RGBA-color", "3-color", "4-color")


def recognise(start: bytes) -> bool:
    """Whether a file starts like this format."""
    return start.startswith(b"NRRD")


def files_of(path: Path) -> tuple[Path, ...]:
    """The header, and the file of the voxels if it is another one."""
    entries, _ = _entries(path)
    data = entries.get("data file", entries.get("datafile"))
    if data is None:
        return (path,)
    if str(data).startswith("LIST") or "%" in str(data):
        raise DataError(path, "its voxels lie in a list of files", "Save it as one .nrrd file")
    return path, path.parent / str(data)


def read_header(files: tuple[Path, ...]) -> Header:
    return _header(files, _entries(files[0])[0])


def read_voxels(files: tuple[Path, ...]) -> Voxels:
    path = files[0]
    entries, end = _entries(path)
    header = _header(files, entries)
    with path.open("rb") as file:
        file.seek(end)
        values = _pynrrd(path).read_data(entries, file, str(path), index_order="F")
    if values.dtype.kind not in "iuf":
        raise DataError(path, f"holds values of type {values.dtype}", "Save real numbers")
    spatial = _spatial(path, entries)
    others = [axis for axis in range(values.ndim) if axis not in spatial]
    values = values.transpose(*spatial, *others)
    if header.colour:
        return Voxels(header, values.reshape(*header.shape, -1)[..., :3], colour=True)
    further = () if header.channels is None else (header.channels,)
    return Voxels(header, values.reshape(*header.shape, *further))


def write_mask(path: Path, values: NDArray[Any], like: tuple[Path, ...]) -> None:
    """Write a mask on the grid of the image ``like``, gzipped."""
    entries, _ = _entries(like[0])
    spatial = _spatial(like[0], entries)
    lines = {
        "type": values.dtype.name,
        "dimension": str(len(spatial)),
        "sizes": " ".join(map(str, values.shape[: len(spatial)])),
        "kinds": " ".join(["domain"] * len(spatial)),
        "endian": "little",
        "encoding": "gzip",
    }
    if "space" in entries:
        lines["space"] = str(entries["space"])
    elif "space dimension" in entries:
        lines["space dimension"] = str(entries["space dimension"])
    if "space directions" in entries:
        rows = [entries["space directions"][axis] for axis in spatial]
        lines["space directions"] = " ".join(_vector(row) for row in rows)
    if "space origin" in entries:
        lines["space origin"] = _vector(entries["space origin"])
    if "space units" in entries:
        lines["space units"] = " ".join(f'"{unit}"' for unit in entries["space units"])
    if "spacings" in entries:
        lines["spacings"] = " ".join(repr(float(entries["spacings"][axis])) for axis in spatial)
    # The space must be known before the fields that are written in it.
    first = [key for key in ("space", "space dimension") if key in lines]
    ordered = [*["type", "dimension"], *first, *(key for key in lines)]
    text = "".join(f"{key}: {lines[key]}\n" for key in dict.fromkeys(ordered))
    data = values.astype(values.dtype.newbyteorder("<")).tobytes(order="F")
    with atomic_path(path) as part:
        part.write_bytes(
            f"NRRD0004\n{text}\n".encode("ascii", "replace") + gzip.compress(data, 6, mtime=0)
        )


def _vector(numbers: Any) -> str:
    return "(" + ",".join(repr(float(number)) for number in numbers) + ")"


def _entries(path: Path) -> tuple[Mapping[str, Any], int]:
    """The header's fields, and where the voxels begin."""
    with path.open("rb") as file:
        entries: Mapping[str, Any] = _pynrrd(path).read_header(file)
        return entries, file.tell()


def _spatial(path: Path, entries: Mapping[str, Any]) -> list[int]:
    """The axes that are places in space."""
    count = int(entries["dimension"])
    directions = entries.get("space directions")
    if directions is not None:
        rows = [np.asarray(row, np.float64) for row in directions]
        return [axis for axis, row in enumerate(rows) if np.isfinite(row).all()]
    kinds = entries.get("kinds", ["domain"] * count)
    domain = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space")]
    return domain if 2 <= len(domain) <= 3 else list(range(count))


def _header(files: tuple[Path, ...], entries: Mapping[str, Any]) -> Header:
    path = files[0]
    sizes = [int(size) for size in entries["sizes"]]
    spatial = _spatial(path, entries)
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] != 1]
    if not 2 <= len(spatial) <= 3 or len(others) > 1:
        raise DataError(
            path,
            f"has {len(spatial)} axes in space of {len(sizes)} ({' x '.join(map(str, sizes))})",
            "Save a volume of three axes, optionally with one of channels",
        )
    shape = (*(sizes[axis] for axis in spatial), 1)[:3]
    affine = _affine(entries, spatial)
    if others and entries.get("kinds", [""] * len(sizes))[others[0]] in _COLOURS:
        return make_header(files, shape, affine, colour=True)
    return make_header(files, shape, affine, channels=sizes[others[0]] if others else None)


def _affine(entries: Mapping[str, Any], spatial: list[int]) -> NDArray[np.float64] | None:
    signs = _SPACES.get(str(entries.get("space", "")).lower())
    directions = entries.get("space directions")
    if signs is None or directions is None:
        return None
    affine = np.eye(4)
    for column, axis in enumerate(spatial):
        affine[:3, column] = directions[axis]
    if len(spatial) == 2:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1)
    affine[:3, 3] = entries.get("space origin", np.zeros(3))
    return np.diag([*signs, 1]) @ affine


def _pynrrd(path: Path) -> Any:
    try:
        import nrrd
    except ImportError as error:
        raise DataError(
            path, "is an NRRD file, which needs pynrrd", "pip install 'medseg[volumes]'"
        ) from error
    return nrrd
