"""`medseg data catalogue`, `medseg data add` and `medseg data remove`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import AsJson, Layout

if TYPE_CHECKING:
    from medseg.data.catalogue.compare import Finding
    from medseg.data.catalogue.entry import Entry
    from medseg.data.registry import Registration

app = typer.Typer(help="Public datasets: what they hold, their terms, and where to get them.")

Name = Annotated[str, typer.Argument(help="As in `medseg data catalogue list`.")]


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(
    modality: Annotated[
        str | None, typer.Option(help="Only these, e.g. ultrasound (part of the word is enough).")
    ] = None,
    organ: Annotated[str | None, typer.Option(help="Only these, e.g. skin.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the public datasets that medseg knows, and which of them are registered here.

    A number with a question mark could not be verified.

    **Examples**

        medseg data catalogue list

        medseg data catalogue list --modality ultrasound

        medseg data catalogue list --organ colon --json
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medseg.data import catalogue, registry

    entries = [catalogue.load_entry(name) for name in catalogue.names()]
    chosen = [e for e in entries if _matches(e.modality, modality) and _matches(e.organ, organ)]
    registered = registry.registrations()
    if not chosen:
        raise _nothing_found(entries, modality, organ)
    if as_json:
        typer.echo(
            json.dumps([_as_json(e, registered) for e in chosen], indent=1, ensure_ascii=False)
        )
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "modality", "organ", "labelled", "classes", "licence", "here"):
        table.add_column(
            column, overflow="fold", justify="right" if column == "labelled" else "left"
        )
    for entry in chosen:
        here = "yes" if entry.name in registered else ""
        cells = (
            entry.name,
            entry.modality,
            entry.organ,
            _count(entry),
            _classes(entry) + _doubt(entry, "labels"),
            entry.licence + _doubt(entry, "licence"),
            here,
        )
        table.add_row(*map(Text, cells))
    console = Console()
    console.print(table)
    own = [each for each in registered.values() if not each.entry]
    for each in own:
        console.print(Text(f"{each.name}: your own, in {each.folder}"))
    typer.echo(
        f"{len(chosen)} datasets, {sum(e.name in registered for e in chosen)} registered here; "
        "? = unverified. More: medseg data catalogue show NAME"
    )


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show all that is known of a public dataset: content, terms, split, flaws, how to get it.

    **Example**

        medseg data catalogue show kvasir-seg
    """
    from medseg.data import catalogue, registry

    entry = catalogue.load_entry(name)
    registered = registry.registrations()
    if as_json:
        typer.echo(json.dumps(_as_json(entry, registered), indent=1, ensure_ascii=False))
        return
    typer.echo(f"{entry.name}: {entry.title}\n{_sentence(entry.summary)}\n")
    for key, value in _facts(entry):
        if value:
            typer.echo(f"{key:12}{value}")
    cited = entry.citation
    typer.echo(
        f"{'cite':12}{cited.authors} ({cited.year}). {_sentence(cited.title)} {cited.venue}. "
        f"{cited.link}"
        f"{_said(entry, 'citation')}"
    )
    lines = (
        ("to get it", entry.steps),
        ("mind", entry.notes),
        ("read in", entry.sources),
        ("unverified", entry.unverified),
    )
    for title, items in lines:
        if items:
            typer.echo(f"\n{title}")
            for item in items:
                typer.echo(f"  - {item}")
    typer.echo("")
    if name in registered:
        mine = registered[name]
        typer.echo(f"registered  {mine.folder}")
        for difference in mine.differences:
            typer.echo(f"  - {difference}")
    else:
        typer.echo(f"then        medseg data add {name} FOLDER")


