"""`medseg models`: the models that come with medseg."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg import zoo
from medseg.cli.options import AsJson, Trust
from medseg.errors import plural

app = typer.Typer(help="Models that come with medseg, ready to use without a network.")


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List all models: what for, classes, test scores, size, licence, and whom to name.

    `medseg info NAME --card` says what one must not be used for.

    **Example**

        medseg models list
    """
    models = [_facts(name) for name in zoo.SHIPPED]
    if as_json:
        typer.echo(json.dumps(models, indent=1, ensure_ascii=False))
        return
    if not models:
        typer.echo("No models come with this copy of medseg.")
    for model in models:
        typer.echo(f"{model['name']:13}{model['purpose']}")
        for title in ("classes", "test Dice", "size", "licence", "data"):
            typer.echo(f"  {title:11}{_in_words(title, model)}")


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A PyTorch file of published weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .medseg file to write.")],
    system: Annotated[
        str, typer.Option(help="Whose weights they are, as in `medseg systems list`.")
    ],
    trust: Trust = False,
) -> None:
    """Make a .medseg file of weights that a system's authors published, to train from.

    Only weights and numbers are read, never code. `medseg train DATA --init FILE` then carries
    over what fits: heads of other classes are dropped, and a first convolution of other channels
    is adapted.

    **Example**

        medseg models import small_ep4k.model --system stu-net-s --trust -o stu-net-s.medseg
    """
    from medseg.inference.imported import import_checkpoint

    manifest = import_checkpoint(checkpoint, output, system=system, trust=trust)
    typer.echo(
        f"{manifest.parameters:,} parameters of {manifest.system}, {manifest.num_classes} classes, "
        f"{plural(manifest.preprocessing.channels, 'channel')}, written to {output}"
    )


def _facts(name: str) -> dict[str, Any]:
    from medseg.inference.bundle import read_manifest
    from medseg.zoo.entries import load

    path, entry = zoo.FOLDER / f"{name}.medseg", load(name)
    manifest = read_manifest(path)
    return {
        **asdict(entry),
        "attribution": entry.attribution,
        "system": manifest.system,
        "parameters": manifest.parameters,
        "classes": [label.name for label in manifest.labels],
        "channels": manifest.preprocessing.channels,
        "scores": manifest.scores,
        "bytes": path.stat().st_size,
    }


def _in_words(title: str, model: dict[str, Any]) -> str:
    scores = model["scores"]
    match title:
        case "classes":
            return ", ".join(model["classes"][1:])
        case "test Dice":
            return (
                f"{scores['test_dice']:.4f} (95 % interval {scores['test_dice_low']:.4f} to "
                f"{scores['test_dice_high']:.4f}, {scores['test_cases']:.0f} cases)"
            )
        case "size":
            return f"{model['bytes'] / 1e6:.1f} MB, {model['parameters']:,} parameters"
        case "licence":
            return str(model["licence"])
        case _:
            return str(model["attribution"])
