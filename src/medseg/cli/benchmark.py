"""``medseg benchmark``: systems by datasets by seeds under one protocol."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.options import Device

if TYPE_CHECKING:
    from medseg.benchmark.spec import Spec


def benchmark(
    spec: Annotated[
        Path | None, typer.Argument(help="A YAML file (docs/benchmark.md); options override it.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of results; named again, it goes on.")
    ] = Path("benchmark"),
    systems: Annotated[
        str | None,
        typer.Option(help="Names (`medseg systems list`) or .py files, with commas between."),
    ] = None,
    encoders: Annotated[
        bool,
        typer.Option(
            "--encoders",
            help="Add Med-2D SegNet and its variants with other blocks at the same parameters.",
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Datasets to train on: folders or registered names, with commas."),
    ] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Datasets on which every trained model is scored as it is.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="How many seeds, or which, with commas [3].")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side at which networks see images.")
    ] = None,
    folds: Annotated[
        bool,
        typer.Option("--folds", help="The i-th seed validates on the i-th fold; one test part."),
    ] = False,
    metrics: Annotated[
        str | None, typer.Option(help="Names of metrics, with commas [those of evaluate].")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="Compute metrics as another program does: monai, deepmind, nnunet, medpy, pranet."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any recipe key, for all systems.", metavar="KEY=VALUE"),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file of published numbers, to be shown beside the results; remembered."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Cells at a time [one for each GPU, else 1].")
    ] = None,
    device: Device = "auto",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep checkpoints and decoded images.")
    ] = False,
    cache_limit: Annotated[
        float, typer.Option(help="Gigabytes that decoded images may take.")
    ] = 20.0,
    no_report: Annotated[
        bool,
        typer.Option("--no-report", help="Do not measure costs, draw figures and write a page."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")
    ] = False,
) -> None:
    """Train every system on every dataset with every seed, and score them under one protocol.

    The split of a dataset is the same for all seeds; its test part is scored once for each cell,
    at the end. Finished cells are kept: the same command goes on after a stop. Exit code 1 when a
    cell failed; its error is in cells.csv.

    **Examples**

        medseg benchmark --systems unet-narrow,med2d-segnet --data photos/ --seeds 3 -o bench

        medseg benchmark --encoders --data photos/ --seeds 3 -o encoders

        medseg benchmark --systems unet,mynet.py --data a/,b/ --unseen a/,b/ --epochs 20 -o matrix

        medseg benchmark grid.yaml -o bench --dry-run

        medseg benchmark grid.yaml -o bench --workers 2 --compare published.yaml
    """
    from medseg.benchmark.pool import Stopped
    from medseg.benchmark.published import read_published
    from medseg.benchmark.runner import run
    from medseg.benchmark.spec import read_yaml
    from medseg.errors import MedsegError, plural

    if not 0 < cache_limit < float("inf"):
        raise MedsegError("--cache-limit", f"{cache_limit} is no size", "Give gigabytes, e.g. 20")
    values: dict[str, Any] = read_yaml(spec) if spec is not None else {}
    given: dict[str, Any] = {
        "systems": _with_encoders(_listed(systems)) if encoders else _listed(systems),
        "data": _listed(data),
        "unseen": _listed(unseen),
        "metrics": _listed(metrics),
        "seeds": _seeds(seeds),
        "folds": folds or None,
        "convention": convention,
    }
    missing = [key for key in ("systems", "data") if not given[key] and not values.get(key)]
    if missing:
        raise MedsegError(
            f"--{missing[0]}" if spec is None else f"{spec}: {missing[0]}",
            "there is nothing to run",
            "Give a SPEC.yaml, or --systems a,b --data X,Y",
        )
    where = "medseg benchmark" if spec is None else str(spec)
    own = spec is not None and spec.resolve() == (output / "spec.yaml").resolve()
    parsed = _parse(values, given, spec, where, not own, epochs, image_size, settings or [])
    if dry_run:
        if compare is not None:
            read_published(compare)
        _print_plan(parsed, output)
        return
    try:
        grid = run(
            parsed,
            output,
            published=compare,
            workers=workers,
            device=device,
            keep=keep,
            cache_limit=round(cache_limit * 1e9),
            report=not no_report,
        )
    except Stopped:
        again = f"medseg benchmark {quote(str(output / 'spec.yaml'))} -o {quote(str(output))}"
        typer.echo(f"Stopped; finished cells are kept. Go on with: {again}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"results   {output / 'results.csv'}")
    typer.echo(f"summary   {output / 'summary.json'}")
    if not no_report:
        typer.echo(f"report    {output / 'report' / 'index.html'}")
    if grid.failures:
        typer.echo(f"{plural(len(grid.failures), 'failure')}, listed in {output / 'cells.csv'}")
        raise typer.Exit(1)


def _parse(
    values: dict[str, Any],
    given: dict[str, Any],
    spec: Path | None,
    where: str,
    check_hashes: bool,
    epochs: int | None,
    image_size: int | None,
    settings: list[str],
) -> Spec:
    """The specification, where what is given on the command line wins."""
    from medseg.benchmark.spec import as_settings, parse_spec
    from medseg.errors import MedsegError

    merged = {**values, **{key: value for key, value in given.items() if value is not None}}
    added = [] if epochs is None else [f"train.epochs={epochs}"]
    added += [] if image_size is None else [f"data.image_size={image_size}"]
    if added or settings:
        before = as_settings(merged.get("set") or [])
        if not isinstance(before, list):
            raise MedsegError(f"{where}: set", f"{before!r} is no list", "Write set: {a.b: c}")
        merged["set"] = [*before, *added, *settings]
    base = spec.parent if spec is not None else None
    return parse_spec(merged, where=where, base=base, check_hashes=check_hashes)


def _with_encoders(systems: list[str] | None) -> list[str]:
    from medseg.systems import names

    variants = [name for name in names() if name.startswith("encoder-")]
    return list(dict.fromkeys([*(systems or []), "med2d-segnet", *variants]))


def _listed(text: str | None) -> list[str] | None:
    """Names between commas; what exists as a path is relative to the current folder."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [str(Path(name).absolute()) if Path(name).exists() else name for name in names]


