"""`medseg systems list` and `medseg systems show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from medseg import systems
from medseg.cli.options import AsJson

app = typer.Typer(help="Published systems and what has been verified of them.")


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List all systems: name, parameters, year, and what is special about each.

    **Example**

        medseg systems list
    """
    cards = [systems.load_card(name) for name in systems.names()]
    if as_json:
        typer.echo(json.dumps([asdict(card) for card in cards], indent=1, default=dict))
        return
    width = max(len(card.name) for card in cards)
    for card in cards:
        typer.echo(
            f"{card.name:{width}}  {card.fidelity.parameters:>12,}  {card.year}  {card.summary}"
        )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As in `medseg systems list`.")],
    as_json: AsJson = False,
) -> None:
    """Show a system's card: reference, options, and what has been verified.

    **Example**

        medseg systems show med2d-segnet
    """
    from medseg.models import network_options

    card = systems.load_card(name)
    options = network_options(name, {})
    if as_json:
        typer.echo(json.dumps({**asdict(card), "options": options}, indent=1, default=dict))
        return
    known = card.fidelity
    typer.echo(f"{card.name}: {card.title}\n{card.authors} ({card.year}), {card.reference}\n")
    typer.echo(f"{card.summary}\n")
    typer.echo(f"parameters  {known.parameters:,} (3 input channels, 1 class)")
    typer.echo(f"published   {known.official_parameters}")
    typer.echo(f"parity      {known.parity}")
    typer.echo(f"reproduced  {known.reproduced}")
    for title, lines in (
        ("from the authors", known.from_authors),
        ("reconstructed here", known.reconstructed),
        ("deviations", known.deviations),
    ):
        if lines:
            typer.echo(f"\n{title}")
            for line in lines:
                typer.echo(f"  - {line}")
    typer.echo("\noptions (--set network.NAME=VALUE)")
    for option, value in options.items():
        shown = list(value) if isinstance(value, tuple) else value
        typer.echo(f"  {option} = {shown}")
