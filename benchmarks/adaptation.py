"""Does refining a model by few weights pay? A start model, refined in several ways, on test cases.

    python benchmarks/adaptation.py DATA START_RUN -o results/lora.json --runs FOLDER --seeds 0 1 \\
        --set train.epochs=15 --way full --way lora adapt.lora.rank=4

``--set`` is for all, each ``--way`` has a name and settings of its own. Each seed has its own
split, the same for all; the start model is scored, too, as ``none``. A case counts by the mean
Dice of its classes; the interval of a difference from ``--against`` is a bootstrap of patients
(cases, where they are unknown) with those of all seeds as one sample. Runs that are in FOLDER are
not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common import origin
from medseg.engine.adapt import adapt, adaptation_of
from medseg.engine.train import train
from medseg.files import write_text
from medseg.inference.bundle import read_manifest
from medseg.metrics.statistics import bootstrap_mean
from medseg.models import create_model
from medseg.recipe import load_recipe
from medseg.scoring import evaluate

All = dict[tuple[int, str, str | None], float]


def trained(args: argparse.Namespace, name: str, seed: int, settings: Sequence[str]) -> Path:
    folder: Path = args.runs / f"{name}-{seed}"
    if not (folder / "model.medseg").is_file():
        train(
            args.data, output=folder, init=str(args.start), seed=seed, device="cpu", quiet=True,
            settings=[*args.set, *settings], cache_dir=args.runs / "cache",
        )  # fmt: skip
    return folder


def scores(args: argparse.Namespace, model: Path) -> dict[tuple[str, str | None], float]:
    """Mean Dice of the classes of each case, of a run's test part or of all other data."""
    found = evaluate(args.data, model, metrics=("dice",), device="cpu", workers=1)
    dice = defaultdict(list)
    for row in found.rows:
        dice[row.case, row.patient].append(row.metrics["dice"])
    return {case: float(np.mean(values)) for case, values in dice.items()}


def interval(values: All) -> dict[str, Any]:
    groups = [patient or case for _, case, patient in values]
    return asdict(bootstrap_mean(values.values(), groups=groups))


def trained_weights(folder: Path) -> dict[str, Any]:
    """How many weights of the run's network learnt, and their share."""
    recipe, manifest = load_recipe(folder / "recipe.yaml"), read_manifest(folder / "model.medseg")
    network = create_model(
        recipe.system,
        in_channels=manifest.preprocessing.channels,
        num_classes=manifest.num_classes,
        **recipe.network,
    )
    if recipe.adapt.enabled:
        adapt(network, recipe.adapt)
    found = adaptation_of(network)
    return {"trained_weights": found.trained, "share": round(found.trained / found.total, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--way", nargs="+", action="append", required=True, metavar="NAME KEY=VALUE"
    )
    parser.add_argument("--against", default="full")
    args = parser.parse_args()

    ways = {name: settings for name, *settings in args.way}
    start = scores(args, args.start)
    found: dict[str, All] = {name: {} for name in ("none", *ways)}
    learnt: dict[str, dict[str, Any]] = {"none": {"trained_weights": 0, "share": 0.0}}
    for count, seed in enumerate(args.seeds, start=1):
        for name, settings in ways.items():
            folder = trained(args, name, seed, settings)
            mine = scores(args, folder)
            found[name] |= {(seed, *case): dice for case, dice in mine.items()}
            found["none"] |= {(seed, *case): start[case] for case in mine}
            learnt[name] = {"settings": settings, **trained_weights(folder)}
            print(seed, name, np.mean(list(mine.values())), file=sys.stderr)
        report = {
            **origin(),
            "data": args.data.name,
            "start": read_manifest(args.start / "model.medseg").weights_sha256,
            "seeds": args.seeds[:count],
            "all": args.set,
            "against": args.against,
            "ways": {
                name: {**learnt[name], **_compared(each, found[args.against], args.seeds[:count])}
                for name, each in found.items()
            },
        }
        write_text(args.output, json.dumps(report, indent=1) + "\n")


def _compared(values: All, against: All, seeds: Sequence[int]) -> dict[str, Any]:
    by_seed = [[dice for (seed, *_), dice in values.items() if seed == each] for each in seeds]
    return {
        "dice": interval(values),
        "difference": interval({key: value - against[key] for key, value in values.items()}),
        "by_seed": [round(float(np.mean(each)), 4) for each in by_seed],
    }


if __name__ == "__main__":
    main()
