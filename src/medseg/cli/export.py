"""`medseg export`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import A_DATASET, Depth, Layout, NetworkOf


class Format(StrEnum):
    """Of the exported file."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCHSCRIPT = "torchscript"
    WEB = "web"


def export(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="A run folder, a .medseg file, or a name of `medseg models list`; for web also "
            "several, of which one is chosen on the page.",
            metavar="MODEL...",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=".onnx, or .medseg, which then runs with and without PyTorch; .xml for openvino; "
            ".pt for torchscript; a new folder for web, .html with --single-file.",
        ),
    ],
    format: Annotated[  # noqa: A002
        Format,
        typer.Option(
            help="onnx; openvino; torchscript, an archive of code that PyTorch executes when it "
            "is loaded: open only those you trust; web, a page that works offline."
        ),
    ] = Format.ONNX,
    data: Annotated[
        Path | None,
        typer.Option(
            help=A_DATASET + " The one the model was trained on: its validation part is scored."
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Convolutions in 8 bits, calibrated on training images of --data."
        ),
    ] = False,
    dice_budget: Annotated[
        float | None,
        typer.Option(help="Points of validation Dice that --int8 may cost [0.5]."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Of ONNX, 18 to 25 [18].")] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="The web page as one HTML file.")
    ] = False,
    depth: Depth = None,
    layout: Layout = "auto",
    system: NetworkOf = None,
) -> None:
    """Write a trained model for another engine, proven to give the same masks.

    The file goes from pixels to mask: resizing, normalisation and threshold are in it. Before it
    is kept, it is opened as its user will, and must give the masks of the model's golden cases to
    the pixel; with --int8, it must keep the validation Dice. Otherwise nothing is written and the
    exit code is 2. OUT.md gets the table of size, time, memory and Dice.

    **Examples**

        medseg export runs/first -o model.onnx

        medseg export runs/first -o model.medseg

        medseg export runs/first --format openvino -o model.xml --int8 --data data

        medseg export polyp nuclei --format web -o page
    """
    from typing import Any

    from rich.console import Console
    from rich.table import Table

    from medseg.extras import needed_by

    with needed_by("medseg export"):
        from medseg.export.exporter import HEAD, cells, export_page, remarks
        from medseg.export.exporter import export as write

    both: dict[str, Any] = {
        "opset": opset,
        "single_file": single_file,
        "progress": lambda step: typer.echo(f"{step} ...", err=True),
    }
    alone: dict[str, Any] = {
        "int8": int8,
        "dice_budget": dice_budget,
        "data": data,
        "layout": layout,
        "system": system,
        "depth": depth,
    }
    if len(models) > 1:
        _check_several(format, alone)
        done = export_page(models, output, **both)
    else:
        done = write(models[0], output, format=format.value, **alone, **both)
    table = Table(*HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in done.rows:
        table.add_row(*cells(row))
    console = Console()
    console.print(table)
    for line in (*remarks(done), f"Wrote {output} and {output.name}.md"):
        console.print(line, markup=False, highlight=False)


def _check_several(format: Format, alone: Mapping[str, object]) -> None:  # noqa: A002
    """Refuse what is for one model only."""
    from medseg.errors import MedsegError

    if format is not Format.WEB:
        raise MedsegError(
            f"--format {format.value}", "a file holds one model", "Name one, or use --format web"
        )
    for name, given in alone.items():
        if given not in (None, False, "auto"):
            option = f"--{name.replace('_', '-')}"
            raise MedsegError(option, "it is for one model", "Leave it out, or name one model")
