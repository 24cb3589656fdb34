"""Small images, masks and datasets for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION_TAG = 0x0112


def noise(seed: int = 0, size: tuple[int, int] = (16, 20), channels: int = 3) -> NDArray[np.uint8]:
    """A random image (H, W, 3), or (H, W) when ``channels`` is 1."""
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def disk(
    size: tuple[int, int] = (16, 20), value: int = 255, radius: float = 4
) -> NDArray[np.uint8]:
    """A mask with a disk in the middle."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = (rows - size[0] / 2) ** 2 + (columns - size[1] / 2) ** 2 < radius**2
    return np.where(inside, value, 0).astype(np.uint8)


def scene(seed: int, side: int = 96) -> Image.Image:
    """A grey picture with structure at every scale, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side))
    for cells in (3, 6, 12, 24):
        coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        total += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / cells**0.5
    scaled = 25 + 200 * (total - total.min()) / np.ptp(total)
    return Image.fromarray(scaled.astype(np.uint8))


def save(path: Path, array: NDArray[Any], *, orientation: int = 1, **options: Any) -> Path:
    """Save an array with the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[ORIENTATION_TAG] = orientation
        options["exif"] = exif
    Image.fromarray(array).save(path, **options)
    return path


def png(path: Path, width: int, height: int, bits: int, rows: bytes) -> Path:
    """Write a grey PNG of any bit depth; ``rows`` start with a filter byte each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )
    return path


def png_bomb(path: Path, side: int = 20_000) -> Path:
    """A tiny valid PNG that decodes to ``side`` x ``side`` black pixels."""
    return png(path, side, side, 1, bytes((side // 8 + 1) * side))


def dataset(root: Path, count: int = 4, suffix: str = ".png") -> Path:
    """``images/`` with noise and ``masks/`` with disks of different sizes."""
    for index in range(count):
        save(root / "images" / f"{index:03}.png", noise(index))
        save(root / "masks" / f"{index:03}{suffix}", disk(radius=3 + index % 5))
    return root


def squares(root: Path, count: int = 12, *, classes: int = 2, size: int = 24) -> Path:
    """Bright squares on noise; class k is the k-th quadrant's square."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng(i)
        image = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
        mask = np.zeros((size, size), np.uint8)
        for k in range(1, classes):
            top, left = rng.integers(0, size // 2, 2)
            mask[top : top + size // 3, left : left + size // 3] = k if classes > 2 else 255
            image[top : top + size // 3, left : left + size // 3] += np.uint8(120 + 20 * k)
        Image.fromarray(image).save(root / "images" / f"{i:03}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i:03}.png")
    return root
