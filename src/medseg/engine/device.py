"""Choosing a device, a precision, and how memory is kept."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, cast, get_args

import torch

from medseg.errors import MedsegError, nearest

Precision = Literal["fp32", "bf16", "fp16"]


def choose_device(name: str) -> torch.device:
    """``auto`` takes a CUDA GPU, else Apple's, else the CPU.

    Raises:
        MedsegError: the named device does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MedsegError(
            f"--device {name}", "there is no such kind of device", "Use auto, cpu, cuda:0 or mps"
        ) from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise MedsegError(
            f"--device {name}", "PyTorch does not find it on this machine", "Use --device auto"
        )
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """``auto`` is bf16 on a CUDA GPU that computes in it, else fp32.

    On the CPUs measured (docs/results.md) bf16 gained nothing, so it has to be asked for there.

    Raises:
        MedsegError: an unknown name, or fp16 on a CPU, where it is not supported.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise MedsegError("--precision fp16", "a CPU does not compute in fp16", "Use bf16 or fp32")
    if name not in get_args(Precision):
        raise MedsegError(
            f"--precision {name}", "there is no such precision",
            nearest(name, ("auto", *get_args(Precision))),
        )  # fmt: skip
    return cast(Precision, name)


def keep_freed_memory() -> None:
    """Ask the C library to keep freed blocks rather than return them to the system.

    Activations are freed and taken again at every step; giving each back costs a page fault per
    4 KiB on the next step, a quarter of a training step on a CPU. Does nothing outside glibc.
    """
    _keep_freed_blocks_below(2**31 - 1)


def return_memory_when_freed() -> None:
    """Ask the C library to return large blocks to the system as soon as they are freed.

    Left to itself it raises the size from which it does so, up to 32 MB, with each large block that
    is freed, and what it keeps below that differs from run to run. Does nothing outside glibc.
    """
    _keep_freed_blocks_below(2**20)
    return_freed_memory()


def return_freed_memory() -> None:
    """Give back what the C library has kept of freed blocks, after decoding and after training."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _keep_freed_blocks_below(size: int) -> None:
    trim_threshold, mmap_threshold = -1, -3
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, ctypes.c_int(size))
        libc.mallopt(trim_threshold, ctypes.c_int(size))


@contextmanager
def out_of_memory_advice(*, batch_size: int, image_size: int | tuple[int, ...]) -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors into advice.

    Args:
        batch_size: images a step.
        image_size: pixels a side, or pixels or voxels by axis.

    Raises:
        MedsegError: naming what to lower.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            exhausted = ("can't allocate memory", "not enough memory", "out of memory")
            if not any(phrase in text for phrase in exhausted):
                raise
        sizes = (image_size, image_size) if isinstance(image_size, int) else image_size
        what = "pixels" if len(sizes) == 2 else "voxels"
        raise MedsegError(
            "memory",
            f"not enough for {batch_size} images of {' x '.join(map(str, sizes))} {what} a step",
            f"Lower --batch-size (half is {max(1, batch_size // 2)}) or "
            f"{'--image-size' if len(sizes) == 2 else 'data.patch'}",
        ) from error
