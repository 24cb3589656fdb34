"""Running a benchmark: every cell in a process of its own, and on again after a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from medseg.benchmark.cell import OK, Job, Target, failed, write_record
from medseg.benchmark.check import Checked, check_spec
from medseg.benchmark.efficiency import NEEDS_EXPORT, can_export, measure
from medseg.benchmark.folder import check_folder, forget_changed, locked, split_name, write_splits
from medseg.benchmark.grid import Cell, cells_of
from medseg.benchmark.page import write_report
from medseg.benchmark.places import names_of, seen_from, tidy, without_folders
from medseg.benchmark.pool import make_slots, run_cells
from medseg.benchmark.published import read_published
from medseg.benchmark.results import write_results
from medseg.benchmark.spec import DataEntry, Spec, parse_spec, read_yaml
from medseg.errors import MedsegError
from medseg.files import write_text

DEFAULT_CACHE_LIMIT = 20_000_000_000


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
    slots = make_slots(device, workers)
    with locked(folder):
        cells = cells_of(spec, folder)
        # Said before all images are read.
        check_folder(folder, spec, cells)
        spec, checked, overlaps = check_spec(spec, console)
        check_folder(folder, spec, cells)
        names = names_of(folder, spec)
        checked = {
            name: replace(each, error=without_folders(each.error, names))
            for name, each in checked.items()
        }
        write_splits(folder, checked, cells)
        forget_changed(folder, spec, cells)
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
            run_cells(
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
                patch=trained[0].get("patch"),
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
        return target(entry, split_name(entry.name) if entry.name in trained_on else None)

    return Job(
        system=cell.system.name,
        network=seen_from(folder, cell.system.system),
        settings=spec.settings_of(cell.system, cell.data),
        data=target(cell.data),
        split=split_name(cell.data.name),
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
