"""`medseg train`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import (
    Data,
    Device,
    GroupPattern,
    Layout,
    Settings,
    SplitFile,
    System,
)

if TYPE_CHECKING:
    from medseg.engine.run import Run
    from medseg.interactions import Interactions


def train(
    data: Data,
    system: System = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder [runs/DATA-SYSTEM].")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training part [from its size].")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pixels a side at which the network sees images [from the data]."),
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Images per step, or auto [auto].", metavar="INT|auto")
    ] = None,
    device: Device = "auto",
    fold: Annotated[
        int | None,
        typer.Option(help="Validate on this fold, from 0: a published one, else one of 5."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of split, weights, order and augmentation [0].")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without improvement.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16 [auto].")] = None,
    group_pattern: GroupPattern = None,
    layout: Layout = "auto",
    split: SplitFile = None,
    allow_leak: Annotated[
        bool,
        typer.Option(
            "--allow-leak",
            help="Train although a patient or alike images stand on both sides of the split; "
            "every report begins with it.",
        ),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from the weights of this model: a run, a .medseg file or a name of "
            "`medseg models list`.",
            metavar="MODEL",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o.")] = False,
    settings: Settings = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where decoded images are kept [RUN/cache].")
    ] = None,
    cache_limit: Annotated[
        float, typer.Option(help="Gigabytes that the cache folder may take.")
    ] = 20.0,
) -> None:
    """Train a system on images and masks; leaves a run folder with model, scores and report.

    The test part is set aside and not looked at; score it once, at the end, with
    `medseg evaluate DATA RUN`.

    **Examples**

        medseg train photos/

        medseg train photos/ -o runs/first --epochs 50 --image-size 128

        medseg train photos/ --system unet-narrow --set network.norm=group

        medseg train photos/ --init polyp

        medseg train photos/ -o runs/first --resume

        python -m torch.distributed.run --nproc_per_node 2 -m medseg train photos/ -o runs/two
    """
    from medseg.engine.loop import Interrupted
    from medseg.engine.train import is_leader
    from medseg.engine.train import train as run_training
    from medseg.errors import MedsegError, plural

    if not 0 < cache_limit < float("inf"):
        raise MedsegError("--cache-limit", f"{cache_limit} is no size", "Give gigabytes, e.g. 20")
    try:
        run = run_training(
            data,
            system=system,
            output=output,
            epochs=epochs,
            image_size=image_size,
            batch_size=int(batch_size) if batch_size and batch_size.isdigit() else batch_size,
            fold=fold,
            seed=seed,
            patience=patience,
            precision=precision,
            group_pattern=group_pattern,
            layout=None if layout == "auto" else layout,
            split=split,
            allow_leak=allow_leak or None,
            init=init,
            settings=settings or (),
            device=device,
            resume=resume,
            cache_dir=cache_dir,
            cache_limit=round(cache_limit * 1e9),
        )
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(130) from None
    if not is_leader():
        return
    from medseg.inference.bundle import read_manifest
    from medseg.report.run import write_interactions, write_run_report

    if read_manifest(run.bundle).must_be_pointed:
        figure, found = write_interactions(run.folder, data, device=device)
        _say_interactions(run, data, figure, found)
        return
    report, evaluation = write_run_report(run.folder, data, device=device)
    if evaluation.note.startswith("Leak"):
        typer.echo(evaluation.note)
    epochs_done = plural(run.epochs, "epoch")
    typer.echo(f"validation Dice {run.val_dice:.4f} after {epochs_done} (at network size)")
    typer.echo(f"report    {report}")
    typer.echo(f"model     {run.bundle}")
    network = _network_option(run)
    folder = quote(str(run.folder))
    typer.echo(f"next      medseg predict {folder} IMAGES -o masks --overlay{network}")
    typer.echo(f"          medseg evaluate {quote(str(data))} {folder}{network}")
    typer.echo("          (opens the test part: once, at the end)")


def _network_option(run: Run) -> str:
    """What names the network where only its file does."""
    name = run.recipe.system
    return f" --system {quote(name)}" if name.endswith(".py") else ""


def _say_interactions(run: Run, data: Path, figure: Path, found: Interactions) -> None:
    if found.note.startswith("Leak"):
        typer.echo(found.note)
    first, *_, last = found.means()
    assert first.mean is not None
    assert last.mean is not None
    typer.echo(
        f"validation Dice {first.mean:.4f} after a click, {last.mean:.4f} after {found.count}"
    )
    typer.echo(f"figure    {figure}")
    typer.echo(f"model     {run.bundle}")
    folder, network = quote(str(run.folder)), _network_option(run)
    typer.echo(f"next      medseg predict {folder} IMAGE -o masks --point X,Y{network}")
    typer.echo(f"          medseg evaluate {quote(str(data))} {folder} --interactions 10{network}")
    typer.echo("          (opens the test part: once, at the end)")
