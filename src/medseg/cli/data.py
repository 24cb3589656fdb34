"""`medseg data`: check and split here, the other verbs in their own modules."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from medseg.cli import catalogue, convert, plan
from medseg.cli.options import A_DATASET, AsJson, Data, GroupPattern, Layout

app = typer.Typer(help="Look at a dataset before training on it.", no_args_is_help=True)
SnapMasks = Annotated[
    Literal["auto", "always", "never"],
    typer.Option(help="Move unexpected mask values to the nearest label; auto: in JPEGs only."),
]


@app.command()
def check(
    data: Annotated[
        list[Path],
        typer.Argument(help=f"{A_DATASET} Several are compared."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the report to this .html or .json file."),
    ] = None,
    layout: Layout = "auto",
    group_pattern: GroupPattern = None,
    snap_masks: SnapMasks = "auto",
    as_json: AsJson = False,
) -> None:
    """List every problem of a dataset, and images that it shares with others.

    Exit code 1 when there are errors.

    **Examples**

        medseg data check photos/ -o report.html

        medseg data check train-set/ test-set/

        medseg data check photos/ --json > problems.json
    """
    from rich.console import Console

    from medseg.data.integrity import check_dataset
    from medseg.data.layouts import open_dataset
    from medseg.data.overlap import find_overlaps
    from medseg.engine.progress import counting_bar
    from medseg.errors import MedsegError
    from medseg.files import write_text
    from medseg.report.check import problem_table, to_json, verdict, write_check_report

    if output is not None and output.suffix.lower() not in (".html", ".json"):
        raise MedsegError("--output", f"'{output}' is neither .html nor .json", "Name it either")
    datasets = [open_dataset(path, layout=layout, group_pattern=group_pattern) for path in data]
    surveys = []
    with counting_bar(Console(stderr=True)) as bar:
        for dataset in datasets:
            task = bar.add_task("checking", total=len(dataset.cases))
            surveys.append(
                check_dataset(
                    dataset,
                    snap=snap_masks,
                    progress=lambda done, total, task=task: bar.update(task, completed=done),  # type: ignore[misc]
                )
            )
    overlaps = find_overlaps(surveys)
    found = json.dumps(to_json(surveys, overlaps), indent=1, ensure_ascii=False)
    if output is not None and output.suffix.lower() == ".json":
        write_text(output, f"{found}\n")
    elif output is not None:
        write_check_report(output, surveys, overlaps, snap=snap_masks)
    if as_json:
        typer.echo(found)
    else:
        console = Console()
        for survey in surveys:
            if survey.problems:
                console.print(problem_table(survey.problems))
            name = f"{survey.dataset.root}: " if len(surveys) > 1 else ""
            typer.echo(f"{name}{verdict(survey)}")
        shared = [overlap.problem for overlap in overlaps if overlap.problem is not None]
        if shared:
            console.print(problem_table(shared))
        elif overlaps:
            typer.echo("The datasets share no image that could be found.")
        if output is not None:
            typer.echo(f"{output}: the report")
    if any(survey.errors for survey in surveys):
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
    from medseg.data.splits import choose_fold, divide, divide_all
    from medseg.engine.progress import counting_bar
    from medseg.errors import DataError, MedsegError, plural
    from medseg.report.split import split_table

    try:
        train, val, test = (float(part) for part in ratios.split(","))
    except ValueError as error:
        raise MedsegError(
            "--ratios", f"{ratios!r} is not three numbers", "Write e.g. 0.8,0.1,0.1"
        ) from error
    dataset = open_dataset(data, layout=layout, group_pattern=group_pattern)
    choose_fold(dataset.folds, dataset.cases, fold, folds)
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("checking", total=len(dataset.cases))
        survey = check_dataset(
            dataset, snap=snap_masks, progress=lambda done, total: bar.update(task, completed=done)
        )
    errors = [problem for problem in survey.errors if problem.kind not in KINDS]
    if errors:
        raise DataError(
            data,
            f"{plural(len(errors), 'error')} in the data, with which nothing is trained",
            f"See `medseg data check {quote(str(data))}`",
        )
    shares = (train, val, test)
    if folds is not None and fold is None:
        divisions = divide_all(survey, folds=folds, ratios=shares, seed=seed)
    else:
        divisions = [divide(survey, ratios=shares, seed=seed, fold=fold, folds=folds)]
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
        said = f"{counts['train']} in {folds} folds, {counts['test']} test"
    typer.echo(f"{output}: {said}")


app.command("plan")(plan.plan)
app.command("convert")(convert.convert)
app.add_typer(catalogue.app, name="catalogue")
app.command("add")(catalogue.add)
app.command("remove")(catalogue.remove)
