"""`medseg train`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

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
    from medseg.report.run import write_run_report

    report, evaluation = write_run_report(run.folder, data, device=device)
    if evaluation.note.startswith("Leak"):
        typer.echo(evaluation.note)
    epochs_done = plural(run.epochs, "epoch")
    typer.echo(f"validation Dice {run.val_dice:.4f} after {epochs_done} (at network size)")
    typer.echo(f"report    {report}")
    typer.echo(f"model     {run.bundle}")
    name = run.recipe.system
    network = f" --system {quote(name)}" if name.endswith(".py") else ""
    folder = quote(str(run.folder))
    typer.echo(f"next      medseg predict {folder} IMAGES -o masks --overlay{network}")
    typer.echo(f"          medseg evaluate {quote(str(data))} {folder}{network}")
    typer.echo("          (opens the test part: once, at the end)")
