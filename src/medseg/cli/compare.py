"""``medseg compare``: which system is better, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="TABLE",
            help="Two or more per-case tables (.csv) of `medseg evaluate`. NAME=TABLE names the "
            "system; NAME=A.csv,B.csv,... gives a table for each seed it was trained with.",
        ),
    ],
    names: Annotated[
        str | None, typer.Option(help="Names of the systems, as many, with commas between.")
    ] = None,
    metric: Annotated[str, typer.Option(help="The column to compare.")] = "dice",
    label: Annotated[
        str | None,
        typer.Option("--class", help="The class; by default the mean over the classes of a case."),
    ] = None,
    common: Annotated[
        bool,
        typer.Option("--common", help="Compare the cases in all tables; otherwise all must agree."),
    ] = False,
    lower: Annotated[
        bool | None,
        typer.Option(
            "--lower-is-better/--higher-is-better",
            help="The metric's direction, where its name does not tell.",
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="Write the result: .html, .md, .json or .csv, or the critical-difference plot: "
            ".png or .svg. May be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of resamples and permutations.")] = 0,
) -> None:
    """Compare systems scored on the same cases.

    Prints each system's mean with its 95 % interval and how stable its rank is; each pair's
    difference with its interval, effect size, and p-values of a paired permutation test and
    Wilcoxon's test, Holm-corrected; and how many cases would be needed to see the difference.
    Patients are kept together where the tables name them. Seeds are averaged, not counted as
    cases.

    **Examples**

        medseg compare unet.csv segnet.csv

        medseg compare a.csv b.csv c.csv --metric hd95 --class tumour -o ranks.svg

        medseg compare unet=u0.csv,u1.csv,u2.csv segnet=s0.csv,s1.csv,s2.csv -o compared.html
    """
    from rich.console import Console

    from medseg.metrics.compare import check_output
    from medseg.metrics.compare import compare as compare_systems
    from medseg.metrics.tables import systems_named
    from medseg.report.comparison import render

    systems = systems_named(tables, names.split(",") if names is not None else None)
    for path in output or []:
        check_output(path, len(systems))
    result = compare_systems(
        systems, metric=metric, label=label, common=common, lower_is_better=lower, seed=seed
    )
    console = Console()
    console.print(render(result))
    for path in output or []:
        result.save(path)
        console.print(f"Wrote {path}", markup=False, highlight=False)
