"""`medseg data check` and `medseg data split`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from medseg.cli import catalogue, convert
from medseg.cli.options import AsJson, Layout

app = typer.Typer(help="Look at a dataset before training on it.", no_args_is_help=True)
app.add_typer(catalogue.app, name="catalogue")
app.command("add")(catalogue.add)
app.command("remove")(catalogue.remove)
app.command("convert")(convert.convert)

Data = Annotated[Path, typer.Argument(help="Folder with images/ and masks/, or a CSV manifest.")]
GroupPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression for the patient in a case id, e.g. 'patient\\d+'."),
]
SnapMasks = Annotated[
    Literal["auto", "always", "never"],
    typer.Option(help="Move unexpected mask values to the nearest label; auto: in JPEGs only."),
]


@app.command()
def check(
    data: Data,
    layout: Layout = "auto",
    group_pattern: GroupPattern = None,
    snap_masks: SnapMasks = "auto",
    as_json: AsJson = False,
) -> None:
    """List every problem of a dataset. Exit code 1 when there are errors.

    **Examples**

        medseg data check photos/

        medseg data check photos/ --json > problems.json
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medseg.data.integrity import check_dataset
    from medseg.data.layouts import open_dataset
    from medseg.engine.progress import counting_bar
    from medseg.errors import plural

    dataset = open_dataset(data, layout=layout, group_pattern=group_pattern)
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("checking", total=len(dataset.cases))
        survey = check_dataset(
            dataset, snap=snap_masks, progress=lambda done, total: bar.update(task, completed=done)
        )
    if as_json:
        typer.echo(json.dumps(survey.to_json(), indent=1, ensure_ascii=False))
    else:
        if survey.problems:
            table = Table("", "problem", "where", "found", "what to do", show_lines=True)
            for problem in survey.problems:
                colour = "red" if problem.severity == "error" else "yellow"
                said = (problem.kind, problem.where, problem.found, problem.remedy)
                table.add_row(Text(problem.severity, style=colour), *map(Text, said))
            Console().print(table)
        names = ", ".join(survey.labels.names) if survey.labels else "unknown"
        typer.echo(
            f"{len(survey.usable)} usable of {len(dataset.cases)} cases; classes: {names}; "
            f"{'grey' if survey.channels == 1 else 'colour'} images; "
            f"{plural(len(survey.errors), 'error')}, {plural(len(survey.warnings), 'warning')}"
        )
    if survey.errors:
        raise typer.Exit(1)


@app.command()
def split(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")] = Path(
        "split.csv"
    ),
    ratios: Annotated[str, typer.Option(help="Shares of train, val, test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Of the shuffle.")] = 0,
    fold: Annotated[int | None, typer.Option(help="Validate on this fold, from 0.")] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Number of folds [5]; without --fold the file holds them all, and "
            "`medseg train --split FILE --fold K` takes one."
        ),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option("--allow-leak", help="Write a published split although it leaks."),
    ] = False,
    layout: Layout = "auto",
    group_pattern: GroupPattern = None,
    snap_masks: SnapMasks = "auto",
) -> None:
    """Write the split that training would use, and show what each part holds.

    Cases of one patient and alike images stay together; the parts show the same classes in the
    same sizes as the whole, as far as that allows. The file knows its data by their hashes.

    **Examples**

        medseg data split photos/ -o split.csv

        medseg data split scans/ --group-pattern 'patient\\d+' --folds 5 -o folds.csv

        medseg train scans/ --group-pattern 'patient\\d+' --split folds.csv --fold 0
    """
    from rich.console import Console

    from medseg.data.integrity import check_dataset
    from medseg.data.layouts import open_dataset
    from medseg.data.leaks import KINDS, find_leaks, leak_error, summary
    from medseg.data.splitfile import case_hashes, write_split
    from medseg.data.splits import choose_fold, divide
    from medseg.errors import DataError, MedsegError, plural
    from medseg.report.split import split_table

    try:
        train, val, test = (float(part) for part in ratios.split(","))
    except ValueError as error:
        raise MedsegError(
            "--ratios", f"{ratios!r} is not three numbers", "Write e.g. 0.8,0.1,0.1"
        ) from error
    dataset = open_dataset(data, layout=layout, group_pattern=group_pattern)
    _, count = choose_fold(dataset.folds, dataset.cases, fold, folds)
    survey = check_dataset(dataset, snap=snap_masks)
    errors = [problem for problem in survey.errors if problem.kind not in KINDS]
    if errors:
        raise DataError(
            data,
            f"{plural(len(errors), 'error')} in the data, with which nothing is trained",
            f"See `medseg data check {quote(str(data))}`",
        )
    numbers = range(count) if folds is not None and fold is None else [fold]
    divisions = [
        divide(survey, ratios=(train, val, test), seed=seed, fold=number, folds=folds)
        for number in numbers
    ]
    leaks = max(
        (find_leaks(dataset.cases, each.parts, survey.clusters) for each in divisions), key=len
    )
    if leaks and not allow_leak:
        raise leak_error(data, leaks)
    parts, validated = dict(divisions[0].parts), None
    if len(divisions) > 1:
        validated = {
            case: number
            for number, division in enumerate(divisions)
            for case, part in division.parts.items()
            if part == "val"
        }
        parts |= dict.fromkeys(validated, "train")
    write_split(
        output,
        parts,
        survey.usable,
        clusters=survey.clusters,
        hashes=case_hashes(survey),
        folds=validated,
    )
    console = Console()
    console.print(split_table(survey, parts, validated))
    if leaks:
        console.print(f"Leak: {summary(leaks)} on both sides", highlight=False)
    counts = Counter(parts.values())
    if validated is None:
        said = f"{counts['train']} train, {counts['val']} val, {counts['test']} test"
    else:
        said = f"{counts['train']} in {count} folds, {counts['test']} test"
    typer.echo(f"{output}: {said}")
