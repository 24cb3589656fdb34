"""`medseg systems list` and `medseg systems show`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from medseg import systems
from medseg.cli.options import AsJson
from medseg.errors import RecipeError, nearest, plural
from medseg.systems.card import LEVELS, Card, axes, taken

if TYPE_CHECKING:
    from medseg.benchmark.efficiency import Efficiency

app = typer.Typer(help="Published systems and what has been verified of them.")


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(
    family: Annotated[
        str | None, typer.Option(help="Only systems of this family, e.g. unet.")
    ] = None,
    dims: Annotated[
        int | None, typer.Option(help="Only systems of images (2) or of volumes (3).", min=2, max=3)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the systems: parameters, images or volumes, and what is special about each.

    A terminal of 150 columns or more also shows what kind of system it is and of which family,
    the prompts it takes, how far it is verified, and on which data it was measured.

    **Examples**

        medseg systems list

        medseg systems list --dims 3

        medseg systems list --family unet --json
    """
    cards = [systems.load_card(name) for name in systems.names()]
    families = sorted({card.family for card in cards})
    if family is not None and family not in families:
        raise RecipeError(
            f"--family {family}", "there is no such family", nearest(family, families)
        )
    cards = [
        card
        for card in cards
        if family in (None, card.family) and (dims is None or dims in card.dims)
    ]
    if as_json:
        typer.echo(json.dumps([asdict(card) for card in cards], indent=1, default=dict))
        return
    if cards:
        typer.echo(_table(cards, shutil.get_terminal_size((200, 24)).columns))


_WIDE = 150
_NARROW = 60


def _table(cards: Sequence[Card], width: int) -> str:
    """A line for each card, cut where the terminal ends.

    Below ``_WIDE`` with few columns; below ``_NARROW`` also without the summary, and with rounded
    numbers.
    """
    rows = [_row(card) for card in cards]
    shown = list(rows[0])
    gap = "  "
    if width < _WIDE:
        shown = ["system", "parameters", "axes", "summary"]
    if width < _NARROW:
        shown.remove("summary")
        gap = " "
        for row, card in zip(rows, cards, strict=True):
            row["parameters"] = _rounded(card.fidelity.parameters)
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in shown}
    lines = []
    for row in ({name: name for name in shown}, *rows):
        cells = [
            row[name].rjust(widths[name]) if name == "parameters" else row[name].ljust(widths[name])
            for name in shown
        ]
        line = gap.join(cells).rstrip()
        lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return "\n".join(lines)


def _rounded(count: int) -> str:
    """Three digits: ``27.4 k``, ``2.07 M``, ``1.46 G``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            digits = 2 - (count >= 10 * size) - (count >= 100 * size)
            return f"{count / size:.{digits}f} {unit}"
    return str(count)


def _row(card: Card) -> dict[str, str]:
    return {
        "system": card.name,
        "parameters": f"{card.fidelity.parameters:,}",
        "axes": axes(card),
        "kind": card.kind,
        "family": card.family,
        "prompts": ", ".join(card.prompts) or "-",
        "fidelity": card.fidelity.level,
        "measured on": ", ".join(card.measured) or "-",
        "summary": f"{card.year}: {card.summary}",
    }


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As in `medseg systems list`.")],
    as_json: AsJson = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure arithmetic, memory and latency here; takes a minute."
        ),
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side, with --measure [256].", min=1)
    ] = None,
) -> None:
    """Show a system's card: reference, options, and what has been verified.

    With `--measure` also what it costs on this machine's CPU, for one image of 3 channels and one
    class: multiply-accumulates, peak memory of a prediction and of a training step, latency in
    PyTorch and in ONNX Runtime.

    **Examples**

        medseg systems show med2d-segnet

        medseg systems show med2d-segnet --measure --image-size 128
    """
    from medseg.models import network_options

    if image_size is not None and not measure:
        raise RecipeError("--image-size", "a card is the same at every size", "Add --measure")
    card = systems.load_card(name)
    options = network_options(name, {})
    found = _measured(name, image_size or 256) if measure else None
    if as_json:
        shown = {**asdict(card), "options": options}
        if found is not None:
            shown["efficiency"] = found.to_dict()
        typer.echo(json.dumps(shown, indent=1, default=dict))
        return
    known = card.fidelity
    typer.echo(f"{card.name}: {card.title}\n{card.authors} ({card.year}), {card.reference}\n")
    typer.echo(f"{card.summary}\n")
    typer.echo(f"kind        {card.kind}, family {card.family}")
    typer.echo(f"takes       {taken(card)}")
    typer.echo(f"fidelity    {known.level}: {LEVELS[known.level]}")
    typer.echo(f"parameters  {known.parameters:,} (3 input channels, 1 class)")
    typer.echo(f"published   {known.official_parameters}")
    typer.echo(f"parity      {known.parity}")
    typer.echo(f"reproduced  {known.reproduced}")
    where = dict.fromkeys(card.measured.values())
    if where:
        typer.echo(f"measured    {', '.join(card.measured)} ({', '.join(where)})")
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
        typer.echo(f"  {option} = {list(value) if isinstance(value, tuple) else value}")
    if found is not None:
        _print_efficiency(found)


def _measured(name: str, image_size: int) -> Efficiency:
    from medseg.benchmark.efficiency import measure

    typer.echo(f"measuring {name} at {image_size} px ...", err=True)
    return measure(name, image_size=image_size)


def _print_efficiency(found: Efficiency) -> None:
    def megabytes(value: float | None) -> str:
        return "not told by this system" if value is None else f"{value:,.0f} MB"

    forecast = found.training_forecast_mb
    batch = plural(found.batch_size, "image")
    typer.echo(f"\nmeasured on this CPU, one image of {found.image_size} x {found.image_size} px")
    typer.echo(f"  multiply-accumulates    {found.macs / 1e9:,.3f} G")
    typer.echo(
        f"  latency                 {found.latency_ms_median:,.1f} ms, median of {found.runs}; "
        f"IQR {found.latency_ms_iqr:,.1f} ms; {plural(found.threads, 'thread')}"
    )
    median, spread = found.onnx_latency_ms_median, found.onnx_latency_ms_iqr
    typer.echo(
        "  latency, ONNX Runtime   "
        + (f"{median:,.1f} ms; IQR {spread:,.1f} ms" if median is not None else found.onnx_note)
    )
    typer.echo(f"  peak of a prediction    {megabytes(found.inference_peak_mb)}")
    typer.echo(
        f"  peak of a training step {megabytes(found.training_peak_mb)}, {batch}"
        + ("" if forecast is None else f" (forecast {megabytes(forecast)})")
    )
    typer.echo("  memory is counted beyond what Python and PyTorch take")
