"""`medseg predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Device, Layout, MaxRam, NetworkOf, Trust


def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, a .medseg or an .onnx file.")],
    inputs: Annotated[
        list[str], typer.Argument(help="Images, folders, dataset folders, 'patterns*.png'.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks.")],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also draw contours into OUT/overlay.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write OUT/probabilities/NAME.npz.")
    ] = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over four flips: slower, a little better.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make masks again that are already there.")
    ] = False,
    max_ram: MaxRam = None,
    layout: Layout = "auto",
    engine: Annotated[
        str,
        typer.Option(
            help="torch, onnx, or auto: ONNX Runtime for an .onnx file and without PyTorch."
        ),
    ] = "auto",
    device: Device = "auto",
    trust: Trust = False,
    system: NetworkOf = None,
) -> None:
    """Write a mask per image, in the image's own size, with the training masks' values.

    The mask of a volume lies on the volume's own grid.

    Images already predicted are skipped. Unreadable ones are listed at the end; the exit code is
    then 1.

    **Examples**

        medseg predict runs/first photo.jpg -o masks

        medseg predict runs/first/model.medseg photos/ -o masks --overlay

        medseg predict model.onnx photos/ -o masks

        medseg predict runs/organs scan.nii.gz -o masks --max-ram 4GB
    """
    from typing import cast

    from rich.console import Console

    from medseg.engine.progress import counting_bar
    from medseg.errors import plural
    from medseg.inference.files import PredictOptions, predict_files
    from medseg.inference.limit import as_bytes
    from medseg.inference.predictor import Engine, load

    limit = as_bytes(max_ram)
    loaded = load(model, device=device, trust=trust, system=system, engine=cast(Engine, engine))
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("predicting", total=None)
        report = predict_files(
            loaded,
            inputs,
            output,
            options=PredictOptions(
                tta=tta, overlay=overlay, probabilities=probabilities, max_ram=limit
            ),
            layout=layout,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    skipped = f", {report.skipped} were there already" if report.skipped else ""
    typer.echo(f"{plural(report.written, 'mask')} written to {output}{skipped}")
    for path, reason in report.failed:
        typer.secho(f"not predicted: {path}: {reason}", fg=typer.colors.RED, err=True)
    if report.failed:
        raise typer.Exit(1)
