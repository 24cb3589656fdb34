"""``medseg evaluate``: score predictions against the truth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.options import Device, Layout, MaxRam, NetworkOf

if TYPE_CHECKING:
    from rich.console import Console

    from medseg.interactions import Interactions


class WhichPart(StrEnum):
    """`medseg.scoring.Part` as a command-line choice."""

    AUTO = "auto"
    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    ALL = "all"


class Whose(StrEnum):
    """The names of `medseg.metrics.conventions.CONVENTIONS` as a command-line choice."""

    DEFAULT = "default"
    MONAI = "monai"
    DEEPMIND = "deepmind"
    NNUNET = "nnunet"
    MEDPY = "medpy"
    PRANET = "pranet"


class Pointing(StrEnum):
    """`medseg.interactions.Way` as a command-line choice."""

    POINT = "point"
    BOX = "box"
    SCRIBBLE = "scribble"


class Policy(StrEnum):
    """`medseg.metrics.overlap.EmptyPolicy` as a command-line choice."""

    ONE = "one"
    ZERO = "zero"
    SKIP = "skip"


def evaluate(
    truth: Annotated[
        Path,
        typer.Argument(help="A folder of true masks, or a dataset (its folder or manifest)."),
    ],
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A folder of predicted masks, named like the images or true masks; or a run, a "
            ".medseg file or a name of `medseg models list`, which then predicts TRUTH first."
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--output", help="Write a report: .html, .json or .csv. May be repeated."
        ),
    ] = None,
    empty_policy: Annotated[
        Policy,
        typer.Option(
            help="What a case is worth where truth and prediction of a class are both empty: "
            "one, zero, or skip it in the mean (it is counted)."
        ),
    ] = Policy.ONE,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names of docs/metrics.md, e.g. dice,hd95,cldice,pq,ece "
            "[dice,iou,precision,recall,specificity,hd95,assd,nsd]; all: without probabilities.",
            metavar="NAMES",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Of the surface Dice (nsd): mm, or pixels without a spacing.")
    ] = 2.0,
    convention: Annotated[
        Whose,
        typer.Option(
            help="Compute the metrics as this program does, to compare with its tables; "
            "docs/metrics.md says what differs. pranet needs probabilities."
        ),
    ] = Whose.DEFAULT,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances",
            help="Masks number their objects (0: background), so that objects that touch are "
            "several: adds aji, pq, ap ... by these numbers. Known of registered datasets.",
        ),
    ] = False,
    part: Annotated[
        WhichPart,
        typer.Option(
            help="For a run: the part of its split to score. auto: the test part of its own data, "
            "all cases of other data."
        ),
    ] = WhichPart.AUTO,
    masks: Annotated[
        Path | None, typer.Option(help="For a model: keep its masks in this folder.")
    ] = None,
    explain: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="For a model, in .html reports: heat maps of what the network looked at, with "
            "their scores, for N of the worst, median and best cases.",
        ),
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="For a model: average over flips.")] = False,
    max_ram: MaxRam = None,
    interactions: Annotated[
        int | None,
        typer.Option(
            help="For a model that takes prompts: let a simulated person point so many times at "
            "each structure, and score every answer; -o then takes .csv, .json, .svg or .png."
        ),
    ] = None,
    by: Annotated[
        Pointing, typer.Option(help="With --interactions: how the person points; box once.")
    ] = Pointing.POINT,
    layout: Layout = "auto",
    group_pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression for the patient in a case id; intervals then resample "
            "patients [that of the model's recipe, on its own data]."
        ),
    ] = None,
    device: Device = "auto",
    system: NetworkOf = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Compare the groups of this column of TRUTH's manifest, e.g. sex. May be "
            "repeated. Columns called `group` or `group:NAME` are compared anyway.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that read and score masks; the scores are the same [from 1000 masks "
            "on one for each core]."
        ),
    ] = None,
) -> None:
    """Score predicted masks, or a model, against the true masks.

    Prints overlaps and surface distances per class, each with its 95 % bootstrap interval. A case
    without a usable prediction is named and takes the worst score, never left out; the exit code
    stays 0, because the evaluation itself succeeded. Where the manifest tells groups of patients,
    they are compared: each group's mean, the worst group, and equity-scaled Dice and IoU.

    **Examples**

        medseg evaluate data/test predictions

        medseg evaluate truth_masks predicted_masks -o report.html -o scores.csv

        medseg evaluate data runs/first -o test.html --explain 3

        medseg evaluate other_hospital runs/first -o elsewhere.html

        medseg evaluate numbered_nuclei predictions --instances

        medseg evaluate data runs/first --attribute sex --attribute device

        medseg evaluate data runs/clicks --interactions 10 -o clicks.csv -o clicks.svg
    """
    from rich.console import Console

    from medseg.engine.progress import counting_bar
    from medseg.errors import MedsegError
    from medseg.inference.bundle import find_bundle, read_manifest
    from medseg.metrics.evaluation import REPORT_SUFFIXES
    from medseg.report.terminal import render
    from medseg.scoring import evaluate as score
    from medseg.scoring import is_model

    if interactions is not None:
        _refuse(
            metrics=metrics is not None, masks=masks is not None, tta=tta,
            explain=explain is not None, attribute=bool(attribute),
            instances=instances, max_ram=max_ram is not None, workers=workers is not None,
            empty_policy=empty_policy is not Policy.ONE, convention=convention is not Whose.DEFAULT,
            tolerance=tolerance != 2.0,
        )  # fmt: skip
        _interact(
            output or [],
            truth=truth,
            model=predictions,
            interactions=interactions,
            way=by.value,
            part=part.value,
            layout=layout,
            group_pattern=group_pattern,
            device=device,
            system=system,
            seed=seed,
        )
        return
    if by is not Pointing.POINT:
        raise MedsegError(f"--by {by.value}", "it is for --interactions", "Add --interactions 10")
    for path in output or []:
        if path.suffix.lower() not in REPORT_SUFFIXES:
            raise MedsegError(
                path, f"'{path.suffix}' is not a report format", "Use .html, .json or .csv"
            )
    pages = [path for path in output or [] if path.suffix.lower() == ".html"]
    if explain and not is_model(predictions):
        raise MedsegError("--explain", "masks cannot be explained", "Give a run instead of masks")
    if explain and not pages:
        raise MedsegError("--explain", "there is no report to show it in", "Add -o report.html")
    if explain and read_manifest(find_bundle(predictions)).volume is not None:
        raise MedsegError(
            "--explain", "it is for models of pictures", "Leave it out, and use `medseg explain`"
        )
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("scoring", total=None)
        result = score(
            truth,
            predictions,
            part=part.value,
            layout=layout,
            group_pattern=group_pattern,
            masks=masks,
            tta=tta,
            max_ram=max_ram,
            device=device,
            system=system,
            empty_policy=empty_policy.value,
            metrics=_chosen(metrics, instances),
            tolerance=tolerance,
            convention=convention.value,
            seed=seed,
            instances=instances,
            attributes=attribute or (),
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    explained = []
    if explain:
        from medseg.explain.explanation import Explainer
        from medseg.inference.network import load_network
        from medseg.report.explained import explain_cases

        explainer = Explainer(load_network(predictions, device=device, system=system))
        with counting_bar(Console(stderr=True)) as bar:
            task = bar.add_task("explaining", total=None)
            explained = explain_cases(
                explainer,
                result,
                explain,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    console = Console()
    # Whoever reads the scores may stop reading, and a report may not be written: neither may cost
    # the other.
    try:
        for path in output or []:
            result.save(path, explained=explained if path in pages else ())
    finally:
        console.print(render(result))
    for path in output or []:
        console.print(f"Wrote {path}", markup=False, highlight=False)


def _refuse(**given: bool) -> None:
    """Refuse what scores of masks alone know."""
    from medseg.errors import MedsegError

    for name, there in given.items():
        if there:
            raise MedsegError(
                f"--{name.replace('_', '-')}", "with --interactions there is Dice alone",
                "Leave one of them out",
            )  # fmt: skip


def _interact(output: list[Path], **options: Any) -> None:
    """Measure, print and write Dice over interactions."""
    from rich.console import Console

    from medseg.engine.progress import counting_bar
    from medseg.interactions import check_suffix, measure_interactions

    for path in output:
        check_suffix(path)
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("interacting", total=None)
        found = measure_interactions(
            **options,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console = Console()
    try:
        for path in output:
            found.save(path)
    finally:
        _print_courses(console, found)
    for path in output:
        console.print(f"Wrote {path}", markup=False, highlight=False)


def _print_courses(console: Console, found: Interactions) -> None:
    """Dice after each interaction, and how many it takes to reach some."""
    from rich.table import Table

    from medseg.interactions import REACHED

    table = Table("interactions", "Dice", "95 % interval", title=found.truth, title_justify="left")
    for n, mean in enumerate(found.means(), 1):
        assert mean.mean is not None
        interval = "" if mean.low is None else f"{mean.low:.4f} to {mean.high:.4f}"
        table.add_row(str(n), f"{mean.mean:.4f}", interval)
    console.print(table)
    for dice in REACHED:
        needed, never = found.needed(dice)
        console.print(
            f"Dice {dice}: {needed:.2f} interactions on average; {never} of "
            f"{len(found.courses)} structures do not reach it and count as {found.count + 1}",
            highlight=False,
        )
    if found.note:
        console.print(found.note, markup=False, highlight=False)


def _chosen(names: str | None, instances: bool) -> tuple[str, ...]:
    from medseg.metrics.numbered import INSTANCE_METRICS
    from medseg.metrics.panel import DEFAULT_METRICS, METRICS

    if names is None:
        return INSTANCE_METRICS if instances else DEFAULT_METRICS
    if names == "all":
        return tuple(name for name, metric in METRICS.items() if not metric.graded)
    return tuple(filter(None, (name.strip() for name in names.split(","))))
