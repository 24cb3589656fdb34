"""Running a benchmark: every cell in a process of its own, and on again after a stop."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from medseg.benchmark.cell import (
    OK,
    REQUIRED,
    STOPPED_CODE,
    Job,
    Target,
    failed,
    write_record,
)
from medseg.benchmark.check import Checked, check_spec
from medseg.benchmark.efficiency import NEEDS_EXPORT, can_export, measure
from medseg.benchmark.page import write_report
from medseg.benchmark.places import names_of, seen_from, tidy, without_folders
from medseg.benchmark.published import read_published
from medseg.benchmark.results import write_results
from medseg.benchmark.spec import DataEntry, Spec, SystemEntry, parse_spec, read_yaml
from medseg.engine.device import choose_device
from medseg.errors import MedsegError, plural
from medseg.files import write_text

DEFAULT_CACHE_LIMIT = 20_000_000_000
_SECONDS_TO_STOP = 60.0


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The user asked to stop; what is finished is kept."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training and its scores.

    Attributes:
        system: what is trained.
        data: on what.
        seed: of the training.
        fold: the index of the fold that validates, before the number of folds is known; None for
            a plain split.
        folder: where it leaves its results.
    """

    system: SystemEntry
    data: DataEntry
    seed: int
    fold: int | None
    folder: Path

    @property
    def title(self) -> str:
        """For a line of progress."""
        return f"{self.system.name} on {self.data.name}, seed {self.seed}"

    def record(self) -> dict[str, Any] | None:
        """What ``cell.json`` holds; None for a cell that is not done, or a damaged file."""
        try:
            found = json.loads((self.folder / "cell.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict):
            return None
        needed = REQUIRED.get(str(found.get("status")))
        if needed is None or not found.keys() >= needed:
            return None
        mine = (self.system.name, self.data.name, self.seed)
        return found if (found["system"], found["data"], found["seed"]) == mine else None

    @property
    def finished(self) -> bool:
        """Whether it was trained and its test part scored. A cell that failed is tried again."""
        record = self.record()
        return (
            record is not None and record["status"] == OK and (self.folder / "test.csv").is_file()
        )

    def complete(self, unseen: Iterable[str]) -> bool:
        """Whether it is finished and was scored on all of ``unseen``."""
        record = self.record()
        if record is None or not self.finished:
            return False
        scored = {name for name, each in record["unseen"].items() if each["status"] == OK}
        return scored >= set(unseen)


@dataclass(frozen=True)
class Grid:
    """A benchmark that has run.

    Attributes:
        folder: its results.
        spec: what was asked for.
        records: the content of every ``cell.json``.
        summary: the content of ``summary.json``.
    """

    folder: Path
    spec: Spec
    records: tuple[dict[str, Any], ...]
    summary: dict[str, Any] = field(repr=False)

    @property
    def failures(self) -> list[dict[str, Any]]:
        """What failed: cells, and scores on unseen data."""
        return list(self.summary["failures"])


def cells_of(spec: Spec, folder: Path) -> list[Cell]:
    """All cells: seeds vary slowest, so that a stopped grid has compared all systems."""
    return [
        Cell(
            system,
            data,
            seed,
            index if spec.folds else None,
            folder / "cells" / system.name / data.name / f"seed-{seed}",
        )
        for index, seed in enumerate(spec.seeds)
        for data in spec.data
        for system in spec.systems
    ]


def run(
    spec: Spec | Mapping[str, Any] | str | Path,
    output: str | Path,
    *,
    published: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    keep: bool = False,
    cache_limit: int = DEFAULT_CACHE_LIMIT,
    report: bool = True,
    quiet: bool = False,
) -> Grid:
    """Train every system on every dataset with every seed, and score them under one protocol.

    The split of a dataset does not depend on the training seed; checkpoints are chosen on its
    validation part; its test part is scored once a cell, at the end; unseen data are scored with
    the same model. Finished cells in ``output`` are kept and others go on where they stopped.

    Args:
        spec: a `Spec`, its values, or a YAML file of them.
        output: the folder of results.
        published: a YAML file of published numbers to be set beside these; kept in ``output`` and
            taken from there when none is given.
        workers: cells at a time; default: one for each GPU, or 1.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        keep: keep the checkpoints of finished cells.
        cache_limit: bytes that decoded images may take.
        report: also measure what each system costs, and write tables, figures and a page.
        quiet: print nothing.

    Returns:
        The results. That cells have failed is in them and is no exception.

    Raises:
        MedsegError: the specification is wrong, or ``output`` is of another benchmark or in use.
        Stopped: on SIGINT, after every running cell was saved.
    """
    folder = Path(output)
    console = Console(stderr=True, quiet=quiet)
    if isinstance(spec, (str, Path)):
        path = Path(spec)
        own = path.resolve() == (folder / "spec.yaml").resolve()
        spec = parse_spec(read_yaml(path), where=str(path), base=path.parent, check_hashes=not own)
    elif not isinstance(spec, Spec):
        spec = parse_spec(spec)
    kept_numbers = folder / "published.yaml"
    if published is None and kept_numbers.is_file():
        published = kept_numbers
    literature = read_published(Path(published)) if published is not None else None
    slots = _slots(device, workers)
    with _locked(folder):
        cells = cells_of(spec, folder)
        # Said before all images are read.
        _check_folder(folder, spec, cells)
        spec, checked, overlaps = check_spec(spec, console)
        _check_folder(folder, spec, cells)
        names = names_of(folder, spec)
        checked = {
            name: replace(each, error=without_folders(each.error, names))
            for name, each in checked.items()
        }
        _write_splits(folder, checked, cells)
        _forget_changed(folder, spec, cells)
        spec.save(folder / "spec.yaml")
        if published is not None:
            write_text(kept_numbers, Path(published).read_text(encoding="utf-8"))
        # The entries now carry their hashes.
        cells = cells_of(spec, folder)
        for cell in cells:
            error = checked[cell.data.name].error
            if error and not cell.finished:
                job = _job(cell, spec, folder, checked, device, keep, cache_limit)
                cell.folder.mkdir(parents=True, exist_ok=True)
                write_record(cell.folder, failed(job, error))
        try:
            _run_cells(
                cells,
                lambda cell: _job(cell, spec, folder, checked, device, keep, cache_limit),
                checked,
                slots,
                console,
            )
        finally:
            for cell in cells:
                tidy(cell.folder, names)
        if not keep:
            shutil.rmtree(folder / "cache", ignore_errors=True)
        records = tuple(record for cell in cells if (record := cell.record()) is not None)
        places = {(cell.system.name, cell.data.name, cell.seed): cell.folder for cell in cells}
        summary = write_results(spec, folder, records, places, checked, overlaps, literature)
        if report:
            _measure(spec, folder, records, names, console)
            console.print("drawing the report", highlight=False)
            write_report(folder)
        return Grid(folder, spec, records, summary)


def _measure(
    spec: Spec,
    folder: Path,
    records: Iterable[Mapping[str, Any]],
    names: Mapping[str, str],
    console: Console,
) -> None:
    """Write what each system costs as it was first trained; nothing else runs meanwhile."""
    for system in spec.systems:
        path = folder / "efficiency" / f"{system.name}.json"
        trained = [r for r in records if r["system"] == system.name and r["status"] == OK]
        if _is_measured(path) or not trained:
            continue
        console.print(f"measuring what {system.name} costs", highlight=False, markup=False)
        try:
            found = measure(
                system.system,
                image_size=trained[0]["image_size"],
                channels=trained[0]["channels"],
                classes=trained[0]["classes"],
                options=spec.recipe(system).network,
            )
        except MedsegError as error:
            console.print(f"[yellow]warning[/] {escape(str(error))}", highlight=False)
            continue
        note = without_folders(found.onnx_note, names)
        said = {**found.to_dict(), "system": system.name, "onnx_note": note}
        write_text(path, json.dumps(said, indent=1) + "\n")


def _is_measured(path: Path) -> bool:
    """Whether a file holds all that can be measured here."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))["onnx_note"]
    except (OSError, ValueError, KeyError, TypeError):
        # None yet, damaged, or of a version that did not know ONNX Runtime.
        return False
    return not (note == NEEDS_EXPORT and can_export())


def _job(
    cell: Cell,
    spec: Spec,
    folder: Path,
    checked: Mapping[str, Checked],
    device: str,
    keep: bool,
    cache_limit: int,
) -> Job:
    data = checked[cell.data.name]
    trained_on = {entry.name for entry in spec.data}

    def target(entry: DataEntry, only: str | None = None) -> Target:
        path = seen_from(folder, entry.path)
        return Target(entry.name, path, entry.layout, entry.group_pattern, only)

    def unseen(entry: DataEntry) -> Target:
        # What is trained on elsewhere is scored on its test part, as it is there.
        return target(entry, _split_name(entry.name) if entry.name in trained_on else None)

    return Job(
        system=cell.system.name,
        network=seen_from(folder, cell.system.system),
        settings=(*spec.settings, *cell.system.settings),
        data=target(cell.data),
        split=_split_name(cell.data.name),
        fold=None if cell.fold is None else cell.fold % data.folds,
        seed=cell.seed,
        unseen=tuple(
            unseen(entry)
            for entry in spec.unseen
            if entry.name != cell.data.name
            and not checked[entry.name].error
            and cell.data.name not in checked[entry.name].misfits
        ),
        metrics=spec.metrics,
        empty_policy=spec.empty_policy,
        convention=spec.convention,
        device=device,
        cache="cache",
        cache_limit=cache_limit,
        data_hash=data.hash,
        keep=keep,
    )


def _check_folder(folder: Path, spec: Spec, cells: list[Cell]) -> None:
    """Make sure that the results in ``folder``, if any, are of ``spec``.

    What a system's file or a dataset holds may change as long as nothing finished rests on it.
    """
    before = _stored(folder)
    if before is None:
        strangers = {entry.name for entry in folder.iterdir()} - _OWN if folder.is_dir() else set()
        if strangers:
            raise MedsegError(
                f"-o {folder}", f"it holds {', '.join(sorted(strangers)[:3])}, no benchmark",
                "Choose another folder",
            )  # fmt: skip
        return
    now = spec.dump()
    rested = {("systems", cell.system.name) for cell in cells if cell.finished}
    rested |= {("data", cell.data.name) for cell in cells if cell.finished}
    if rested:
        rested |= {("unseen", entry.name) for entry in spec.unseen}
    changed = []
    for key in now:
        one, two = before[key], now[key]
        if key in ("systems", "data", "unseen"):
            one, two = ([_identity(key, each, rested) for each in many] for many in (one, two))
            names = [each["name"] for each in two]
            if names == [each["name"] for each in one]:
                pairs = zip(names, one, two, strict=True)
                changed += [f"{key}: {name}" for name, a, b in pairs if not _alike(a, b)]
                continue
        if one != two:
            changed.append(key)
    if changed:
        raise MedsegError(
            f"-o {folder}",
            f"it holds results of another benchmark, which differs in {', '.join(changed)}",
            "Choose another folder with -o",
        )


def _stored(folder: Path) -> dict[str, Any] | None:
    """The specification whose results ``folder`` holds; None when it holds none."""
    path = folder / "spec.yaml"
    if not path.is_file():
        return None
    try:
        return Spec.model_validate(read_yaml(path)).dump()
    except ValidationError as error:
        raise MedsegError(
            path,
            "it is not what a benchmark of this version wrote",
            "Restore it, or choose another folder with -o",
        ) from error


# What is there before the specification is.
_OWN = {".lock", "splits"}


def _identity(key: str, entry: dict[str, Any], rested: set[tuple[str, str]]) -> dict[str, Any]:
    """An entry without what may differ: where a file lies, and whether it is shown, is not what
    it holds."""
    elsewhere = {"path", "split", "show"}
    if str(entry.get("system", "")).endswith(".py"):
        elsewhere = {"system"}
    same = {name: value for name, value in entry.items() if name not in elsewhere}
    if (key, entry.get("name")) not in rested:
        same["hash"] = None
    return same


def _alike(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Equal, where a hash that is not known yet equals any."""
    if None in (before["hash"], now["hash"]):
        return {**before, "hash": None} == {**now, "hash": None}
    return before == now


def _write_splits(folder: Path, checked: Mapping[str, Checked], cells: list[Cell]) -> None:
    for name, data in checked.items():
        path = folder / _split_name(name)
        if not data.split or (path.is_file() and path.read_text(encoding="utf-8") == data.split):
            continue
        mine = [cell for cell in cells if cell.data.name == name]
        if path.is_file() and any(cell.finished for cell in mine):
            raise MedsegError(
                f"-o {folder}",
                f"its results of {name} rest on another split",
                "Choose another folder with -o",
            )
        for cell in mine:
            shutil.rmtree(cell.folder, ignore_errors=True)
        write_text(path, data.split)


def _split_name(name: str) -> str:
    return f"splits/{name}.csv"


def _forget_changed(folder: Path, spec: Spec, cells: list[Cell]) -> None:
    """Delete what unfinished cells made of systems and data whose content has changed."""
    before = _stored(folder)
    if before is None:
        return
    hashes = {
        (key, each["name"]): each["hash"]
        for key in ("systems", "data", "unseen")
        for each in before[key]
    }
    now = {("systems", each.name): each.hash for each in spec.systems}
    now |= {("data", each.name): each.hash for each in spec.data}
    now |= {("unseen", each.name): each.hash for each in spec.unseen}
    changed = {key for key, digest in now.items() if hashes.get(key) != digest}
    for cell in cells:
        if cell.finished:
            continue
        for entry in spec.unseen:
            if ("unseen", entry.name) in changed:
                (cell.folder / "unseen" / f"{entry.name}.csv").unlink(missing_ok=True)
        if {("systems", cell.system.name), ("data", cell.data.name)} & changed:
            shutil.rmtree(cell.folder, ignore_errors=True)
            (folder / "efficiency" / f"{cell.system.name}.json").unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise MedsegError(
            f"-o {folder}", "another benchmark is writing to it", "Wait for it, or use another -o"
        ) from None
    except OSError as error:
        raise MedsegError(
            f"-o {folder}", f"it cannot be written ({error.strerror or error})",
            "Choose another folder",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink()
        lock.release()
        # Nothing is left behind where nothing was begun.
        with suppress(OSError):
            folder.rmdir()


def _slots(device: str, workers: int | None) -> list[dict[str, str]]:
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
    available = int(os.environ.get("OMP_NUM_THREADS") or 0) or _processors()
    threads = {"OMP_NUM_THREADS": str(max(1, available // count))}
    return [
        threads | ({"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {})
        for number in range(count)
    ]


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_cells(
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
