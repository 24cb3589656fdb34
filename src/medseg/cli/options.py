"""Options that several verbs take."""

from __future__ import annotations

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
Layout = Annotated[
    str,
    typer.Option(
        help="How the dataset lies on disk, where it cannot be recognised (docs/data.md)."
    ),
]
