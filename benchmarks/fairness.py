"""Whether fair error-bound scaling helps the worst group, against the same training without it.

    python benchmarks/fairness.py --data DATA/dsb2018 --work FOLDER -o results/fairseg-dsb2018.json

Nuclei on a dark ground are the majority. In the minority contrast is inverted: a tenth of the
training and validation images are, and the test has each of its images in both groups. The arms
differ in the loss alone: the recipe's cross-entropy and Dice; fair error-bound scaling, and the
same with gamma = 0, which scales all groups alike; and weights on the losses of groups instead of
their probabilities, again also with gamma = 0. As the authors do, the plain network is also refined
for a few epochs, with and without the scaling. Whatever FOLDER holds already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import medseg
from common import origin
from medseg.files import write_text
from medseg.metrics.statistics import bootstrap_mean

MINORITY = 0.1
PARTS = {"train": 200, "val": 40, "test": 60}
SETTINGS = ("network.widths=[16,32,64]", "optimizer.learning_rate=0.002")
# As the authors do: a few epochs from the plain network on, at a tenth of the rate.
REFINING = ("optimizer.learning_rate=0.0002", "train.epochs=5")
ARMS: dict[str, tuple[str, ...]] = {
    "plain": ("method=supervised",),
    "gamma-0": ("method=fairseg", "method_options.gamma=0.0"),
    "fairseg": ("method=fairseg", "method_options.gamma=1.0"),
    "losses": ("method=fairseg", "method_options.scaled=losses"),
    "losses-gamma-0": (
        "method=fairseg",
        "method_options.scaled=losses",
        "method_options.gamma=0.0",
    ),
    "refined-gamma-0": ("method=fairseg", "method_options.gamma=0.0", *REFINING),
    "refined": ("method=fairseg", *REFINING),
}

PAIRS = (
    ("fairseg", "plain"),
    ("fairseg", "gamma-0"),
    ("losses", "plain"),
    ("losses", "losses-gamma-0"),
    ("refined", "refined-gamma-0"),
)


def make_data(source: Path, folder: Path) -> None:
    """A manifest of dark images, and of inverted ones, with the column ``group:contrast``."""
    dark = []
    for path in sorted((source / "images").iterdir()):
        grey = np.asarray(Image.open(path).convert("L"))
        nuclei = np.asarray(Image.open(mask_of(source, path))) > 0
        if grey.shape == (256, 256) and grey.mean() < 100 and nuclei.any():
            dark.append(path)
    order = np.random.default_rng(0).permutation(len(dark))[: sum(PARTS.values())]
    rows = []
    for place, index in enumerate(order.tolist()):
        path = dark[index]
        part = next(
            name for end, name in zip(np.cumsum(list(PARTS.values())), PARTS, strict=True)
            if place < end
        )  # fmt: skip
        both = part == "test"
        inverted = [False, True] if both else [place % round(1 / MINORITY) == 0]
        for minority in inverted:
            group = "inverted" if minority else "dark"
            image = folder / "images" / f"{path.stem}-{group}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            grey = np.asarray(Image.open(path).convert("L"))
            Image.fromarray(255 - grey if minority else grey).save(image)
            rows.append(
                {
                    "image": f"images/{image.name}",
                    "mask": str(mask_of(source, path).resolve()),
                    "patient": path.stem,
                    "split": part,
                    "group:contrast": group,
                }
            )
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "labels.json", json.dumps({"background": 0, "nucleus": 255}))
    write_text(folder / "manifest.csv", text.getvalue())


def mask_of(source: Path, image: Path) -> Path:
    return source / "masks" / f"{image.stem}.png"


def scores(data: Path, run: Path) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What `medseg evaluate` says of the test part, and the Dice of each case by group."""
    found = medseg.evaluate(data, run, part="test", device="cpu", metrics=("dice", "iou"))
    cases: dict[str, dict[str, float]] = {}
    for case, dice in found.case_means("dice").items():
        cases.setdefault(found.groups["contrast"][case], {})[case] = dice
    return {each.metric: asdict(each) for each in found.equity if each.label is None}, cases


def differences(cases: dict[tuple[str, int], dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """By how much one arm is better than another in each group: of each case the mean over seeds,
    with an interval over cases; and the mean of each seed."""
    seeds = sorted({seed for _, seed in cases})
    found = []
    for arm, other in PAIRS:
        if not {(arm, seeds[0]), (other, seeds[0])} <= cases.keys():
            continue
        for group in cases[arm, seeds[0]]:
            apart = np.array(
                [
                    [cases[arm, seed][group][case] - dice
                     for case, dice in cases[other, seed][group].items()]
                    for seed in seeds
                ]
            )  # fmt: skip
            found.append(
                {
                    "arm": arm,
                    "other": other,
                    "group": group,
                    "dice": asdict(bootstrap_mean(apart.mean(axis=0))),
                    "of_seeds": apart.mean(axis=1).round(4).tolist(),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    data = args.work / "data"
    if not (data / "manifest.csv").is_file():
        make_data(args.data, data)
    results, cases = [], {}
    for seed in args.seeds:
        for arm in args.arms:
            settings, run = ARMS[arm], args.work / f"{arm}-{seed}"
            if not (run / "model.medseg").is_file():
                resume = (run / "recipe.yaml").is_file()
                refines = arm.startswith("refined") and not resume
                medseg.train(
                    data, system="fairseg", output=run, epochs=args.epochs, image_size=args.size,
                    batch_size=args.batch, seed=seed, patience=args.epochs, device="cpu",
                    init=args.work / f"plain-{seed}" if refines else None,
                    settings=(*SETTINGS, *settings), cache_dir=args.work / "cache",
                    resume=resume, quiet=True,
                )  # fmt: skip
            scored = args.work / f"{arm}-{seed}.json"
            if not scored.is_file():
                write_text(scored, json.dumps(scores(data, run)))
            equity, cases[arm, seed] = json.loads(scored.read_text(encoding="utf-8"))
            results.append({"arm": arm, "seed": seed, **equity})
            dice = results[-1]["dice"]
            means = {name: round(each["mean"], 4) for name, each in dice["groups"].items()}
            print(seed, arm, means, round(dice["equity_scaled"], 4), flush=True)
    found = {
        **origin(),
        "data": f"dsb2018, dark images only, {PARTS}, a tenth of train and val inverted",
        "size": args.size,
        "epochs": args.epochs,
        "batch_size": args.batch,
        "settings": list(SETTINGS),
        "arms": {arm: list(ARMS[arm]) for arm in args.arms},
        "summary": {arm: summary(results, arm) for arm in args.arms},
        "differences": differences(cases),
        "results": results,
    }
    write_text(args.output, json.dumps(found, indent=1) + "\n")


def summary(results: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    """Means and standard deviations over seeds of one arm's Dice."""
    own = [each["dice"] for each in results if each["arm"] == arm]
    columns = {
        "overall": [each["overall"] for each in own],
        "equity_scaled": [each["equity_scaled"] for each in own],
        "worst_group": [each["groups"][each["worst"]]["mean"] for each in own],
        "gap": [each["gap"] for each in own],
    }
    return {
        name: {"mean": float(np.mean(found)), "sd": float(np.std(found, ddof=1))}
        for name, found in columns.items()
        if len(found) > 1
    }


if __name__ == "__main__":
    main()
