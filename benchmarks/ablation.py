"""Does an idea pay against its own ablation? Two ways of training, seed by seed, on test cases.

    python benchmarks/ablation.py DATA -o results/bcp-acdc.json --runs FOLDER --seeds 0 1 2 \\
        --set system=unet --a method=supervised --b method=bcp

``--set`` is for both, ``--a`` and ``--b`` for one of them; each seed has its own split, the same
for both. Every run predicts its test part. A case counts by the mean Dice of its classes; the
difference b - a is the mean over cases and seeds, its interval a bootstrap of patients (cases,
where they are unknown) with those of all seeds as one sample. Runs that are in FOLDER are not
trained again.
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
from numpy.typing import NDArray

from common import origin
from medseg.data.case import IGNORE, Label, LabelMap
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.preprocess import to_channels
from medseg.data.splitfile import read_split
from medseg.engine.train import train
from medseg.files import write_text
from medseg.inference.network import load_model
from medseg.metrics.statistics import bootstrap_mean


def trained(args: argparse.Namespace, arm: str, seed: int, settings: Sequence[str]) -> Path:
    folder: Path = args.runs / f"{arm}-{seed}"
    if not (folder / "model.medseg").is_file():
        system, *rest = sorted([*args.set, *settings], key=lambda s: not s.startswith("system="))
        train(
            args.data, output=folder, system=system.removeprefix("system="), seed=seed,
            settings=rest, allow_leak=True, group_pattern=args.group_pattern, device="cpu",
            cache_dir=args.runs / "cache", quiet=True,
        )  # fmt: skip
    return folder


def scores(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Dice of each patient of the test part."""
    facts = json.loads((folder / "data.json").read_text())
    labels = LabelMap(tuple(Label(**label) for label in facts["labels"]), rgb=facts["rgb"])
    parts = read_split(folder / "split.csv").parts
    model = load_model(folder / "model.medseg", device="cpu")
    foreground = range(1, len(labels.labels))
    counts: dict[str, NDArray[np.int64]] = defaultdict(
        lambda: np.zeros((len(foreground), 2), np.int64)
    )
    dataset = open_dataset(args.data, group_pattern=args.group_pattern)
    for case in dataset.cases:
        if parts.get(case.id) != "test" or case.mask is None:
            continue
        image = case.image.read_image(max_pixels=model.max_pixels)
        image = to_channels(image, model.manifest.preprocessing.channels)
        (found,) = model.infer([model.prepare(image)], [(image.shape[0], image.shape[1])])
        truth = read_classes(case.mask, labels, snap="auto", field_of_view=case.field_of_view,
                             max_pixels=model.max_pixels)  # fmt: skip
        for row, k in zip(counts[case.patient or case.id], foreground, strict=True):
            predicted, wanted = (found.classes == k) & (truth != IGNORE), truth == k
            row += [(predicted & wanted).sum(), predicted.sum() + wanted.sum()]
    return {
        patient: float(np.mean([2 * both / total if total else 1.0 for both, total in rows]))
        for patient, rows in counts.items()
    }


def interval(values: dict[tuple[int, str], float]) -> dict[str, Any]:
    return asdict(bootstrap_mean(values.values(), groups=[patient for _, patient in values]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--group-pattern")
    for name in ("set", "a", "b"):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()

    found: dict[str, dict[tuple[int, str], float]] = {"a": {}, "b": {}}
    seeds: list[dict[str, Any]] = []
    for seed in args.seeds:
        each: dict[str, Any] = {"seed": seed}
        for arm, settings in (("a", args.a), ("b", args.b)):
            folder = trained(args, arm, seed, settings)
            mine = scores(args, folder)
            found[arm] |= {(seed, patient): value for patient, value in mine.items()}
            lines = (folder / "metrics.jsonl").read_text().splitlines()
            each[arm] = {
                "test_dice": round(float(np.mean(list(mine.values()))), 4),
                "val_dice": round(max(json.loads(line)["val_dice"] for line in lines), 4),
                "epochs": len(lines),
                "cases": json.loads((folder / "data.json").read_text())["cases"],
            }
            print(seed, arm, each[arm], file=sys.stderr)
        seeds.append(each)
        pairs = {case: found["b"][case] - value for case, value in found["a"].items()}
        report = {
            **origin(),
            "data": args.data.name,
            "both": args.set,
            "a": {"settings": args.a, "dice": interval(found["a"])},
            "b": {"settings": args.b, "dice": interval(found["b"])},
            "difference": interval(pairs),
            "seeds": seeds,
        }
        write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
