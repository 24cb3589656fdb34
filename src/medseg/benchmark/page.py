"""The report of a benchmark: tables, figures, and one page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from medseg.benchmark import tables as make
from medseg.benchmark.examples import examples
from medseg.benchmark.figures import all_figures
from medseg.benchmark.figures.frame import Drawing
from medseg.benchmark.reading import NOT_RUN, Results, Task
from medseg.benchmark.tables import all_tables
from medseg.benchmark.tabular import Table, as_files
from medseg.errors import plural
from medseg.files import write_text
from medseg.metrics.panel import METRICS
from medseg.report.comparison import method_notes, rank_note, verdict
from medseg.report.pages import load_page

FOLDER = "report"
# CSS pixels in a point of SVG, and how much smaller than drawn a figure may be shown.
_PIXELS = 4 / 3
_SMALLEST = 0.8
# Figures up to this width, in CSS pixels, stand side by side, and are then as wide as this.
_NARROW = 760
_HALF = 440


def write_report(out: str | Path, *, progress: Callable[[str], None] | None = None) -> Path:
    """Write ``OUT/report/``: ``index.html``, ``tables/`` and ``figures/``.

    Tables and pictures that lie there and are of an earlier report are deleted.

    Args:
        out: the folder that `medseg benchmark -o` wrote; its grid may be incomplete.
        progress: called with what is being written.

    Returns:
        The page.

    Raises:
        DataError: the folder holds no benchmark or something in it cannot be read.
        MedsegError: a file cannot be written.
    """
    say = progress or (lambda _: None)
    results = Results.read(out)
    folder = Path(out) / FOLDER
    say("tables")
    tables = all_tables(results)
    written = {folder / "tables" / name: text for name, text in as_files(tables).items()}
    for path, text in written.items():
        write_text(path, text)
    say("figures")
    drawings = [*all_figures(results), *(examples(results, task) for task in results.own_tasks)]
    drawn = {
        folder / "figures" / f"{drawing.name}.{suffix}": drawing
        for drawing in drawings
        if not drawing.skipped
        for suffix in ("png", "svg")
    }
    for path, drawing in drawn.items():
        drawing.save(path)
    _forget_others(folder, {*written, *drawn})
    say("page")
    page = folder / "index.html"
    write_text(page, render(results, tables, drawings))
    return page


def _forget_others(folder: Path, written: Collection[Path]) -> None:
    """Delete what an earlier report has left, as a figure of images that may no longer be shown."""
    for name, suffixes in (("tables", (".md", ".csv", ".tex")), ("figures", (".png", ".svg"))):
        for path in (folder / name).glob("*"):
            if path.suffix in suffixes and path not in written:
                path.unlink()


def render(results: Results, tables: list[Table], drawings: list[Drawing]) -> str:
    """The page as HTML."""

    template = load_page("benchmark.html")
    by_name = {table.name: table for table in tables}
    return template.render(
        title=results.name,
        sentence=sentence(results),
        warnings=_warnings(results),
        verdicts=_verdicts(results),
        overview=by_name["overview"],
        scores=[(task.title, by_name[f"scores-{task.file}"]) for task in results.tasks],
        groups=[
            (task.title, by_name[f"groups-{task.file}"])
            for task in results.tasks
            if f"groups-{task.file}" in by_name
        ],
        pairs=make.pairs_with_best(results) if "pairs" in by_name else None,
        efficiency=by_name.get("efficiency"),
        trainings=by_name.get("trainings"),
        published=by_name.get("published"),
        drawn=[_shown(drawing) for drawing in drawings if not drawing.skipped],
        skipped=[drawing for drawing in drawings if drawing.skipped],
        failures=_failures(results),
        protocol=_protocol(results),
        data=_data(results),
        overlaps=_overlaps(results),
        command=f"medseg benchmark {quote(f'{results.name}/spec.yaml')} -o {quote(results.name)}",
        spec=yaml.safe_dump(dict(results.spec), sort_keys=False, allow_unicode=True),
        metrics=[METRICS[name] for name in results.metrics if name in METRICS],
        notes=_notes(results),
    )


def sentence(results: Results) -> str:
    """What was run, in a line."""
    said = (
        f"{plural(len(results.systems), 'system')} on {plural(len(results.data), 'dataset')} "
        f"with {plural(len(results.seeds), 'seed')}: {plural(len(results.cells), 'training')}"
    )
    missing = sum(cell.status == NOT_RUN for cell in results.cells)
    failed = len(results.failed) - missing
    said += f", {failed} failed" if failed else ", none failed"
    return said + (f", {missing} not run" if missing else "")


def _warnings(results: Results) -> list[str]:
    """What a reader must know before any number."""
    found = []
    missing = sum(cell.status == NOT_RUN for cell in results.cells)
    if missing:
        found.append(f"The grid is not complete: {plural(missing, 'training')} not run.")
    short = sorted(
        {
            f"{cell.system} on {cell.data}"
            for cell in results.failed
            if results.of(cell.system, cell.data)
        }
    )
    if short:
        found.append(f"Scored on fewer seeds than the others: {', '.join(short)}.")
    leaks = {cell.data: cell.leak for cell in results.cells if cell.leak}
    found += [f"{data}: {leak}" for data, leak in leaks.items()]
    for task in results.tasks:
        twins = results.twins(task)
        if twins is not None and twins.learnt:
            found.append(
                f"{plural(twins.learnt, 'case')} of {task.test} nearly alike to images of "
                f"{task.train} that were trained or chosen on: scores on {task.test} are too good."
            )
    if len(results.seeds) == 1:
        found.append("One seed: nothing is known of how much another training would differ.")
    return found


def _verdicts(results: Results) -> list[tuple[str, str]]:
    """Of each task, what is known of the best two systems."""
    found = []
    for task in results.tasks:
        comparison = results.comparison(task)
        if comparison is None:
            continue
        first, second = (system.name for system in comparison.ranked()[:2])
        pair = next(
            pair for pair in comparison.pairs if {pair.better, pair.other} == {first, second}
        )
        found.append((task.title, verdict(comparison, pair)))
    return found


def _failures(results: Results) -> list[tuple[str, str]]:
    """What has no numbers, and why."""
    found = [(f"unseen {name}", error) for name, error in results.unscored.items()]
    misfits = results.misfits
    found += [(f"{task.title}, not scored", reason) for task, reason in misfits.items()]
    for cell in results.failed:
        where = f"{cell.system} on {cell.data}, seed {cell.seed}"
        found.append((where, cell.error or cell.status))
    for cell in results.cells:
        for name, error in cell.unscored.items():
            if Task(cell.data, name) in misfits:
                continue
            found.append(
                (f"{cell.system} trained on {cell.data}, seed {cell.seed}, scored on {name}", error)
            )
    return found


def _protocol(results: Results) -> dict[str, str]:
    protocol = results.summary.get("protocol")
    said = protocol if isinstance(protocol, dict) else {}
    versions = sorted({cell.medseg for cell in results.cells if cell.medseg})
    spec = results.spec
    settings = spec["set"] if isinstance(spec.get("set"), list) else []
    facts = {
        "seeds": ", ".join(map(str, results.seeds)) + " (of weights, order and augmentation)",
        "split": "published, or drawn with seed "
        f"{spec.get('split_seed', 0)}; the same for all systems and seeds",
        "folds": "the i-th seed validates on the i-th fold" if spec.get("folds") else "",
        "chosen by": str(said.get("selection") or ""),
        "settings": ", ".join(map(str, settings)) or "those of each system",
        "empty masks": f"policy \N{LEFT DOUBLE QUOTATION MARK}{spec.get('empty_policy', 'one')}"
        "\N{RIGHT DOUBLE QUOTATION MARK}",
        "metrics": "medseg's own definitions"
        if results.convention == "default"
        else f"as {results.convention} computes them (medseg evaluate --convention)",
        "medseg": ", ".join(versions),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _data(results: Results) -> list[tuple[str, str, str, str]]:
    """Name, role, cases and hash of each dataset."""
    rows: dict[str, tuple[str, str, str, str]] = {}
    for key, role in (("data", "trained on"), ("unseen", "unseen")):
        for entry in results.spec.get(key) or ():
            name = entry["name"]
            if name in rows:
                rows[name] = (name, "trained on; unseen by the others", *rows[name][2:])
                continue
            counts = results.facts(key, name).get("cases")
            parts = counts.items() if isinstance(counts, dict) else ()
            cases = ", ".join(f"{count} {part}" for part, count in parts)
            rows[name] = (name, role, cases or "-", str(entry.get("hash") or "-"))
    return list(rows.values())


def _overlaps(results: Results) -> list[str]:
    """What was found of images that are in two datasets."""
    unseen = [task for task in results.tasks if task.train != task.test]
    if not unseen:
        return []
    if all(results.twins(task) is None for task in unseen):
        return ["Nobody looked for images that are in two datasets."]
    said = []
    for task in unseen:
        twins = results.twins(task)
        if twins is not None:
            count = plural(twins.cases, "case") if twins.cases else "no case"
            said.append(f"{task.test} and {task.train}: {count} nearly alike")
    return said


def _notes(results: Results) -> list[str]:
    """What intervals and tests rest on, each said once."""
    notes: dict[str, None] = {}
    for task in results.tasks:
        comparison = results.comparison(task)
        if comparison is None:
            continue
        notes |= dict.fromkeys(method_notes(comparison))
        if note := rank_note(comparison):
            notes[f"{task.title}: {note}"] = None
    return list(notes)


def _shown(drawing: Drawing) -> dict[str, Any]:
    """A drawing for the template, with the widths between which it reads well."""
    from markupsafe import Markup

    found = re.search(r'viewBox="0 0 ([\d.]+)', drawing.inline)
    width = float(found[1]) * _PIXELS if found else 720.0
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "inline": Markup(drawing.inline),
        "wide": width > _NARROW,
        "least": round(_SMALLEST * width if width > _NARROW else min(_HALF, width)),
        "most": round(1.1 * width),
    }
