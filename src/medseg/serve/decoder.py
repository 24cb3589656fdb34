"""The process that decodes images for a service: ``python -m medseg.serve.decoder MAX_PIXELS``.

Whatever a hostile file makes a decoder do happens here: this process has little memory, opens no
file, writes none, and is replaced when it crashes or takes too long. It reads requests from
standard input and answers on standard output.
"""

from __future__ import annotations

import importlib
import logging
import os
import struct
import sys
import warnings
from contextlib import suppress
from typing import BinaryIO

from medseg.data.io import read_image_bytes
from medseg.data.io.pixels import NotAPictureError, TooManyPixelsError
from medseg.errors import DataError

REQUEST = struct.Struct(">QQ")
"""Bytes of the file that follows, and how many pixels it may have."""
ANSWER = struct.Struct(">BIII")
"""Status; height, width and channels of the uint8 pixels that follow, or bytes of a text:
what was found, a zero, and the remedy."""

READY = b"\x06"
PICTURE, NOT_A_PICTURE, TOO_LARGE, DAMAGED = range(4)

# Colour of 32-bit samples and the copies that scaling to 8 bits makes of them.
_BYTES_PER_PIXEL = 96
_BYTES = 512_000_000
# What decoders import when they first meet certain files.
_LATER = ("tifffile", "PIL.TiffImagePlugin", "numpy.ma", "xml.etree.ElementTree")

# What is no picture but well known, by its first bytes or those at 128 or 344.
_VOLUMES = (
    (344, (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0"), "NIfTI"),
    (4, (b"n+2\0", b"ni2\0"), "NIfTI"),
    (0, (b"\x1f\x8b",), "gzip (perhaps .nii.gz)"),
    (128, (b"DICM",), "DICOM"),
    (0, (b"NRRD",), "NRRD"),
    (0, (b"ObjectType", b"NDims"), "MetaImage"),
)


def main() -> None:
    """Decode until standard input ends."""
    for name in _LATER:
        importlib.import_module(name)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _say_nothing()
    confine(int(sys.argv[1]))
    sink.write(READY)
    sink.flush()
    while head := source.read(REQUEST.size):
        size, max_pixels = REQUEST.unpack(head)
        _answer(source.read(size), max_pixels, sink)


def _say_nothing() -> None:
    """What decoders have to say of a file is no matter of the service's log."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())


def confine(max_pixels: int) -> None:
    """Bound this process' memory; let it open no further file and write none.

    Windows has no such limits; there, only time is bounded.
    """
    try:
        import resource
    except ImportError:
        return
    memory = _BYTES + _BYTES_PER_PIXEL * max_pixels + _address_space()
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 3),  # standard input, output and error, which are open
    ):
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        with suppress(ValueError, OSError):  # macOS does not take every one
            resource.setrlimit(limit, (value, value))


def _address_space() -> int:
    """Bytes that this process already has mapped, where the system tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _answer(data: bytes, max_pixels: int, sink: BinaryIO) -> None:
    try:
        kind = _volume(data)
        if kind is not None:
            raise NotAPictureError(
                "image", f"is a {kind} file, and only pictures are taken here",
                "Use `medseg predict` for volumes, or send a slice as PNG",
            )  # fmt: skip
        image = read_image_bytes(data, "image", max_pixels=max_pixels)
    except DataError as error:
        status = {NotAPictureError: NOT_A_PICTURE, TooManyPixelsError: TOO_LARGE}.get(
            type(error), DAMAGED
        )
        text = f"{error.found}\0{error.remedy}".encode("utf-8", "replace")
        sink.write(ANSWER.pack(status, len(text), 0, 0) + text)
    else:
        sink.write(ANSWER.pack(PICTURE, *image.shape))
        sink.write(image.data)
    sink.flush()


def _volume(data: bytes) -> str | None:
    for offset, signatures, name in _VOLUMES:
        if data[offset : offset + 10].startswith(signatures):
            return name
    return None


if __name__ == "__main__":
    main()
