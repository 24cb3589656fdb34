"""Dice over interactions of ScribblePrompt's U-Net, trained small on a mix of datasets.

    python benchmarks/interactions.py hc18 brain_tumor kvasir_seg --unseen busi_partial \\
        --data DATA --work FOLDER -o results/scribbleprompt-clicks.json

Every dataset is a folder ``images/`` and ``masks/`` below ``--data``. As many images of each are
taken evenly, the first of a kind go to training and the last to the test, by patient; ``--unseen``
datasets are tested on only. Whatever FOLDER holds already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medseg
from medseg.files import write_text
from medseg.interactions import WAYS, measure_interactions

PATIENTS = {"hc18": lambda name: name.split("_")[0]}
# Of brain_tumor neighbouring names may be one patient's: blocks of them stay together.
BLOCK = 20


def rows_of(root: Path, limit: int, split: bool) -> list[dict[str, str]]:
    """Up to ``limit`` images of a dataset, evenly, with their parts: 70, 10 and 20 %."""
    found = sorted((root / "images").iterdir())
    taken = [found[i * len(found) // limit] for i in range(limit)] if len(found) > limit else found
    name = root.name
    blocks = [
        PATIENTS[name](path.stem) if name in PATIENTS else f"{i // BLOCK}"
        for i, path in enumerate(taken)
    ]
    order = list(dict.fromkeys(blocks))
    parts = {
        block: "train" if i < 0.7 * len(order) else "val" if i < 0.8 * len(order) else "test"
        for i, block in enumerate(order)
    }
    return [
        {
            "id": f"{name}/{path.stem}",
            "image": str(path.resolve()),
            "mask": str((root / "masks" / f"{path.stem}.png").resolve()),
            "patient": f"{name}-{block}",
            "split": parts[block] if split else "test",
        }
        for path, block in zip(taken, blocks, strict=True)
    ]


def write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """A manifest of binary masks."""
    text = io.StringIO()
    lines = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    write_text(path, text.getvalue())
    write_text(path.parent / "labels.json", json.dumps({"background": 0, "structure": 255}))


def short(found: dict[str, Any]) -> dict[str, Any]:
    """A measurement without its courses, and by dataset."""
    names = [course["case"].split("/")[0] for course in found["courses"]]
    last = len(found["dice"]) - 1
    by_dataset = {}
    for name in sorted(set(names)):
        own = [c["dice"] for c, n in zip(found["courses"], names, strict=True) if n == name]
        means = [round(sum(dice[k] for dice in own) / len(own), 4) for k in (0, last)]
        by_dataset[name] = {"structures": len(own), "dice_first": means[0], "dice_last": means[1]}
    kept = {key: found[key] for key in ("way", "dice", "needed")}
    return {**kept, "structures": len(names), "datasets": by_dataset}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--unseen", nargs="*", default=[])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interactions", type=int, default=10)
    args = parser.parse_args()
    settings = [
        "network.widths=[32,32,32,32]",
        "optimizer.learning_rate=1e-3",
        "optimizer.final_learning_rate=1e-5",
        "optimizer.warmup=0.05",
    ]
    mix, unseen = args.work / "mix", args.work / "unseen"
    rows = [row for name in args.datasets for row in rows_of(args.data / name, args.limit, True)]
    write_manifest(mix / "manifest.csv", rows)
    run = args.work / f"run-{args.seed}"
    if not (run / "model.medseg").is_file():
        medseg.train(
            mix, system="scribbleprompt", output=run, epochs=args.epochs, image_size=args.size,
            seed=args.seed, patience=args.epochs, settings=settings, device="cpu",
            resume=(run / "recipe.yaml").is_file(),
        )  # fmt: skip
    results = {"seen": [], "unseen": []}
    places = [("seen", mix)]
    if args.unseen:
        others = [row for name in args.unseen for row in rows_of(args.data / name, 100, False)]
        write_manifest(unseen / "manifest.csv", others)
        places.append(("unseen", unseen))
    for kind, place in places:
        for way in WAYS:
            found = measure_interactions(
                place, run, interactions=args.interactions, way=way, device="cpu", seed=args.seed
            )
            results[kind].append(short(found.as_json()))
            print(kind, way, [round(each["dice"] or 0, 3) for each in results[kind][-1]["dice"]])
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    write_text(
        args.output,
        json.dumps(
            {
                "command": " ".join(["python", *sys.argv]),
                "commit": commit.stdout.strip(),
                "settings": settings,
                "results": results,
            },
            indent=1,
        ),
    )


if __name__ == "__main__":
    main()
