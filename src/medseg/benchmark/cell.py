"""One cell of a benchmark, in a process of its own: train, then open the test part once.

``python -m medseg.benchmark.cell OUT CELL`` works in the benchmark's folder ``OUT``, reads
``CELL/job.json`` in it and leaves ``CELL/cell.json``. A cell that was killed goes on where its
training stopped.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from medseg import __version__
from medseg.data.layouts import open_dataset
from medseg.data.splitfile import read_split
from medseg.engine.loop import Interrupted
from medseg.engine.train import train
from medseg.errors import MedsegError, ModelError
from medseg.files import write_text
from medseg.inference.bundle import read_manifest
from medseg.metrics.panel import EmptyPolicy
from medseg.scoring import Part, evaluate

OK = "ok"
FAILED = "failed"
STOPPED_CODE = 130

_NAMED = frozenset({"system", "data", "seed", "status", "error"})
_TRAINED = frozenset({"image_size", "channels", "classes", "val_dice", "unseen", "wall_seconds"})
REQUIRED = {OK: _NAMED | _TRAINED, FAILED: _NAMED}
"""The keys without which a ``cell.json`` of each status is damaged."""


@dataclass(frozen=True, slots=True)
class Target:
    """Data that a trained model is scored on.

    Attributes:
        name: in the benchmark.
        path: of the dataset.
        layout: how it lies on disk.
        group_pattern: finds the patient in a case id.
        only: a split file whose test part alone is scored; None for all cases.
    """

    name: str
    path: str
    layout: str
    group_pattern: str | None
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """All that a cell needs to know. Paths start at the benchmark's folder.

    Attributes:
        system: its name in the benchmark.
        network: a system, or a Python file.
        settings: recipe values as ``a.b=c``.
        data: to be trained on; its test part is scored.
        split: the split file.
        fold: which fold validates; None for a plain split.
        seed: of the training.
        unseen: to be scored as a whole.
        metrics: to be measured.
        empty_policy: of the scores.
        convention: by which they are computed.
        device: as of `medseg train`.
        cache: where decoded images are kept, shared by all cells.
        cache_limit: bytes that they may take.
        data_hash: of the data.
        keep: keep the checkpoints.
    """

    system: str
    network: str
    settings: tuple[str, ...]
    data: Target
    split: str
    fold: int | None
    seed: int
    unseen: tuple[Target, ...]
    metrics: tuple[str, ...]
    empty_policy: EmptyPolicy
    convention: str
    device: str
    cache: str
    cache_limit: int
    data_hash: str
    keep: bool

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what :meth:`save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values["data"] = Target(**values["data"])
        values["unseen"] = tuple(Target(**each) for each in values["unseen"])
        values["settings"], values["metrics"] = tuple(values["settings"]), tuple(values["metrics"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the process took in which a cell's training ended.

    Attributes:
        wall_seconds: from its start, without loading Python's modules.
        peak_memory_gb: the most memory it held, in 10^9 bytes; None where unknown.
        peak_gpu_memory_gb: likewise, of the GPU; None without one.
        threads: that PyTorch might use.
    """

    wall_seconds: float
    peak_memory_gb: float | None
    peak_gpu_memory_gb: float | None
    threads: int

    @classmethod
    def since(cls, started: float) -> Cost:
        """Of this process until now; ``started`` is of `time.perf_counter`."""
        gpu = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
        seconds = round(time.perf_counter() - started, 3)
        return cls(seconds, peak_memory_gb(), gpu, torch.get_num_threads())