def _seeds(text: str | None) -> int | list[int] | None:
    from medseg.errors import MedsegError

    if text is None:
        return None
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        raise MedsegError(
            "--seeds", f"{text!r} is no number of seeds", "Write 3, or e.g. 0,1,2"
        ) from None
    return numbers if "," in text else numbers[0]


def _print_plan(spec: Spec, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from medseg.benchmark.grid import cells_of
    from medseg.data.layouts import open_dataset
    from medseg.errors import MedsegError, plural

    def labelled(entry: Any) -> str:
        try:
            dataset = open_dataset(entry.place, layout=entry.layout)
        except MedsegError as error:
            return f"cannot be used: {error}"
        return plural(sum(case.mask is not None for case in dataset.cases), "labelled case")

    cells = cells_of(spec, output)
    table = Table("system", "parameters", *(entry.name for entry in spec.data))
    for system in spec.systems:
        mine = [cell for cell in cells if cell.system.name == system.name]
        counts = []
        for entry in spec.data:
            of_data = [cell for cell in mine if cell.data.name == entry.name]
            done = sum(cell.finished for cell in of_data)
            counts.append(f"{len(of_data)} seeds" + (f", {done} done" if done else ""))
        table.add_row(system.name, f"{_parameters(spec, system):,}", *counts)
    console = Console()
    console.print(table)
    for kind, entries in (("data", spec.data), ("unseen", spec.unseen)):
        for entry in entries:
            console.print(
                f"{kind}: {entry.name}, {labelled(entry)} ({entry.path})",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
    done = sum(cell.finished for cell in cells)
    trained = len(cells) - done
    scored = trained * (1 + len(spec.unseen))
    typer.echo(
        f"{plural(len(cells), 'cell')}: {trained} to train, {done} finished before; "
        f"about {plural(scored, 'scoring')}"
    )


def _parameters(spec: Spec, system: Any) -> int:
    """For colour images and one class."""
    from medseg.models import create_model
    from medseg.nn.blocks import count_parameters

    return count_parameters(create_model(system.system, **spec.recipe(system).network))
