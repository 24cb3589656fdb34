"""`medseg info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg import zoo
from medseg.cli.options import AsJson, Layout
from medseg.errors import MedsegError

if TYPE_CHECKING:
    from medseg.inference.bundle import Manifest


def info(
    path: Annotated[
        Path,
        typer.Argument(
            help="A run, a .medseg or exported .onnx file, a model of `medseg models list`, or a "
            "dataset."
        ),
    ],
    layout: Layout = "auto",
    as_json: AsJson = False,
    card: Annotated[
        bool, typer.Option("--card", help="Print the model card (Markdown) and nothing else.")
    ] = False,
) -> None:
    """Say what a model or a dataset is, without loading the network or the images.

    **Examples**

        medseg info runs/first

        medseg info photos/ --json

        medseg info runs/first/model.medseg --card

        medseg info polyp --card
    """
    is_model = path.suffix in (".medseg", ".onnx") or (path / "recipe.yaml").is_file()
    is_model = is_model or _is_shipped(path, card)
    if card:
        _print_card(path, is_model, as_json)
        return
    facts = _model_facts(path) if is_model else _data_facts(path, layout)
    if as_json:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    for key, value in facts.items():
        if key != "recipe":
            typer.echo(f"{key:16}{_printable(_shown(value))}")


def _is_shipped(path: Path, card: bool) -> bool:
    """Whether ``path`` is the name of a model that comes with medseg. A dataset of that name comes
    first, but has no card."""
    if zoo.find(path) is None or (path.exists() and not card):
        return False
    from medseg.data.registry import find

    return card or find(path) is None


def _print_card(path: Path, is_model: bool, as_json: bool) -> None:
    if as_json:
        raise MedsegError("--card", "it is Markdown, not JSON", "Leave --json or --card out")
    if not is_model:
        raise MedsegError(
            f"--card {path}",
            "only a model has a card",
            f"Name a run or a .medseg file{zoo.suggestion(path)}",
        )
    from medseg.report.card import card_of, model_card

    text = model_card(_graph_manifest(path)) if path.suffix == ".onnx" else card_of(path)
    typer.echo("\n".join(_printable(line) for line in text.splitlines()))


def _printable(text: str) -> str:
    """Without what a terminal would act on: a model file may come from anybody."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _graph_manifest(path: Path) -> Manifest:
    from medseg.errors import ModelError
    from medseg.inference.runtime import manifest_of_graph

    if not path.is_file():
        raise ModelError(path, "there is no such file", "Check the path")

    return manifest_of_graph(path, path.read_bytes())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _model_facts(path: Path) -> dict[str, Any]:
    from medseg.engine.openings import read_openings
    from medseg.inference.bundle import find_bundle, read_manifest

    if path.suffix == ".onnx":
        return _facts(path, _graph_manifest(path), graph=True)
    bundle = find_bundle(path)
    manifest = read_manifest(bundle)
    facts = _facts(bundle, manifest, graph=manifest.graph_sha256 is not None)
    if (bundle.parent / "recipe.yaml").is_file():
        openings = read_openings(bundle.parent)
        last = openings[-1].get("time", "unknown") if openings else "never"
        facts["test_openings"] = {"count": len(openings), "last": last}
    return facts


def _facts(path: Path, manifest: Manifest, *, graph: bool) -> dict[str, Any]:
    return {
        "model": str(path),
        **({"title": manifest.title} if manifest.title else {}),
        "system": manifest.system,
        "parameters": manifest.parameters,
        "labels": {label.name: label.value for label in manifest.labels},
        "input": manifest.preprocessing.model_dump()
        if manifest.volume is None
        else {"channels": manifest.preprocessing.channels, **manifest.volume.model_dump()},
        **({"prompts": list(manifest.prompts)} if manifest.prompts else {}),
        "data": {
            key: value
            for key, value in manifest.data.items()
            if key not in ("seen", "labels") and value != ""
        },
        "scores": manifest.scores,
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
        "postprocessing": manifest.postprocessing.model_dump(),
        "golden_cases": len(manifest.golden),
        "graph": "yes (ONNX)" if graph else "none",
        "licence": manifest.licence or "not stated",
        "medseg": manifest.medseg,
        "weights_sha256": manifest.weights_sha256,
        "recipe": manifest.recipe,
    }


def _data_facts(path: Path, layout: str) -> dict[str, Any]:
    from collections import Counter

    from medseg.data.layouts import open_dataset

    dataset = open_dataset(path, layout=layout)
    patients = {case.patient for case in dataset.cases if case.patient is not None}
    return {
        "dataset": str(path),
        "layout": dataset.layout,
        "because": dataset.reason,
        "cases": len(dataset.cases),
        "labelled": sum(case.mask is not None for case in dataset.cases),
        "patients": len(patients) or "unknown",
        "split": dict(Counter(case.split or "none" for case in dataset.cases)),
        "labels": (
            {label.name: label.value for label in dataset.labels.labels}
            if dataset.labels
            else "inferred from the masks when training"
        ),
        "attributes": sorted({key for case in dataset.cases for key in case.attributes}),
        "problems": len(dataset.problems),
    }
