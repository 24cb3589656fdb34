from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import builders
from data.builders import noise
from medseg.data.io.pixels import NotAPictureError, TooManyPixelsError
from medseg.errors import DataError
from medseg.serve.decoding import Decoders
from medseg.serve.limits import Limits
from serve.servers import png

IMAGE = noise(1, (9, 11))


@asynccontextmanager
async def decoders(**limits: Any) -> AsyncIterator[Decoders]:
    pool = Decoders(Limits(**{"workers": 1, "max_pixels": 1_000_000, **limits}))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def run(what: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(what())  # type: ignore[arg-type]


def test_images_come_back_and_refusals_are_what_they_were() -> None:
    async def what() -> None:
        async with decoders() as pool:
            assert np.array_equal(await pool.decode(png(IMAGE), 99), IMAGE)
            with pytest.raises(TooManyPixelsError, match="11 x 9 pixels, more than the 98"):
                await pool.decode(png(IMAGE), 98)
            with pytest.raises(NotAPictureError, match="is not a PNG"):
                await pool.decode(b"hello", 99)
            with pytest.raises(DataError, match="cannot be decoded"):
                await pool.decode(png(IMAGE)[:60], 99)
            assert np.array_equal(await pool.decode(png(IMAGE), 99), IMAGE)

    run(what)


def test_a_decoder_that_dies_is_replaced() -> None:
    async def what() -> None:
        async with decoders() as pool:
            process = pool._idle.get_nowait()
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            pool._idle.put_nowait(process)
            waiting = asyncio.create_task(pool.decode(png(IMAGE), 99))
            await asyncio.sleep(0.05)
            process.kill()
            with pytest.raises(DataError, match="its decoder crashed"):
                await waiting
            assert np.array_equal(await pool.decode(png(IMAGE), 99), IMAGE)

    run(what)


def test_a_decoder_that_hangs_is_replaced() -> None:
    async def what() -> None:
        async with decoders(timeout=0.5) as pool:
            process = pool._idle.get_nowait()
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            pool._idle.put_nowait(process)
            with pytest.raises(DataError, match="took too long"):
                await pool.decode(png(IMAGE), 99)
            pool.limits = Limits()
            assert np.array_equal(await pool.decode(png(IMAGE), 99), IMAGE)

    run(what)


def test_a_caller_who_gives_up_leaves_a_decoder_that_answers_the_next_one() -> None:
    async def what() -> None:
        async with decoders() as pool:
            large = png(noise(2, (900, 900)))
            task = asyncio.create_task(pool.decode(large, 10**6))
            await asyncio.sleep(0.005)
            task.cancel()
            assert np.array_equal(await pool.decode(png(IMAGE), 99), IMAGE)

    run(what)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot bound a process")
def test_memory_is_bounded_whatever_a_header_promises(tmp_path: Path) -> None:
    bomb = builders.png_bomb(tmp_path / "bomb.png", 25_000).read_bytes()

    async def what() -> None:
        async with decoders() as pool:
            # As if the check of its size had been forgotten: 625 megapixels.
            with pytest.raises(DataError, match="cannot be decoded"):
                await pool.decode(bomb, 10**12)
            assert np.array_equal(await pool.decode(png(IMAGE), 99), IMAGE)

    run(what)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="Linux tells the limits")
def test_a_decoder_can_open_and_write_no_file() -> None:
    async def what() -> None:
        async with decoders() as pool:
            process = pool._idle.get_nowait()
            assert process is not None
            limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii")
            rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
            assert rows["Max open files"] == ["3", "3"]
            assert rows["Max file size"] == ["0", "0"]
            assert int(rows["Max address space"][1]) < 3e9
            pool._idle.put_nowait(process)

    run(what)
