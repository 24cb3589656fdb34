"""Images and masks that lie in arrays: members of an ``.npz`` file, datasets of an ``.h5`` file."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.pixels import (
    MAX_PIXELS,
    MaskFile,
    Picture,
    as_image,
    as_mask,
    check_size,
    scale_to_uint8,
)
from medseg.data.io.recent import Recent
from medseg.data.source import Source
from medseg.errors import DataError

NPZ_SUFFIXES = (".npz",)
H5_SUFFIXES = (".h5", ".hdf5")

_NUMBERS = "buif"
_SPILLED = 512 << 20
_REMEMBERED = 1 << 30
_CHUNK = 1 << 24


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of an array before its values are read.

    Attributes:
        shape: any number of axes.
        dtype: booleans, whole or real numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class InArray(Source):
    """A 2D image or mask in an array of a file.

    Attributes:
        file: the ``.npz`` or ``.h5`` file.
        key: the array's name in it.
        index: which picture along ``axis``; None when the array is one picture.
        axis: of the array, along which pictures lie.
        volume: whether these are the slices of a volume, whose intensities are scaled together.
    """

    file: Path
    key: str
    index: int | None = None
    axis: int = 0
    volume: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    @property
    def place(self) -> str:
        return self.key if self.index is None else f"{self.key}, picture {self.index}"

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        with self._named():
            samples = self._picture(max_pixels, scaled=self.volume)
            return as_image(Picture(samples), self.file).copy()

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        with self._named():
            return as_mask(Picture(self._picture(max_pixels, scaled=False)), self.file)

    def _picture(self, max_pixels: int, *, scaled: bool) -> NDArray[Any]:
        """(H, W) or (H, W, 3), as stored."""
        array = read_array(self.file, self.key, scaled=scaled)
        picture = np.asarray(array if self.index is None else np.take(array, self.index, self.axis))
        if picture.ndim == 3 and picture.shape[2] == 1:
            picture = picture[..., 0]
        if picture.ndim == 3 and picture.shape[2] == 4:
            picture = picture[..., :3]
        if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[2] != 3):
            raise DataError(
                self.file,
                f"has the shape {shape_text(picture.shape)}",
                "Pictures must be (H, W) or (H, W, 3)",
            )
        check_size(self.file, picture.shape[0], picture.shape[1], max_pixels)
        return picture

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the place in the file, too."""
        try:
            yield
        except DataError as error:
            raise DataError(self, error.found, error.remedy) from error
        except IndexError as error:
            raise DataError(self, "does not exist", "The file changed: read it again") from error


def read_headers(path: Path) -> Mapping[str, Header]:
    """The arrays of a file by name, without their values.

    Raises:
        DataError: the file cannot be read, is neither ``.npz`` nor ``.h5``, or an array holds
            something else than numbers; h5py is missing.
    """
    with _readable(path):
        if path.suffix.lower() in H5_SUFFIXES:
            with _open_h5(path) as file:
                return {
                    key: _checked(path, key, Header(tuple(item.shape), item.dtype))
                    for key, item in file.items()
                    # A damaged name comes as bytes.
                    if isinstance(key, str) and hasattr(item, "dtype") and item.shape is not None
                }
        with zipfile.ZipFile(path) as archive:
            headers = {}
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as member:
                        header, _ = _npy_header(path, name, member)
                    headers[name.removesuffix(".npy")] = header
            return headers


def array_names(path: Path) -> tuple[str, ...] | None:
    """The names of the arrays in a file, or None when it cannot be read or h5py is missing."""
    try:
        if path.suffix.lower() in H5_SUFFIXES:
            with _open_h5(path) as file:
                return tuple(file)
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except Exception:  # damaged files make decoders raise almost anything
        return None