def add(
    name: Annotated[
        str, typer.Argument(help="A name of `medseg data catalogue list`, or one of your own.")
    ],
    folder: Annotated[Path, typer.Argument(help="Your copy, or your own dataset.")],
    layout: Layout = "auto",
    group_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression for the patient in a case id [the catalogue's]."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Register a copy that differs from what was published.")
    ] = False,
) -> None:
    """Register a dataset under a name, after which `medseg train NAME` works.

    A copy of a public dataset is read once and compared with the catalogue: layout, number of
    images, sizes, classes, published split. One that differs is refused; `--force` registers it
    with its differences, which are then said wherever it is used. A name that is not in the
    catalogue is taken for a dataset of your own. Nothing is copied or moved.

    **Examples**

        medseg data add kvasir-seg downloads/Kvasir-SEG

        medseg data add busi downloads/half_of_busi --force

        medseg data add my-scans scans/ --group-pattern 'patient\\d+'
    """
    from shlex import quote

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medseg.data import catalogue, registry
    from medseg.data.catalogue.compare import compare
    from medseg.engine.progress import counting_bar
    from medseg.errors import DataError, plural

    registry.check_name(name)
    if not folder.exists():
        raise DataError(folder, "does not exist", "Name the folder with your copy")
    if name not in catalogue.names():
        _add_own(name, folder, layout, group_pattern)
        return
    entry = catalogue.load_entry(name)
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("checking", total=None)
        compared = compare(
            entry,
            folder,
            layout=layout,
            group_pattern=group_pattern,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    table = Table("", "published", "this copy", "", show_lines=True)
    for finding in compared.findings:
        table.add_row(*map(Text, (finding.what, finding.published or "unknown", finding.found)),
                      _verdict(finding))  # fmt: skip
    Console().print(table)
    differences = compared.registration.differences
    if any(finding.verdict == "differs" for finding in compared.findings) and not force:
        raise DataError(
            folder,
            f"differs from the published {entry.title} in {plural(len(differences), 'point')}:\n  "
            + "\n  ".join(differences),
            f"\nComplete the copy, or register it as it is: "
            f"medseg data add {name} {quote(str(folder))} --force",
        )
    registry.register(compared.registration)
    kept = f" with {plural(len(differences), 'difference')}" if differences else ""
    typer.echo(f"registered {name}{kept}: {compared.registration.folder}")
    for difference in differences:
        typer.echo(f"  - {difference}")
    typer.echo(
        f"licence    {entry.licence} ({entry.licence_url}){_said(entry, 'licence', 'licence_url')}"
    )
    typer.echo(f"next       medseg train {name}")


def remove(
    name: Annotated[str, typer.Argument(help="A registered name.")],
) -> None:
    """Forget a registered dataset. Its files are not touched.

    **Example**

        medseg data remove kvasir-seg
    """
    from medseg.data import registry

    gone = registry.remove(name)
    typer.echo(f"{name} is forgotten; its files in {gone.folder} are untouched")


def _add_own(name: str, folder: Path, layout: str, group_pattern: str | None) -> None:
    import os

    from medseg.data import registry
    from medseg.data.layouts import open_dataset
    from medseg.errors import plural

    folder = Path(os.path.abspath(folder))
    dataset = open_dataset(folder, layout=layout, group_pattern=group_pattern)
    registry.register(registry.Registration(name, folder, False, layout, group_pattern))
    hint = registry.suggestion(name)
    typer.echo(
        f"registered {name}: {folder}, {plural(len(dataset.cases), 'case')} ({dataset.layout})"
    )
    typer.echo(f"{name} is not in the catalogue, so nothing was compared. {hint}".rstrip())
    typer.echo(f"next       medseg data check {name}")


def _nothing_found(entries: list[Entry], modality: str | None, organ: str | None) -> Exception:
    from medseg.errors import MedsegError

    given = {"--modality": modality, "--organ": organ}
    modalities = ", ".join(sorted({entry.modality for entry in entries}))
    organs = ", ".join(sorted({entry.organ for entry in entries}))
    return MedsegError(
        " ".join(f"{option} {value}" for option, value in given.items() if value),
        "no dataset of the catalogue has it",
        f"Modalities: {modalities}. Organs: {organs}",
    )


def _matches(value: str, wanted: str | None) -> bool:
    return wanted is None or wanted.lower() in value.lower()


def _count(entry: Entry) -> str:
    if entry.images is None:
        return "?"
    unit = " vol." if entry.unit == "volumes" else ""
    return f"{entry.images:,}{unit}{_doubt(entry, 'images')}"


def _classes(entry: Entry) -> str:
    names = [label.name for label in entry.labels[1:]]
    return ", ".join(names) if len(names) < 5 else f"{len(names)}, e.g. {names[0]}"


def _doubt(entry: Entry, field: str) -> str:
    return " ?" if field in entry.unverified else ""


def _said(entry: Entry, *fields: str) -> str:
    return " (unverified)" if any(field in entry.unverified for field in fields) else ""


def _facts(entry: Entry) -> list[tuple[str, str]]:
    labels = ", ".join(
        f"{label.name} = {f'#{label.value:06x}' if entry.rgb else label.value}"
        for label in entry.labels
    )
    if entry.objects:
        labels = f"{entry.labels[1].name} (masks number the objects; all but 0 are read as one)"
    images = "unknown" if entry.images is None else f"{entry.images:,} labelled {entry.unit}"
    patients = "" if entry.patients is None else f"{entry.patients:,}"
    split = "none published of the labelled ones"
    if entry.split is not None:
        split, counts = entry.split.rule, entry.split.parts
        if not all(str(count) in split for count in counts.values()):
            said = ", ".join(f"{count} {part}" for part, count in counts.items())
            split = f"{said}: {split}"
    grouped = f"'{entry.group_pattern}' in the case id" if entry.group_pattern else ""
    return [
        ("modality", entry.modality),
        ("organ", entry.organ),
        ("labels", labels + _said(entry, "labels")),
        ("images", images + _said(entry, "images")),
        ("patients", patients + _said(entry, "patients") if patients else ""),
        ("grouped by", grouped),
        ("pixels", entry.size + _said(entry, "widths", "heights") if entry.size else ""),
        ("split", split + _said(entry, "split")),
        ("licence", f"{entry.licence}{_said(entry, 'licence')}, {entry.licence_url}"),
        ("from", entry.url + _said(entry, "url")),
        ("layout", entry.layout),
    ]


def _as_json(entry: Entry, registered: Mapping[str, Registration]) -> dict[str, object]:
    here = registered.get(entry.name)
    return {
        **asdict(entry),
        "registered": None
        if here is None
        else {"folder": str(here.folder), "differences": list(here.differences)},
    }


def _verdict(finding: Finding) -> str:
    return {
        "same": "[green]same[/]",
        "differs": "[red]differs[/]",
        "unsure": "[yellow]differs from what is unverified[/]",
        "noted": "",
    }[finding.verdict]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}" + ("" if text.endswith("?") else ".")
