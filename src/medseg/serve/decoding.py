"""Decoding untrusted images in child processes that can be lost."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.pixels import NotAPictureError, TooManyPixelsError
from medseg.errors import DataError
from medseg.serve import decoder
from medseg.serve.limits import Limits

_ERRORS = {decoder.NOT_A_PICTURE: NotAPictureError, decoder.TOO_LARGE: TooManyPixelsError}


class Decoders:
    """A few processes of :mod:`medseg.serve.decoder`.

    Args:
        limits: of the service.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._count = max(1, min(4, limits.workers))
        self._idle: asyncio.Queue[Process | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[NDArray[np.uint8]]] = set()

    async def start(self) -> None:
        """Start all processes."""
        for process in await asyncio.gather(*(self._spawn() for _ in range(self._count))):
            self._idle.put_nowait(process)

    async def close(self) -> None:
        """Stop all processes; to be called when nothing is being decoded."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._idle.empty():
            process = self._idle.get_nowait()
            if process is not None:
                await _kill(process)

    async def decode(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """``(H, W, C)`` uint8 of a file's content.

        Raises:
            NotAPictureError: a volume, several pages or frames, or no image at all.
            TooManyPixelsError: larger than ``max_pixels``.
            DataError: damaged, or its decoder crashed or took too long.
        """
        process = await self._idle.get()
        # A caller who gives up does not take the process along: it answers to nobody.
        task = asyncio.create_task(self._decode(process, data, max_pixels))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[NDArray[np.uint8]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def _decode(
        self, process: Process | None, data: bytes, max_pixels: int
    ) -> NDArray[np.uint8]:
        try:
            async with asyncio.timeout(self.limits.timeout):
                process = process or await self._spawn()
                return await _exchange(process, data, max_pixels)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            took = "took too long" if isinstance(error, TimeoutError) else "crashed"
            if process is not None:
                await _kill(process)
                process = None
            raise DataError(
                "image", f"cannot be decoded (its decoder {took})",
                "It is damaged or incomplete: copy or export it again",
            ) from error  # fmt: skip
        finally:
            self._idle.put_nowait(process)

    async def _spawn(self) -> Process:
        arguments = ("-P", "-m", decoder.__name__, str(self.limits.max_pixels))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=PIPE, stdout=PIPE,
            # Threads of libraries would take their stacks from the memory that is allowed.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            # Ctrl-C reaches all processes of a terminal's session, and what runs is to be finished.
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        await process.stdout.readexactly(len(decoder.READY))
        return process


async def _exchange(process: Process, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(decoder.REQUEST.pack(len(data), max_pixels))
    process.stdin.write(data)
    await process.stdin.drain()
    head = await process.stdout.readexactly(decoder.ANSWER.size)
    status, *numbers = decoder.ANSWER.unpack(head)
    if status != decoder.PICTURE:
        text = (await process.stdout.readexactly(numbers[0])).decode()
        found, _, remedy = text.partition("\0")
        raise _ERRORS.get(status, DataError)("image", found, remedy)
    height, width, channels = numbers
    pixels = await process.stdout.readexactly(height * width * channels)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
