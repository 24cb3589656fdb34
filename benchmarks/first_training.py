"""A first honest training: test part once, and an unseen dataset with the untouched checkpoint.

    python benchmarks/first_training.py RUN DATA UNSEEN results/NAME.json

RUN is a finished `medseg train DATA`. Scores are at the images' own size.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import save
from medseg.inference.bundle import find_bundle, read_manifest
from medseg.metrics.evaluation import Evaluation
from medseg.scoring import Part, evaluate


def summary(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "note": evaluation.note,
        "counts": asdict(evaluation.counts()),
        "mean": {name: asdict(interval) for name, interval in evaluation.overall.items()},
    }


def main() -> None:
    run, data, unseen, output = map(Path, sys.argv[1:])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    manifest = read_manifest(find_bundle(run))
    scores: dict[str, Any] = {}
    parts: list[tuple[str, Path, Part]] = [
        ("validation", data, "val"), ("test", data, "test"), ("unseen", unseen, "all")
    ]  # fmt: skip
    for name, where, part in parts:
        evaluation = evaluate(where, run, part=part, masks=run / "masks" / name)
        evaluation.save(output.with_suffix("") / f"{name}.csv")
        scores[name] = {"data": where.name, "part": part, **summary(evaluation)}
    save(
        output,
        {
            "trained_on": data.name,
            "system": manifest.system,
            "parameters": manifest.parameters,
            "seed": manifest.recipe["seed"],
            "epochs": len(rows),
            "best_epoch": max(rows, key=lambda row: row["val_dice"])["epoch"],
            "training_seconds": round(sum(row["seconds"] for row in rows)),
            "recipe": manifest.recipe,
            "data": {k: v for k, v in manifest.data.items() if k != "seen"},
            "weights_sha256": manifest.weights_sha256,
            "scores": scores,
        },
    )


if __name__ == "__main__":
    main()
