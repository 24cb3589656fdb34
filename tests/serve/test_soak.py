"""Memory does not grow, whatever is asked for how long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import numpy as np
import psutil
import pytest

from data.builders import noise
from serve.servers import JSON, PREDICT, Server, png, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")

GROWTH = 12e6
"""Bytes that an allocator may keep from whatever was largest."""


def resident(server: Server) -> int:
    """Bytes of a server and its decoders."""
    process = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children()))


def requests(server: Server) -> list[Callable[[], object]]:
    """What clients do: images of many sizes, as PNG and JSON, bad files, and leaving."""
    images = [png(noise(seed, (40 + 30 * (seed % 4), 50))) for seed in range(8)]

    def leave() -> None:
        connection = server.connect()
        connection.request("POST", f"{PREDICT}?model=slow", images[0])
        connection.close()

    return [
        *(lambda data=data: server.predict(data, "?model=bright") for data in images),
        lambda: server.predict(images[0], "?model=organs", JSON),
        lambda: server.predict(images[1][:300], "?model=bright"),
        lambda: server.predict(b"no image", "?model=bright"),
        lambda: server.predict(images[2], "?model=none"),
        lambda: server.get("/v1/models"),
        leave,
    ]


def keep_asking(server: Server, done: Callable[[int], bool], clients: int = 4) -> None:
    def client(offset: int) -> None:
        todo = requests(server)
        for count, ask in enumerate(cycle(todo[offset:] + todo[:offset])):
            if done(count):
                return
            ask()

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))


def test_memory_is_flat_over_hundreds_of_requests(served: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path / "s", *served.values()) as server:
        keep_asking(server, lambda count: count >= 60)
        before = resident(server)
        keep_asking(server, lambda count: count >= 150)
        assert resident(server) - before < GROWTH
        assert server.counted("medseg_requests_in_flight") == 1
        assert "ERROR" not in server.log
        assert server.leftovers == []


@pytest.mark.slow
def test_memory_is_flat_over_minutes(served: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path / "s", *served.values()) as server:
        measured = []
        for _ in range(7):
            end = time.monotonic() + 30
            keep_asking(server, lambda _, end=end: time.monotonic() > end)
            measured.append(resident(server))
        slope = np.polyfit(np.arange(6), measured[1:], 1)[0]
        assert max(measured[1:]) - measured[1] < GROWTH, measured
        assert slope < GROWTH / 6, measured
        assert "ERROR" not in server.log
        assert server.leftovers == []
        assert server.stop() == 0
