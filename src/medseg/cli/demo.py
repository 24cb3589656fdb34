"""`medseg demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Small enough for two CPU cores and four minutes, large enough for nuclei to keep their outlines.
IMAGE_SIZE = 128
EPOCHS = 20
# Few steps are affordable, so they are small and bold.
BATCH_SIZE = 4
SETTINGS = ("optimizer.learning_rate=2e-3",)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The run's folder.")] = Path(
        "demo-run"
    ),
) -> None:
    """Train Med-2D SegNet on 120 bundled images of nuclei, score it, and write a report and a page.

    Takes up to four minutes on two CPU cores. Called again, it continues or shows what it did.

    **Example**

        medseg demo
    """
    from importlib.resources import as_file, files

    from rich.console import Console

    from medseg.engine.loop import Interrupted
    from medseg.engine.train import train
    from medseg.inference.files import PredictOptions, predict_images
    from medseg.inference.predictor import load
    from medseg.report.run import write_run_report
    from medseg.report.terminal import render

    typer.echo(
        "Nuclei in 120 microscopy images (BBBC038, CC0): 84 to learn, 12 to choose, 24 to test"
    )
    with as_file(files("medseg.demo") / "dsb2018") as data:
        try:
            run = train(
                data,
                output=output,
                epochs=EPOCHS,
                image_size=IMAGE_SIZE,
                batch_size=BATCH_SIZE,
                settings=SETTINGS,
                resume=(output / "recipe.yaml").is_file(),
            )
        except Interrupted:
            typer.echo(f"Stopped and saved. Continue with: medseg demo -o {output}", err=True)
            raise typer.Exit(130) from None
        report, evaluation = write_run_report(run.folder, data, part="test")
        sources = {case: each.image for case, each in evaluation.sources.items() if each.image}
        predict_images(
            load(run.folder),
            sources,
            run.folder / "masks" / "test",
            options=PredictOptions(overlay=True),
        )
    page = _page(run.folder)
    Console().print(render(evaluation))
    typer.echo(f"\nreport    {report.resolve()}")
    typer.echo(f"overlays  {(run.folder / 'masks' / 'test' / 'overlay').resolve()}")
    typer.echo(f"model     {run.bundle.resolve()}")
    typer.echo(f"page      {page}")
    typer.echo("next      medseg train YOUR_FOLDER   (with images/ and masks/ in it)")


def _page(run: Path) -> str:
    """Where the page is that segments images in a browser, or why there is none."""
    from medseg.errors import MedsegError
    from medseg.extras import needed_by

    page = run / "page.html"
    try:
        with needed_by("the page"):
            from medseg.export.exporter import export

            if not page.is_file():
                export(run, page, format="web", single_file=True)
    except MedsegError as error:
        return f"none: {error}"
    return f"{page.resolve()}   (open it, drop an image: nothing leaves the browser)"
