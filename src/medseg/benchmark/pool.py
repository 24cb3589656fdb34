"""Every cell in a process of its own, some at a time."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from medseg.benchmark.cell import OK, STOPPED_CODE, Job, failed, write_record
from medseg.benchmark.check import Checked
from medseg.benchmark.grid import Cell
from medseg.cores import threads
from medseg.engine.device import choose_device
from medseg.errors import MedsegError, plural

_SECONDS_TO_STOP = 60.0


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The user asked to stop; what is finished is kept."""


def make_slots(device: str, workers: int | None) -> list[dict[str, str]]:
    """The environment of each worker: its GPU, and its share of the processors."""
    if workers is not None and workers < 1:
        raise MedsegError("--workers", f"{workers} is no number of workers", "Use 1 or more")
    where = choose_device(device)
    cards: list[str] = []
    if where.type == "cuda" and where.index in (None, 0) and device in ("auto", "cuda"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = (
            [card for card in visible.split(",") if card]
            if visible
            else [str(card) for card in range(torch.cuda.device_count())]
        )
    count = workers or len(cards) or 1
    share = {"OMP_NUM_THREADS": str(max(1, threads() // count))}
    return [
        share | ({"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {})
        for number in range(count)
    ]


def run_cells(
    cells: list[Cell],
    job: Callable[[Cell], Job],
    checked: Mapping[str, Checked],
    slots: list[dict[str, str]],
    console: Console,
) -> None:
    """Run what is not finished, as many at a time as there are slots."""
    jobs = {cell: job(cell) for cell in cells if not checked[cell.data.name].error}
    waiting = [
        cell for cell, each in jobs.items() if not cell.complete(x.name for x in each.unseen)
    ]
    kept = len(jobs) - len(waiting)
    if kept:
        console.print(f"{plural(kept, 'cell')} of {len(cells)} finished before", highlight=False)
    free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)
    children = _Children()

    def work(cell: Cell) -> dict[str, Any] | None:
        slot = free.get()
        try:
            return children.run(cell, jobs[cell], slot)
        finally:
            free.put(slot)

    began, done = time.monotonic(), 0
    with _bar(console, len(cells), len(cells) - len(waiting)) as advance:
        pool = ThreadPoolExecutor(len(slots))
        try:
            running: dict[Future[dict[str, Any] | None], Cell] = {
                pool.submit(work, cell): cell for cell in waiting
            }
            while running:
                # With a timeout, so that an interruption is seen at once on every system.
                for future in wait(running, 0.5, FIRST_COMPLETED).done:
                    cell, record = running.pop(future), future.result()
                    if record is None:
                        # A child that was interrupted by itself: the user pressed ctrl-C.
                        raise KeyboardInterrupt
                    done += 1
                    left = (time.monotonic() - began) / done * (len(waiting) - done)
                    place = f"{len(cells) - len(waiting) + done}/{len(cells)}"
                    console.print(
                        f"{place}  {_line(cell, record)}, about {_duration(left)} left"
                        if done < len(waiting)
                        else f"{place}  {_line(cell, record)}",
                        highlight=False, markup=False, soft_wrap=True,
                    )  # fmt: skip
                    advance(left)
        except KeyboardInterrupt:
            console.print("stopping: running cells are saved", highlight=False)
            raise Stopped from None
        finally:
            # Nothing runs any more unless this was cut short, by a full disk for example.
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
            pool.shutdown()


class _Children:
    """The processes of running cells."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, cell: Cell, job: Job, slot: Mapping[str, str]) -> dict[str, Any] | None:
        """Run one cell to its end; None when it was stopped."""
        cell.folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            (cell.folder / "cell.json").unlink()
        job.save(cell.folder / "job.json")
        log = cell.folder / "log.txt"
        out, place = cell.folder.parents[3].absolute(), Path(*cell.folder.parts[-4:])
        command = [sys.executable, "-m", "medseg.benchmark.cell", str(out), str(place)]
        with log.open("ab") as output:
            with self._lock:
                if self._stopping:
                    return None
                child = subprocess.Popen(
                    command,
                    # Its end tells the child that this process is gone.
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # Wide enough for a path to stay in one line.
                    env={**os.environ, "COLUMNS": "1000", **slot},
                    # ctrl-C reaches this process, which passes it on.
                    start_new_session=True,
                )
                self._running.add(child)
            try:
                code = child.wait()
            finally:
                assert child.stdin is not None
                child.stdin.close()
                with self._lock:
                    self._running.discard(child)
        record = cell.record()
        if record is not None:
            return record
        if code == STOPPED_CODE or self._stopping:
            return None
        record = failed(job, f"{_ending(code)}; see {(place / 'log.txt').as_posix()}")
        write_record(cell.folder, record)
        return record

    def stop(self) -> None:
        """Ask all to save and end; those that do not are killed."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for child in running:
            with suppress(OSError):
                child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for child in running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            # A second ctrl-C does not wait.
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                child.kill()


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    return f"its process was killed by signal {-code}"


def _line(cell: Cell, record: Mapping[str, Any]) -> str:
    if record["status"] != OK:
        return f"FAILED  {cell.title}: {record['error']}"
    memory = record.get("peak_memory_gb")
    parts = [
        f"ok  {cell.title}: val Dice {record['val_dice']:.4f}",
        _duration(record["wall_seconds"]),
        f"{memory:.2f} GB" if memory is not None else "",
    ]
    broken = [name for name, each in record["unseen"].items() if each["status"] != OK]
    parts.append(f"NOT scored on {', '.join(broken)}" if broken else "")
    return ", ".join(filter(None, parts))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def _bar(console: Console, total: int, done: int) -> Iterator[Callable[[float], None]]:
    progress = Progress(
        TextColumn("cells"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )
    task = progress.add_task("cells", total=total, completed=done, left="")

    def advance(left: float) -> None:
        progress.update(task, advance=1, left=f"about {_duration(left)} left")

    with progress:
        yield advance
