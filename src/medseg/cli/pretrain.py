"""`medseg pretrain`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from medseg.cli.options import A_DATASET, Device, Settings, System


def pretrain(
    data: Annotated[
        list[Path], typer.Argument(help=f"{A_DATASET} Several are pooled.", metavar="DATA...")
    ],
    system: System = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run's folder [runs/pretrained-SYSTEM]."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over all images [from their number].")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side at which the network sees images [256].")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of splits, weights, order and what is hidden [0].")
    ] = None,
    split: Annotated[
        list[Path] | None,
        typer.Option(help="A CSV of `medseg data split` for each DATA [drawn by seed]."),
    ] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o.")] = False,
    settings: Settings = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where decoded images are kept [RUN/cache].")
    ] = None,
) -> None:
    """Learn from the images of training parts, without their masks; leaves weights to start from.

    Parts of the images are hidden, and the network learns to fill them in. Validation parts choose
    the epoch; test parts are not looked at. Train with the same splits afterwards: `medseg train
    DATA --init RUN`.

    **Examples**

        medseg pretrain photos/ scans/ -o runs/start

        medseg train photos/ --init runs/start
    """
    from medseg.engine.loop import Interrupted
    from medseg.engine.pretrain import pretrain as run_training
    from medseg.engine.train import is_leader

    try:
        run = run_training(
            data,
            system=system,
            output=output,
            epochs=epochs,
            image_size=image_size,
            batch_size=batch_size,
            seed=seed,
            splits=split or (),
            settings=settings or (),
            device=device,
            resume=resume,
            cache_dir=cache_dir,
        )
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(130) from None
    if is_leader():
        typer.echo(f"restored  {run.val_dice:.4f} (1: all that was hidden, 0.5: nothing)")
        typer.echo(f"model     {run.bundle}")
        typer.echo(f"next      medseg train DATA --init {quote(str(run.folder))}")
