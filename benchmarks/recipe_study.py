"""Which choices of a training recipe hold over seeds and datasets: trainings, paired differences.

    python benchmarks/recipe_study.py STUDY.yaml OUT results/recipe-study.json --workers 1

STUDY.yaml (an example: benchmarks/recipe_study.yaml) names the system, the data, the seeds, the
settings of all trainings and the variants, of which the first is what the others are compared
with. A variant has settings (``set``), another ``system``, a ``teacher`` (trained first on the same
training part; its run is then the setting ``method_options.teacher``) or ``pretrain``: options of
`medseg pretrain` on the training parts of all data, whose run is then the setting ``init``.

A choice is made on the validation part: the test part stays sealed. Every cell is a process of one
thread; what is finished stays, what was stopped (ctrl-C) or killed goes on. The result is written
after every cell, and a Markdown table beside it.

The difference of two variants is the mean over cases and seeds, paired by both; its interval is
that of a bootstrap that draws cases (patients, where they are known) and seeds at once (Owen 2007,
"The pigeonhole bootstrap"), with the datasets as they are.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from common import origin
from medseg.errors import MedsegError
from medseg.files import write_text

STOPPED = 130
RESAMPLES = 2000
# Of one result: differences by case (row, with its patient) and seed (column).
Differences = tuple[NDArray[np.float64], tuple[str, ...]]


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        folder: holds ``task.json``, ``run/`` and, once it is done, ``cell.json``.
        data: to train on; several are for pre-training.
        splits: of the data; none for pre-training, which draws those of its seed.
        seed: of the training.
        system: its name.
        settings: recipe values as ``a.b=c``.
        after: folders of the trainings that must be done before.
        score: whether the validation part is scored.
    """

    folder: str
    data: tuple[str, ...]
    splits: tuple[str, ...]
    seed: int
    system: str
    settings: tuple[str, ...]
    after: tuple[str, ...] = ()
    score: bool = True

    @property
    def record(self) -> dict[str, Any] | None:
        """What the finished training has left."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((Path(self.folder) / "cell.json").read_text())
            return found
        return None

    @property
    def done(self) -> bool:
        record = self.record
        return record is not None and record.get("error") is None


def set_in(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Recipe values as `--set` takes them."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


class Study:
    """A study file and the trainings that it asks for.

    Args:
        values: of STUDY.yaml.
        out: where everything is kept.
    """

    def __init__(self, values: Mapping[str, Any], out: Path) -> None:
        known = {"system", "data", "seeds", "set", "variants"}
        if set(values) - known or not {"system", "data", "variants"} <= set(values):
            raise MedsegError(
                "the study", f"it has the keys {', '.join(values)}", f"Known: {', '.join(known)}"
            )
        self.out = out
        self.system: str = values["system"]
        self.data: dict[str, dict[str, Any]] = {
            Path(each["path"]).name: each
            for each in (e if isinstance(e, dict) else {"path": e} for e in values["data"])
        }
        self.seeds: list[int] = list(values.get("seeds", [0, 1]))
        self.common: dict[str, Any] = dict(values.get("set", {}))
        self.variants: dict[str, dict[str, Any]] = {
            k: v or {} for k, v in values["variants"].items()
        }
        self.default = next(iter(self.variants))

    def cell(self, variant: str, data: str, seed: int) -> Path:
        return self.out / "cells" / variant / data / f"seed-{seed}"

    def split(self, data: str) -> Path:
        return self.out / "splits" / f"{data}.csv"

    def write_splits(self) -> None:
        """One split for all trainings on a dataset: the published one, or that of seed 0."""
        for name, entry in self.data.items():
            if self.split(name).is_file():
                continue
            self.split(name).parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "medseg", "data", "split", entry["path"]]
            command += ["-o", str(self.split(name)), "--seed", "0"]
            if "group_pattern" in entry:
                command += ["--group-pattern", entry["group_pattern"]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def tasks(self) -> list[Task]:
        """All trainings, those that others wait for first."""
        first: list[Task] = []
        cells: list[Task] = []
        for seed in self.seeds:
            for data in self.data:
                for variant in self.variants:
                    needed, cell = self._cell(variant, data, seed)
                    first += [task for task in needed if task not in first]
                    cells.append(cell)
        return first + cells

    def _cell(self, variant: str, data: str, seed: int) -> tuple[list[Task], Task]:
        entry = self.variants[variant]
        settings = {**self.common, **entry.get("set", {})}
        needed: list[Task] = []
        if "teacher" in entry:
            teacher = entry["teacher"]
            folder = self.out / "teachers" / variant / data / f"seed-{seed}"
            needed.append(
                self._training(
                    folder, data, seed, teacher["system"],
                    {**self.common, **teacher.get("set", {})}, score=True,
                )
            )  # fmt: skip
            settings["method"] = "distillation"
            settings["method_options.teacher"] = str((folder / "run").absolute())
        if "pretrain" in entry:
            folder = self.out / "pretrained" / variant / f"seed-{seed}"
            paths = tuple(each["path"] for each in self.data.values())
            splits = tuple(str(self.split(name)) for name in self.data)
            needed.append(
                Task(
                    str(folder), paths, splits, seed, entry.get("system", self.system),
                    set_in(entry["pretrain"]), score=False,
                )
            )  # fmt: skip
            settings["init"] = str((folder / "run").absolute())
        after = tuple(task.folder for task in needed)
        system = entry.get("system", self.system)
        return needed, self._training(
            self.cell(variant, data, seed), data, seed, system, settings, after=after
        )

    def _training(
        self,
        folder: Path,
        data: str,
        seed: int,
        system: str,
        settings: Mapping[str, Any],
        *,
        after: tuple[str, ...] = (),
        score: bool = True,
    ) -> Task:
        entry = self.data[data]
        if "group_pattern" in entry:
            settings = {**settings, "data.group_pattern": entry["group_pattern"]}
        return Task(
            str(folder), (entry["path"],), (str(self.split(data)),), seed, system,
            set_in(settings), after, score,
        )  # fmt: skip


def run_task(folder: Path, cache: Path) -> dict[str, Any]:
    """Train, or go on with it, and score the validation part."""
    values = json.loads((folder / "task.json").read_text())
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    task = Task(**given)
    from medseg.engine.train import train
    from medseg.inference.bundle import read_manifest

    run = folder / "run"
    if not (run / "model.medseg").is_file():
        begun = (run / "recipe.yaml").is_file()
        options: dict[str, Any] = {"output": run, "resume": begun, "cache_dir": cache}
        if not begun:
            options |= {"system": task.system, "seed": task.seed, "settings": task.settings}
        if task.score:
            options |= {} if begun else {"split": task.splits[0]}
            train(task.data[0], **options)
        else:
            from medseg.engine.pretrain import pretrain

            options |= {} if begun else {"splits": task.splits}
            pretrain(task.data, **options)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    history = [json.loads(line) for line in lines]
    record: dict[str, Any] = {
        "error": None,
        "parameters": read_manifest(run / "model.medseg").parameters,
        "epochs": len(history),
        "train_seconds": round(sum(row["seconds"] for row in history), 1),
    }
    if task.score:
        from medseg.scoring import evaluate

        evaluation = evaluate(task.data[0], run, part="val", metrics=("dice",))
        patients = {row.case: row.patient or row.case for row in evaluation.rows}
        means = evaluation.case_means("dice")
        with (folder / "val.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "patient", "dice"])
            writer.writerows([case, patients[case], value] for case, value in means.items())
        record["dice"] = float(np.mean(list(means.values())))
        record["best_epoch"] = max(history, key=lambda row: row["val_dice"])["epoch"]
    return record


def cell_process(folder: Path, cache: Path) -> int:
    """What a child does; its standard input ends with its parent."""
    from medseg.engine.loop import Interrupted

    def end_with_parent() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(STOPPED)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        record = run_task(folder, cache)
    except (Interrupted, KeyboardInterrupt):
        return STOPPED
    except MedsegError as error:
        print(error, file=sys.stderr)
        record = {"error": str(error)}
    write_text(folder / "cell.json", json.dumps(record, indent=1))
    return 0 if record["error"] is None else 1


def run_tasks(
    tasks: Sequence[Task], out: Path, workers: int, finished: Callable[[Task], None]
) -> None:
    """Run what is not done, ``workers`` at a time, each after what it needs."""
    waiting = [task for task in tasks if not task.done]
    print(f"{len(tasks) - len(waiting)} of {len(tasks)} trainings were done before")
    running: dict[Future[int], Task] = {}
    children: set[subprocess.Popen[bytes]] = set()
    by_folder = {task.folder: task for task in tasks}

    def work(task: Task) -> int:
        folder = Path(task.folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "task.json", json.dumps(asdict(task), indent=1))
        command = [sys.executable, __file__, "--cell", str(folder), str(out / "cache")]
        with (folder / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
            children.add(child)
            code = child.wait()
            assert child.stdin is not None
            child.stdin.close()
            children.discard(child)
        return code

    def state(task: Task) -> str:
        before = [by_folder[folder] for folder in task.after]
        if any(each.record is not None and not each.done for each in before):
            return "impossible"
        return "ready" if all(each.done for each in before) else "waiting"

    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                for task in [each for each in waiting if each not in running.values()]:
                    now = state(task)
                    if now == "impossible":
                        waiting.remove(task)
                        print(f"left out: {task.folder}: what it needs has failed", flush=True)
                    elif now == "ready" and len(running) < workers:
                        waiting.remove(task)
                        running[pool.submit(work, task)] = task
                for future in wait(running, 0.5, FIRST_COMPLETED).done:
                    task = running.pop(future)
                    code = future.result()
                    if code == STOPPED:
                        raise KeyboardInterrupt
                    if task.record is None:
                        text = f"its process ended with exit code {code}; see log.txt"
                        write_text(Path(task.folder) / "cell.json", json.dumps({"error": text}))
                    record = task.record or {}
                    dice = record.get("dice")
                    said = record.get("error") or ("done" if dice is None else f"Dice {dice:.4f}")
                    print(f"{task.folder}: {said}", flush=True)
                    finished(task)
        except KeyboardInterrupt:
            print("stopping: running trainings are saved", flush=True)
            for child in list(children):
                child.send_signal(signal.SIGINT)
            raise


def read_scores(folder: Path) -> dict[str, tuple[str, float]]:
    """Case id to patient and Dice."""
    with (folder / "val.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: (row["patient"], float(row["dice"])) for row in csv.DictReader(file)}


def differences(study: Study, variant: str, data: str) -> Differences | None:
    """The variant's Dice less the default's, of the seeds that both have finished."""
    columns: list[dict[str, float]] = []
    patients: dict[str, str] = {}
    for seed in study.seeds:
        cells = [study.cell(each, data, seed) for each in (variant, study.default)]
        with suppress(OSError):
            ours, theirs = (read_scores(cell) for cell in cells)
            columns.append({case: ours[case][1] - theirs[case][1] for case in theirs})
            patients |= {case: patient for case, (patient, _) in theirs.items()}
    if not columns:
        return None
    cases = sorted(columns[0])
    values = np.array([[column[case] for column in columns] for case in cases])
    return values, tuple(patients[case] for case in cases)


def pigeonhole(values: Sequence[Differences], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over datasets of the mean over cases and seeds."""
    rng = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for table, patients in values:
        names, place = np.unique(patients, return_inverse=True)
        sums = np.zeros((len(names), table.shape[1]))
        np.add.at(sums, place, table)
        sizes = np.bincount(place).astype(float)
        for draw in range(RESAMPLES):
            rows = rng.integers(0, len(names), len(names))
            columns = rng.integers(0, table.shape[1], table.shape[1])
            total = sums[rows][:, columns].sum()
            means[draw] += total / (sizes[rows].sum() * table.shape[1]) / len(values)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def summarise(study: Study, tasks: Sequence[Task]) -> dict[str, Any]:
    """Scores of all variants, and their differences to the first."""
    records = {task.folder: task.record for task in tasks}
    variants: dict[str, Any] = {}
    for variant, entry in study.variants.items():
        found: dict[str, Any] = {**entry, "data": {}}
        tables: list[Differences] = []
        for data in study.data:
            cells = [records[str(study.cell(variant, data, seed))] for seed in study.seeds]
            done = [cell for cell in cells if cell is not None and cell["error"] is None]
            of_data: dict[str, Any] = {
                "dice": [round(cell["dice"], 5) for cell in done],
                "train_seconds": [cell["train_seconds"] for cell in done],
                "errors": [cell["error"] for cell in cells if cell is not None and cell["error"]],
            }
            table = None if variant == study.default else differences(study, variant, data)
            if table is not None:
                tables.append(table)
                of_data["difference"] = round(float(table[0].mean()), 5)
                of_data["difference_by_seed"] = [round(float(x), 5) for x in table[0].mean(axis=0)]
                of_data["interval"] = [round(bound, 5) for bound in pigeonhole([table])]
            found["data"][data] = of_data
        if tables:
            low, high = pigeonhole(tables)
            means = [float(table.mean()) for table, _ in tables]
            found["difference"] = round(float(np.mean(means)), 5)
            found["interval"] = [round(low, 5), round(high, 5)]
            found["datasets"] = len(tables)
            found["better_on"] = sum(mean > 0 for mean in means)
            found["holds"] = len(tables) == len(study.data) and low > 0 and min(means) > 0
        variants[variant] = found
    finished = sum(record is not None and record["error"] is None for record in records.values())
    return {
        "system": study.system,
        "seeds": study.seeds,
        "set": study.common,
        "part": "validation",
        "trainings": len(tasks),
        "finished": finished,
        "variants": variants,
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """A table for a page: Dice of the first variant, differences of the others, in points."""
    variants = summary["variants"]
    default, *others = variants
    names = list(variants[default]["data"])
    lines = [
        f"| variant | {' | '.join(names)} | mean | holds |",
        "|---" * (len(names) + 3) + "|",
    ]
    scores = [variants[default]["data"][name]["dice"] for name in names]
    cells = [f"{100 * np.mean(each):.1f}" if each else "-" for each in scores]
    known = [np.mean(each) for each in scores if each]
    mean = f"{100 * np.mean(known):.1f}" if known else "-"
    lines.append(f"| {default} (Dice) | {' | '.join(cells)} | {mean} | |")
    for variant in others:
        found = variants[variant]
        cells = [_points(found["data"][name]) for name in names]
        holds = {True: "yes", False: "no"}.get(found.get("holds"), "-")
        lines.append(f"| {variant} | {' | '.join(cells)} | {_points(found)} | {holds} |")
    return "\n".join(lines) + "\n"


def _points(found: Mapping[str, Any]) -> str:
    if "difference" not in found:
        return "failed" if found.get("errors") else "-"
    low, high = found["interval"]
    return f"{100 * found['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def main() -> int:
    if sys.argv[1:2] == ["--cell"]:
        return cell_process(Path(sys.argv[2]), Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--summary", action="store_true", help="train nothing, sum up what is done")
    arguments = parser.parse_args()
    study = Study(yaml.safe_load(arguments.study.read_text(encoding="utf-8")), arguments.out)
    tasks = study.tasks()

    def write(task: Task | None = None) -> None:
        found = {**origin(), **summarise(study, tasks)}
        arguments.result.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.result, json.dumps(found, indent=1) + "\n")
        write_text(arguments.result.with_suffix(".md"), markdown(found))

    try:
        if not arguments.summary:
            study.write_splits()
            run_tasks(tasks, arguments.out, arguments.workers, write)
    except KeyboardInterrupt:
        return STOPPED
    finally:
        write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