def read_array(path: Path, key: str, *, scaled: bool = False) -> NDArray[Any]:
    """An array of a file; the last ones are remembered, up to 1 GB.

    An array of more than 0.5 GB goes through a temporary file and is not held in memory.

    Args:
        path: an ``.npz`` or ``.h5`` file.
        key: the array's name in it.
        scaled: map it as a whole to 0..255 when it is not uint8 already.

    Returns:
        Not to be written to.

    Raises:
        DataError: there is no such array, it is damaged, or there is no room for it.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Check the name") from error
    version = (path, key, status.st_size, status.st_mtime_ns)

    def stored() -> NDArray[Any]:
        return _decode_h5(path, key) if _is_h5(path) else _decode_npz(path, key)

    def as_uint8() -> NDArray[Any]:
        array = read_array(path, key)
        if array.dtype == np.uint8:
            return array
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(path, f"{key} holds NaN or infinity", "Replace them before saving it")
        return scale_to_uint8(array)

    return _memory.get((*version, scaled), as_uint8 if scaled else stored)


def require_h5py(path: Path) -> None:
    """Raise a DataError that names ``path`` when h5py is not installed."""
    if importlib.util.find_spec("h5py") is None:
        raise DataError(path, "needs h5py to be read", "Run pip install 'medseg[h5]'")


def shape_text(shape: tuple[int, ...]) -> str:
    """``"4 x 16 x 20"``."""
    return " x ".join(map(str, shape)) or "a single number"


def _in_memory(array: NDArray[Any]) -> int:
    return 0 if isinstance(array, np.memmap) else array.nbytes


_memory: Recent[NDArray[Any]] = Recent(_REMEMBERED, _in_memory)


def _is_h5(path: Path) -> bool:
    return path.suffix.lower() in H5_SUFFIXES


def _decode_npz(path: Path, key: str) -> NDArray[Any]:
    with _readable(path), zipfile.ZipFile(path) as archive:
        name = f"{key}.npy"
        if name not in archive.namelist():
            raise _absent(path, key, tuple(archive.namelist()))
        with archive.open(name) as member:
            header, fortran = _npy_header(path, name, member)
            if archive.getinfo(name).file_size - member.tell() != header.nbytes:
                raise DataError(path, f"{key} is cut off", "Copy or export it again")
            flat = _room(path, Header((prod(header.shape),), header.dtype))
            target = flat.view(np.uint8)
            for start in range(0, len(target), _CHUNK):
                chunk = member.read(min(_CHUNK, len(target) - start))
                target[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
    return flat.reshape(header.shape, order="F" if fortran else "C")


def _npy_header(path: Path, name: str, member: IO[bytes]) -> tuple[Header, bool]:
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise _not_numbers(path, name.removesuffix(".npy"), "structured values")
    shape, fortran, dtype = read(member)
    return _checked(path, name.removesuffix(".npy"), Header(shape, dtype)), fortran


def _decode_h5(path: Path, key: str) -> NDArray[Any]:
    with _readable(path), _open_h5(path) as file:
        if key not in file or not hasattr(file[key], "dtype"):
            raise _absent(path, key, tuple(file))
        stored = file[key]
        array = _room(path, _checked(path, key, Header(tuple(stored.shape), stored.dtype)))
        stored.read_direct(array)
        return array


def _room(path: Path, header: Header) -> NDArray[Any]:
    """An empty array in the machine's byte order, in a temporary file when it is large."""
    if header.nbytes <= _SPILLED:
        return np.empty(header.shape, header.dtype)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if header.nbytes > 0.9 * free:
        raise DataError(
            path,
            f"needs {header.nbytes / 1e9:.1f} GB unpacked, and {tempfile.gettempdir()} has "
            f"{free / 1e9:.1f} GB free",
            "Make room there, or set TMPDIR to a larger disk",
        )
    with tempfile.TemporaryFile() as file:
        file.truncate(header.nbytes)
        return np.memmap(file, header.dtype, "r+", shape=header.shape)


def _checked(path: Path, key: str, header: Header) -> Header:
    if header.dtype.kind not in _NUMBERS or header.dtype.subdtype is not None:
        raise _not_numbers(path, key, str(header.dtype))
    return header


def _not_numbers(path: Path, key: str, found: str) -> DataError:
    return DataError(
        path,
        f"{key} holds values of type {found}, not plain numbers",
        "Save whole or real numbers; pickled objects are never loaded, as they can run code",
    )


def _absent(path: Path, key: str, names: tuple[str, ...]) -> DataError:
    found = ", ".join(name.removesuffix(".npy") for name in names[:8]) or "nothing"
    return DataError(path, f"has no array '{key}', only {found}", "Export it again")


@contextmanager
def _open_h5(path: Path) -> Iterator[Any]:
    require_h5py(path)
    import h5py

    with h5py.File(path, "r") as file:
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    # Damaged files make decoders raise almost anything: OSError, BadZipFile, zlib.error,
    # ValueError, SyntaxError, struct.error, RuntimeError ...
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(path, "does not exist", "Check the name") from error
    except PermissionError as error:
        raise DataError(path, "may not be read", "Check its permissions") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            path,
            f"cannot be decoded ({reason})",
            "It is damaged or incomplete: copy or export it again",
        ) from error
