"""MetaImage: ``.mha``, and ``.mhd`` with its voxels in a second file.

A text header of ``Key = value`` lines, the last of them ``ElementDataFile``, then the voxels, the
first axis fastest, plain or zlib-compressed. Positions and directions are in LPS; a row of
``TransformMatrix`` is the direction of an axis
(https://itk.org/Wiki/ITK/MetaIO/Documentation).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.geometry import Header, make_header
from medseg.data.io.voxels import Voxels
from medseg.errors import DataError
from medseg.files import atomic_path

SUFFIXES = (".mha", ".mhd")
WRITTEN = ".mha"

_MOST_HEADER = 65536
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_GEOMETRY = ("TransformMatrix", "Offset", "CenterOfRotation", "AnatomicalOrientation")


def recognise(start: bytes) -> bool:
    """Whether a file starts like this format."""
    key, equals, _ = start.split(b"\n", 1)[0].partition(b"=")
    return bool(equals) and key.strip() in (b"ObjectType", b"NDims", b"Comment")


def files_of(path: Path) -> tuple[Path, ...]:
    """The header, and the file of the voxels if it is another one."""
    entries, _ = _entries(path)
    data = _get(path, entries, "ElementDataFile")
    if data == "LOCAL":
        return (path,)
    if data.startswith("LIST") or "%" in data:
        raise DataError(
            path, "its voxels lie in a list of files", "Save it as one .mha file (LOCAL)"
        )
    return path, path.parent / data


def read_header(files: tuple[Path, ...]) -> Header:
    entries, _ = _entries(files[0])
    return _header(files, entries)


def read_voxels(files: tuple[Path, ...]) -> Voxels:
    path = files[0]
    entries, end = _entries(path)
    header = _header(files, entries)
    kind = _get(path, entries, "ElementType").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise DataError(path, f"its ElementType is {kind}", f"Allowed: {', '.join(_TYPES)}")
    big = _is_true(entries, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    dtype = np.dtype((">" if big else "<") + _TYPES[kind])
    shape = (3 if header.colour else header.channels or 1, *header.shape)
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    with files[-1].open("rb") as file:
        skipped = int(entries.get("HeaderSize", "0")) if len(files) > 1 else end
        file.seek(skipped if skipped >= 0 else max(0, files[-1].stat().st_size - wanted))
        if _is_true(entries, "CompressedData"):
            data = zlib.decompressobj().decompress(file.read(), wanted)
        else:
            data = file.read(wanted)
    if len(data) < wanted:
        raise DataError(
            files[-1],
            f"holds {len(data):,} of the {wanted:,} bytes that the header promises",
            "It is incomplete: copy or export it again",
        )
    values = np.frombuffer(data, dtype).reshape(shape, order="F")
    values = values.astype(dtype.newbyteorder("="), copy=False)
    if header.colour or header.channels is not None:
        return Voxels(header, np.moveaxis(values, 0, -1), colour=header.colour)
    return Voxels(header, values[0])


def write_mask(path: Path, values: NDArray[Any], like: tuple[Path, ...]) -> None:
    """Write a mask on the grid of the image ``like``, zlib-compressed."""
    entries, _ = _entries(like[0])
    axes = len(_get(like[0], entries, "DimSize").split())
    data = zlib.compress(values.astype(values.dtype.newbyteorder("<")).tobytes(order="F"), 6)
    spacing = entries.get("ElementSpacing", entries.get("ElementSize"))
    if "Offset" not in entries and (origin := entries.get("Position", entries.get("Origin"))):
        entries["Offset"] = origin
    if "TransformMatrix" not in entries and (turn := _directions(entries)):
        entries["TransformMatrix"] = turn
    lines = {
        "ObjectType": "Image",
        "NDims": str(axes),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(data)),
        **{key: entries[key] for key in _GEOMETRY if key in entries},
        **({"ElementSpacing": spacing} if spacing else {}),
        "DimSize": " ".join(map(str, values.shape[:axes])),
        "ElementType": "MET_UCHAR" if values.dtype == np.uint8 else "MET_USHORT",
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    with atomic_path(path) as part:
        part.write_bytes(text.encode("latin-1") + data)


def _entries(path: Path) -> tuple[dict[str, str], int]:
    """The header's entries, and where it ends."""
    with path.open("rb") as file:
        start = file.read(_MOST_HEADER)
    entries: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in entries:
        line, newline, _ = start[end:].partition(b"\n")
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals or (not newline and end + len(line) == _MOST_HEADER):
            raise DataError(
                path, "its header ends without ElementDataFile", "Copy or export it again"
            )
        entries[key.strip()] = value.strip()
        end += len(line) + len(newline)
    return entries, end


def _header(files: tuple[Path, ...], entries: dict[str, str]) -> Header:
    path = files[0]
    size = [int(part) for part in _numbers(path, entries, "DimSize", None)]
    channels = int(entries.get("ElementNumberOfChannels", "1"))
    if len(size) not in (2, 3):
        raise DataError(
            path, f"is {len(size)}D ({' x '.join(map(str, size))})", "Save one volume of three axes"
        )
    count = len(size)
    spacing = _numbers(path, entries, "ElementSpacing", entries.get("ElementSize"), [1.0] * count)
    origin = _numbers(
        path, entries, "Offset", entries.get("Position", entries.get("Origin")), [0.0] * count
    )
    turn = _numbers(
        path, entries, "TransformMatrix", _directions(entries), np.eye(count).ravel().tolist()
    )
    if len(spacing) != count or len(origin) != count or len(turn) != count**2:
        raise DataError(
            path, "its spacing, offset and matrix do not fit DimSize", "Correct its header"
        )
    affine = np.eye(4)
    affine[:count, :count] = np.array(turn).reshape(count, count).T * spacing
    affine[:count, 3] = origin
    affine = np.diag([-1.0, -1, 1, 1]) @ affine
    shape = (*size, 1)[:3]
    colour = channels == 3 and entries.get("ElementType", "").startswith("MET_UCHAR")
    further = None if colour or channels == 1 else channels
    return make_header(files, shape, affine, channels=further, colour=colour)


def _directions(entries: dict[str, str]) -> str | None:
    return entries.get("Rotation", entries.get("Orientation"))


def _numbers(
    path: Path,
    entries: dict[str, str],
    key: str,
    other: str | None,
    default: list[float] | None = None,
) -> list[float]:
    text = entries.get(key, other)
    if text is None and default is not None:
        return default
    try:
        return [float(part) for part in (text or "").split()]
    except ValueError as error:
        raise DataError(path, f"its {key} is '{text}'", "Write numbers") from error


def _get(path: Path, entries: dict[str, str], key: str) -> str:
    if key not in entries:
        raise DataError(path, f"its header lacks {key}", "Copy or export it again")
    return entries[key]


def _is_true(entries: dict[str, str], *keys: str) -> bool:
    return any(entries.get(key, "").lower() == "true" for key in keys)
