"""`medseg explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Device, Layout, NetworkOf, Trust


def explain(
    model: Annotated[
        Path,
        typer.Argument(help="A run folder, a .medseg file, or a name of `medseg models list`."),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Images, folders, dataset folders, 'patterns*.png'."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for pictures and scores.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="seg-grad-cam, grad-cam++, integrated-gradients or occlusion."),
    ] = "seg-grad-cam",
    layer: Annotated[
        str | None,
        typer.Option(
            help="Of the two CAM methods; 'list' prints them. [default: the last stage at half of "
            "the image's size or less]"
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Class to explain. [default: the one with most predicted pixels]"),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="x,y,width,height in pixels: explain the class in all of this box."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="x,y in pixels: explain only the predicted structure there."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Points of integrated-gradients [32]; patches along a side of occlusion [12].",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="True masks (folder or dataset): score the maps against them too."),
    ] = None,
    save_maps: Annotated[
        bool, typer.Option("--save-maps", help="Also write OUT/maps/NAME.npz.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Explain again what is there already.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random controls.")] = 0,
    layout: Layout = "auto",
    device: Device = "auto",
    trust: Trust = False,
    system: NetworkOf = None,
) -> None:
    """Draw a heat map over each image: where the evidence for a class lies.

    Each map is scored and checked against networks with random weights; one that fails says so on
    its picture. Images already explained are skipped. Unreadable ones are listed at the end; the
    exit code is then 1. Of a model of volumes, the slice with most of the class is explained, in
    one window around it.

    **Examples**

        medseg explain runs/first photo.jpg -o why

        medseg explain runs/first photos/ -o why --method occlusion --mask truth/

        medseg explain runs/first --layer list
    """
    from typing import Any, cast

    from rich.console import Console

    from medseg.engine.progress import counting_bar
    from medseg.errors import MedsegError, plural
    from medseg.explain.explanation import Explainer, layers_of
    from medseg.explain.files import PAGE, explain_files
    from medseg.explain.target import Box, Point, parse_numbers
    from medseg.explain.volumes import VolumeExplainer
    from medseg.inference.network import load_model
    from medseg.inference.predictor import prompts_refused
    from medseg.inference.volumes.model import VolumeModel

    if layer != "list" and not inputs:
        raise MedsegError("IMAGE", "no image is named", "Name images or folders after the model")
    if layer != "list" and output is None:
        raise MedsegError("-o", "is missing", "Name a folder for the pictures")
    box = None if region is None else cast(Box, parse_numbers("--region", region, 4))
    point = None if at is None else cast(Point, parse_numbers("--at", at, 2))
    loaded = load_model(model, device=device, trust=trust, system=system)
    if loaded.manifest.must_be_pointed:
        raise prompts_refused(model)
    if layer == "list":
        for each in layers_of(loaded):
            shape = f"{each.channels} x {each.height} x {each.width}"
            typer.echo(f"{each.name:40} {shape:18} {each.kind}")
        return
    assert inputs is not None
    assert output is not None
    how: dict[str, Any] = {
        "method": method, "layer": layer, "label": label, "steps": steps, "seed": seed
    }  # fmt: skip
    explainer: Explainer
    if isinstance(loaded, VolumeModel):
        for option, given in (("--region", box), ("--at", point), ("--mask", mask)):
            if given is not None:
                raise MedsegError(option, "it is for models of pictures", "Leave it out")
        explainer = VolumeExplainer(loaded, **how)
    else:
        explainer = Explainer(loaded, box=box, at=point, **how)
    with counting_bar(Console(stderr=True)) as bar:
        task = bar.add_task("explaining", total=None)
        report = explain_files(
            explainer,
            inputs,
            output,
            masks=mask,
            save_maps=save_maps,
            layout=layout,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    skipped = f", {report.skipped} were there already" if report.skipped else ""
    typer.echo(f"{plural(report.written, 'explanation')} written to {output}{skipped}")
    if report.failing:
        typer.secho(
            f"{plural(report.failing, 'map')} failed the sanity check: see {output / PAGE}",
            fg=typer.colors.YELLOW,
        )
    for path, reason in report.nothing:
        typer.echo(f"nothing to explain: {path}: {reason}", err=True)
    for path in report.without_truth:
        typer.echo(f"no true mask: {path}", err=True)
    for path, reason in report.failed:
        typer.secho(f"not explained: {path}: {reason}", fg=typer.colors.RED, err=True)
    if report.failed:
        raise typer.Exit(1)
