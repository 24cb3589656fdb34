"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu, cuda:0 or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Unpickle a foreign .pth file. It can run any code.")
]
NetworkOf = Annotated[
    str | None,
    typer.Option(
        "--system", help="Network of a .pth file, or the .py file a bundle was made with."
    ),
]
MaxRam = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="For a model of volumes: what the program may hold in memory while it predicts, "
        "e.g. 2GB; the masks stay the same [what is free].",
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        "--depth",
        min=1,
        help="Prune a network that can be pruned (UNet++) to its first so many columns: smaller "
        "and faster [whole].",
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        help="How the dataset lies on disk, where it cannot be recognised (docs/layouts.md)."
    ),
]

A_DATASET = "A dataset's folder or file (docs/layouts.md), or the name of a registered one."
Data = Annotated[Path, typer.Argument(help=A_DATASET)]
System = Annotated[
    str | None,
    typer.Option(
        help="A name (`medseg systems list`) or a .py file with one network [med2d-segnet]."
    ),
]
GroupPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression for the patient in a case id, e.g. 'patient\\d+'."),
]
SplitFile = Annotated[
    Path | None, typer.Option(help="Use this CSV of `medseg data split` [drawn by seed].")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any recipe key, e.g. network.expansion=4.", metavar="KEY=VALUE"),
]
