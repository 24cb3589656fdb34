"""`medseg data plan`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import (
    AsJson,
    Data,
    Device,
    GroupPattern,
    Layout,
    Settings,
    SplitFile,
    System,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from medseg.data.fingerprint import Fingerprint
    from medseg.data.volumes.fingerprint import VolumeFingerprint
    from medseg.engine.plan import Plan


def plan(
    data: Data,
    system: System = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan as JSON.")
    ] = None,
    as_json: AsJson = False,
    device: Device = "auto",
    split: SplitFile = None,
    group_pattern: GroupPattern = None,
    layout: Layout = "auto",
    allow_leak: Annotated[bool, typer.Option("--allow-leak", help="As in `medseg train`.")] = False,
    settings: Settings = None,
) -> None:
    """Show what `medseg train` would choose for a dataset on this machine, and why.

    Prints what the training images, masks and objects are like, every choice with its reason, and
    how much memory a training will take. `medseg train` follows the same plan and keeps it as
    `plan.json` in its run; `--set KEY=VALUE` overrides any line, here and there.

    **Examples**

        medseg data plan photos/

        medseg data plan photos/ --system unet -o plan.json

        medseg data plan photos/ --set data.image_size=512 --json
    """
    from rich.console import Console

    from medseg.engine.train import plan_training

    made = plan_training(
        data,
        system=system,
        group_pattern=group_pattern,
        layout=None if layout == "auto" else layout,
        split=split,
        allow_leak=allow_leak or None,
        settings=settings or (),
        device=device,
    )
    if output is not None:
        made.save(output)
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=1, ensure_ascii=False))
        return
    console = Console()
    for shown in render(made):
        console.print(shown)


def render(made: Plan) -> list[RenderableType]:
    """The plan as tables: the data, the classes, the choices."""
    from medseg.data.volumes.fingerprint import VolumeFingerprint

    if isinstance(made.fingerprint, VolumeFingerprint):
        return [
            _volumes(made.fingerprint),
            _classes_of_volumes(made.fingerprint),
            _choices(made),
        ]
    return [_data(made.fingerprint), _classes(made, made.fingerprint), _choices(made)]


def _volumes(found: VolumeFingerprint) -> Table:
    from rich.table import Table
    from rich.text import Text

    lines = {
        "volumes": f"{found.cases}, of which {found.labelled} labelled and {found.training} to "
        "train on",
        "patients": "unknown" if found.patients is None else str(found.patients),
        "plane": found.plane or "unknown",
    }
    names = ("slices", "rows", "columns")
    for name, sides in zip(names, zip(*found.shapes, strict=True), strict=True):
        lines[name] = _range(min(sides), statistics.median(sides), max(sides), "")
    for name, mm in zip(names, zip(*(found.spacings or ()), strict=True), strict=False):
        lines[f"{name} apart"] = _range(min(mm), statistics.median(mm), max(mm), " mm", digits=2)
    for number, each in enumerate(found.intensities, start=1):
        lines[f"channel {number}"] = (
            f"structures: mean {each.mean:.4g}, SD {each.std:.4g}, 0.5 % {each.low:.4g}, "
            f"99.5 % {each.high:.4g}; smallest value {each.smallest:.4g}"
        )
    table = Table("", "training volumes (volumes: all)", title="Data", title_justify="left")
    for name, text in lines.items():
        table.add_row(name, Text(text))
    if found.looked_at < found.training:
        table.caption = f"Intensities and classes: {found.looked_at} of the training volumes"
    return table


def _classes_of_volumes(found: VolumeFingerprint) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "class", "voxels", "volumes", title="Classes in the training masks", title_justify="left"
    )
    for facts in found.classes:
        table.add_row(
            Text(facts.name),
            f"{100 * facts.voxel_share:.2g} %",
            f"{100 * facts.volume_share:.0f} %",
        )
    return table


def _data(found: Fingerprint) -> Table:
    from rich.table import Table
    from rich.text import Text

    published = ", ".join(f"{count} {part}" for part, count in found.published.items())
    lines = {
        "cases": f"{found.cases}, of which {found.labelled} labelled and {found.training} to "
        "train on",
        "patients": "unknown" if found.patients is None else str(found.patients),
        "published split": published or "none",
        "width": _range(found.width.smallest, found.width.median, found.width.largest, " px"),
        "height": _range(found.height.smallest, found.height.median, found.height.largest, " px"),
        "width / height": _range(
            found.aspect.smallest, found.aspect.median, found.aspect.largest, "", digits=2
        ),
    }
    if found.spacing is not None:
        across, row, column = found.spacing
        lines["spacing"] = f"{row:.3g} x {column:.3g} mm, slices {across:.3g} mm apart"
    for number, each in enumerate(found.intensities, start=1):
        first, _, middle, _, last = each.percentiles
        lines[f"channel {number}"] = (
            f"mean {each.mean:.1f}, SD {each.sd:.1f}, median {middle:.0f}, 1 % {first:.0f}, "
            f"99 % {last:.0f} of 255"
        )
    table = Table("", "training images (cases: all)", title="Data", title_justify="left")
    for name, text in lines.items():
        table.add_row(name, Text(text))
    if found.looked_at < found.training:
        table.caption = (
            f"Intensities, objects and resizing: {found.looked_at} of the training cases, evenly "
            "spread"
        )
    return table


def _range(smallest: float, median: float, largest: float, unit: str, digits: int = 0) -> str:
    if smallest == largest:
        return f"{median:.{digits}f}{unit}"
    return f"{smallest:.{digits}f} to {largest:.{digits}f}{unit}, median {median:.{digits}f}{unit}"


def _classes(made: Plan, found: Fingerprint) -> Table:
    from rich.table import Table
    from rich.text import Text

    size = made.recipe.data.pixels
    table = Table(
        "class", "pixels", "cases", "objects", "across, px", f"at {size} px", "Dice kept",
        title="Classes in the training masks", title_justify="left",
        caption="Across: diameter of a circle of equal area, of the smallest 5 %, the median and "
        "the largest 5 % of objects. Dice kept: by masks resized to a size and back.",
    )  # fmt: skip
    for facts in found.classes:
        objects = facts.objects
        specks = f" + {objects.specks} specks" if objects.specks else ""
        table.add_row(
            Text(facts.name),
            f"{100 * facts.pixel_share:.2g} %",
            f"{100 * facts.case_share:.0f} %",
            f"{objects.count}{specks}",
            " ".join(f"{value:.0f}" for value in objects.diameter),
            " ".join(f"{size * value:.0f}" for value in objects.share),
            "\n".join(f"{dice:.2f} at {pixels}" for pixels, dice in facts.kept.items()),
        )
    return table


def _choices(made: Plan) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("key", "value", "why", title="Plan", title_justify="left")
    for key, choice in made.choices.items():
        table.add_row(key, Text(str(choice.value)), Text(choice.reason))
    table.add_row(
        "memory",
        Text(made.memory),
        "on CPUs, forecasts were within a quarter of what was measured"
        if made.device == "cpu"
        else "not compared with a measurement on such a device",
    )
    return table
