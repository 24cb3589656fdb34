"""Dice over interactions of ScribblePrompt's U-Net, trained small on a mix of datasets.

    python benchmarks/interactions.py hc18 brain_tumor kvasir_seg --unseen busi_partial \\
        --data DATA --work FOLDER -o results/scribbleprompt-clicks.json

Every dataset is a folder ``images/`` and ``masks/`` below ``--data``. As many images of each are
taken evenly, the first of a kind go to training and the last to the test, by patient; ``--unseen``
datasets are tested on only. Whatever FOLDER holds already is not made again.

``--medscribble`` names a copy of MedScribble (Wong et al. 2023; in the authors' repository), on
which people's scribbles are compared with simulated ones: one answer to each annotator's.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import medseg
from medseg.data.prompts import Prompts
from medseg.data.simulate_prompts import random_scribble
from medseg.files import write_text
from medseg.inference.promptable import PromptableModel
from medseg.interactions import WAYS, measure_interactions
from medseg.metrics.statistics import bootstrap_mean

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


def human_scribbles(run: Path, root: Path) -> dict[str, Any]:
    """Mean Dice of one answer to a person's scribbles, and to simulated ones on the same image."""
    model = medseg.load(run, device="cpu")
    assert isinstance(model, PromptableModel)
    human, simulated, drawn = [], [], []
    for folder in sorted(path.parent for path in root.rglob("seg.npy")):
        mask = np.load(folder / "seg.npy").squeeze() > 0.5
        image = np.load(folder / "img.npy").squeeze().astype(np.float64)
        grey = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
        scores: list[list[float]] = [[], []]
        for annotator in range(3):
            person = np.load(folder / f"scribble_{annotator}.npy").squeeze().astype(np.float32)
            random = np.random.default_rng([zlib.crc32(folder.name.encode()), annotator])
            strokes = [random_scribble(each, 2, random) for each in (mask, ~mask)]
            for scribbles, into in zip((person.clip(0, 1), np.stack(strokes)), scores, strict=True):
                session = model.session(grey)
                session.add(Prompts(scribbles=scribbles))
                found = session.classes == 1
                into.append(2 * float((found & mask).sum()) / float(found.sum() + mask.sum()))
            drawn.append((float(person.sum()), float(np.sum(strokes))))
        human.append(float(np.mean(scores[0])))
        simulated.append(float(np.mean(scores[1])))
    return {
        "images": len(human),
        "pixels_drawn": dict(zip(("human", "simulated"), np.mean(drawn, 0).round(1), strict=True)),
        "dice_human": asdict(bootstrap_mean(human)),
        "dice_simulated": asdict(bootstrap_mean(simulated)),
    }


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--interactions", type=int, default=10)
    parser.add_argument("--medscribble", type=Path)
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
    places = [("seen", mix)]
    if args.unseen:
        others = [row for name in args.unseen for row in rows_of(args.data / name, 100, False)]
        write_manifest(unseen / "manifest.csv", others)
        places.append(("unseen", unseen))
    results, people = [], []
    for seed in args.seeds:
        run = args.work / f"run-{seed}"
        if not (run / "model.medseg").is_file():
            medseg.train(
                mix, system="scribbleprompt", output=run, epochs=args.epochs,
                image_size=args.size, seed=seed, patience=args.epochs, settings=settings,
                device="cpu", resume=(run / "recipe.yaml").is_file(),
            )  # fmt: skip
        for (kind, place), way in itertools.product(places, WAYS):
            found = measure_interactions(
                place, run, interactions=args.interactions, way=way, device="cpu", seed=seed
            )
            results.append({"seed": seed, "data": kind, **short(found.as_json())})
            print(seed, kind, way, [round(each["mean"], 3) for each in results[-1]["dice"]])
        if args.medscribble:
            people.append({"seed": seed, **human_scribbles(run, args.medscribble)})
            print(people[-1])
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    write_text(
        args.output,
        json.dumps(
            {
                "system": "scribbleprompt",
                "command": f"python benchmarks/interactions.py {' '.join(args.datasets)}"
                + "".join(f" --unseen {name}" for name in args.unseen),
                "size": args.size,
                "epochs": args.epochs,
                "commit": commit.stdout.strip(),
                "settings": settings,
                "images": len(rows),
                "results": results,
                "medscribble": people,
            },
            indent=1,
        ),
    )


if __name__ == "__main__":
    main()