def failed(job: Job, error: str, cost: Cost | None = None) -> dict[str, Any]:
    """What ``cell.json`` holds of a cell that could not be finished."""
    return {
        "system": job.system,
        "data": job.data.name,
        "seed": job.seed,
        "status": FAILED,
        "error": error,
        "data_hash": job.data_hash,
        "medseg": __version__,
        **(asdict(cost) if cost is not None else {}),
    }


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``cell.json``, atomically: with it, a cell counts as done."""
    write_text(folder / "cell.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def run_cell(folder: Path, job: Job) -> dict[str, Any]:
    """Train, score, tidy up.

    Returns:
        The content of ``cell.json``.

    Raises:
        MedsegError: anything that a user can mend.
        Interrupted: on SIGINT, after the training was saved.
    """
    started = time.perf_counter()
    run, cost = folder / "run", folder / "cost.json"
    if not (run / "model.medseg").is_file():
        cost.unlink(missing_ok=True)
        _train(run, job)
    trained = read_manifest(run / "model.medseg")
    if not cost.is_file():
        # Scores may be made by a later process, which has not trained.
        write_text(cost, json.dumps(asdict(Cost.since(started))))
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    write_text(folder / "metrics.jsonl", (run / "metrics.jsonl").read_text(encoding="utf-8"))
    test = folder / "test.csv"
    if not test.is_file():
        _score(job.data, run, job, test, part="test", masks=folder / "masks")
    unseen: dict[str, dict[str, Any]] = {}
    for target in job.unseen:
        unseen[target.name] = {"status": OK, "error": None}
        table = folder / "unseen" / f"{target.name}.csv"
        if table.is_file():
            continue
        try:
            _score(target, run, job, table, part="all")
        except MedsegError as error:
            unseen[target.name] = {"status": FAILED, "error": str(error)}
    facts = json.loads((run / "data.json").read_text(encoding="utf-8"))
    best = max(history, key=lambda row: row["val_dice"])
    record = {
        "system": job.system,
        "data": job.data.name,
        "seed": job.seed,
        "fold": job.fold,
        "status": OK,
        "error": None,
        "parameters": trained.parameters,
        "image_size": trained.preprocessing.image_size,
        "patch": None if trained.volume is None else trained.volume.patch,
        "channels": trained.preprocessing.channels,
        "classes": trained.num_classes,
        "train_seconds": round(sum(row["seconds"] for row in history), 3),
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "val_dice": best["val_dice"],
        "data_hash": job.data_hash,
        "leak": facts.get("leak", ""),
        "unseen": unseen,
        "medseg": __version__,
        **json.loads(cost.read_text(encoding="utf-8")),
    }
    if not job.keep:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return record


def _train(run: Path, job: Job) -> None:
    """Train, or go on with a training."""
    common: dict[str, Any] = {
        "output": run,
        "device": job.device,
        "cache_dir": job.cache,
        "cache_limit": job.cache_limit,
    }
    begun = (run / "recipe.yaml").is_file()
    if begun:
        try:
            train(job.data.path, resume=True, **common)
        except ModelError as error:
            print(f"{error}\nThe training begins anew.", file=sys.stderr)
            begun = False
    if not begun:
        shutil.rmtree(run, ignore_errors=True)
        train(
            job.data.path,
            system=job.network,
            seed=job.seed,
            fold=job.fold,
            split=job.split,
            layout=None if job.data.layout == "auto" else job.data.layout,
            group_pattern=job.data.group_pattern,
            settings=job.settings,
            **common,
        )


def _score(
    target: Target,
    run: Path,
    job: Job,
    table: Path,
    *,
    part: Part,
    masks: Path | None = None,
) -> None:
    """Write the table of scores of one dataset, atomically."""
    evaluation = evaluate(
        target.path,
        run,
        part=part,
        layout=target.layout,
        masks=masks,
        empty_policy=job.empty_policy,
        convention=job.convention,
        device=job.device,
        system=job.network if job.network.endswith(".py") else None,
        metrics=job.metrics,
    )
    patients: dict[str, str] = {}
    if target.group_pattern is not None:
        dataset = open_dataset(
            Path(target.path), layout=target.layout, group_pattern=target.group_pattern
        )
        patients = {case.id: case.patient or "" for case in dataset.cases}
    only = None
    if target.only is not None:
        parts = read_split(Path(target.only)).parts
        only = {case for case, where in parts.items() if where == "test"}
    write_text(table, _rewritten(evaluation.to_csv(), patients, only))


def _rewritten(table: str, patients: Mapping[str, str], only: Collection[str] | None) -> str:
    """A table of scores with these patients, of these cases."""
    if not patients and only is None:
        return table
    reader = csv.DictReader(io.StringIO(table, newline=""))
    text = io.StringIO()
    writer = csv.DictWriter(text, reader.fieldnames or [], lineterminator="\n")
    writer.writeheader()
    for row in reader:
        if only is None or row["case"] in only:
            writer.writerow({**row, "patient": patients.get(row["case"], row["patient"])})
    return text.getvalue()


def peak_memory_gb() -> float | None:
    """The most memory that this process has held, in GB (1e9 bytes); None where unknown."""
    # Linux counts the memory of the process that started this one into ru_maxrss, not into VmHWM.
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) * 1024 / 1e9, 4)
    try:
        import resource
    except ImportError:
        return None
    scale = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9, 4)


def _end_with_parent() -> None:
    """End this process when the benchmark that started it is gone, however it went.

    The benchmark holds the other end of this process's standard input.
    """

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(STOPPED_CODE)

    threading.Thread(target=wait, daemon=True).start()


def main(out: Path, folder: Path) -> int:
    """Run the cell in ``folder`` of ``out``; returns 0, 1 if it failed, 130 if it was stopped."""
    _end_with_parent()
    started = time.perf_counter()
    os.chdir(out)
    job = Job.read(folder / "job.json")
    try:
        record = run_cell(folder, job)
    except MedsegError as error:
        print(error, file=sys.stderr)
        record = failed(job, str(error), Cost.since(started))
    except (Interrupted, KeyboardInterrupt):
        return STOPPED_CODE
    except Exception as error:
        traceback.print_exc()
        record = failed(job, f"{type(error).__name__}: {error}", Cost.since(started))
    write_record(folder, record)
    return 0 if record["status"] == OK else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
