"""`medseg predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import Depth, Device, Layout, MaxRam, NetworkOf, Trust

if TYPE_CHECKING:
    from medseg.data.prompts import Prompts
    from medseg.inference.predictor import Predictor


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run folder, a .medseg or an .onnx file, or a name of `medseg models list`."
        ),
    ],
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
    point: Annotated[
        list[str] | None,
        typer.Option(
            help="A pixel of what is wanted, or with - of what is not. May be repeated, as may "
            "--box and --scribble; for models that take prompts, and one image.",
            metavar="X,Y[,+|-]",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Around what is wanted: left, top, and one past right and bottom.",
            metavar="X0,Y0,X1,Y1",
        ),
    ] = None,
    scribble: Annotated[
        list[Path] | None,
        typer.Option(
            help="A picture of the image's size with strokes, on black: white or green on what is "
            "wanted, red beside it."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="What is wanted, in words, e.g. 'a polyp'; for models that take text. They are "
            "otherwise asked for what they were trained on."
        ),
    ] = None,
    depth: Depth = None,
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

        medseg predict polyp photo.jpg -o masks

        medseg predict runs/organs scan.nii.gz -o masks --max-ram 4GB

        medseg predict runs/clicks scan.png -o masks --box 30,20,90,75 --point 60,50 --point 35,70,-

        medseg predict runs/words photos/ -o masks --text "a small polyp"
    """
    from typing import cast

    from rich.console import Console

    from medseg.engine.progress import counting_bar
    from medseg.errors import plural
    from medseg.inference.files import PredictOptions, predict_files
    from medseg.inference.limit import as_bytes
    from medseg.inference.predictor import Engine, load

    limit = as_bytes(max_ram)
    prompts = _prompts(point or [], box or [], scribble or [], text)
    loaded = load(
        model,
        device=device,
        trust=trust,
        system=system,
        engine=cast(Engine, engine),
        depth=depth,
    )
    if prompts:
        loaded = _pointed(loaded, prompts, inputs, layout)
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


def _prompts(
    points: list[str], boxes: list[str], scribbles: list[Path], text: str | None
) -> Prompts:
    from medseg.data.prompts import Prompts, parse_box, parse_point, read_scribbles
    from medseg.errors import DataError, MedsegError

    if text is not None and not text.strip():
        raise MedsegError("--text", "it says nothing", "Say what is wanted, or leave it out")
    prompts = Prompts(
        points=tuple(map(parse_point, points)),
        boxes=tuple(map(parse_box, boxes)),
        text=(text or "").strip(),
    )
    for path in scribbles:
        drawn = read_scribbles(path)
        before = prompts.scribbles
        if before is not None and before.shape != drawn.shape:
            raise DataError(
                path, "it has another size than the scribbles before", "Draw on the same image"
            )
        prompts += Prompts(scribbles=drawn)
    return prompts


def _pointed(model: Predictor, prompts: Prompts, inputs: list[str], layout: str) -> Predictor:
    """The model, asked in words, or pointed at something in the one image of ``inputs``.

    Raises:
        MedsegError: it is pointed into several images, or takes no such prompts.
    """
    from medseg.errors import MedsegError, ModelError, plural
    from medseg.inference.inputs import find_inputs
    from medseg.inference.promptable import PromptableModel
    from medseg.inference.text import TextModel

    if not isinstance(model, PromptableModel | TextModel):
        raise ModelError(
            model.manifest.system, "it takes no prompts: it segments all that it knows",
            "Leave --point, --box, --scribble and --text out",
        )  # fmt: skip
    if prompts.kinds == ("text",):
        return model.pointed(prompts)
    found = find_inputs(inputs, layout=layout, channels=model.manifest.preprocessing.channels)
    if len(found) > 1:
        raise MedsegError(
            "--point, --box and --scribble",
            f"they point into one image, and there are {plural(len(found), 'image')}",
            "Predict them one by one",
        )
    return model.pointed(prompts)
