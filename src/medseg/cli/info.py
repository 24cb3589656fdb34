"""`medseg info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.options import AsJson, Layout


def info(
    path: Annotated[Path, typer.Argument(help="A run, a .medseg file, or a dataset.")],
    layout: Layout = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what a model or a dataset is, without loading the network or the images.

    **Examples**

        medseg info runs/first

        medseg info photos/ --json
    """
    is_model = path.suffix == ".medseg" or (path / "recipe.yaml").is_file()
    facts = _model_facts(path) if is_model else _data_facts(path, layout)
    if as_json:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    for key, value in facts.items():
        if key != "recipe":
            typer.echo(f"{key:16}{_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _model_facts(path: Path) -> dict[str, Any]:
    from medseg.engine.openings import read_openings
    from medseg.inference.bundle import find_bundle, read_manifest

    bundle = find_bundle(path)
    manifest = read_manifest(bundle)
    openings = read_openings(bundle.parent)
    last = openings[-1].get("time", "unknown") if openings else "never"
    opened = {"count": len(openings), "last": last}
    return {
        "model": str(bundle),
        "system": manifest.system,
        "parameters": manifest.parameters,
        "labels": {label.name: label.value for label in manifest.labels},
        "input": manifest.preprocessing.model_dump(),
        "data": {
            key: value
            for key, value in manifest.data.items()
            if key not in ("seen", "labels") and value != ""
        },
        "scores": manifest.scores,
        **({"test_openings": opened} if (bundle.parent / "recipe.yaml").is_file() else {}),
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
