"""What models of words find when they are asked for a class: Dice with each class of the truth.

    python benchmarks/words.py DATA RUN ... -o results/vlsm-words.json --ask nucleus="dark part"

Each run's own test part is scored, which opens it. Each class is asked for by its sentence in the
model and by every other that ``--ask`` gives. A model that listens has a high Dice with the class
that it was asked for and a low one with the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg
from common import origin
from medseg.data.labels import read_classes
from medseg.data.prompts import Prompts
from medseg.files import write_text
from medseg.inference.text import TextModel
from medseg.metrics.statistics import bootstrap_mean
from medseg.recipe import load_recipe
from medseg.scoring import choose_cases, log_scoring


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def measure(data: Path, run: Path, others: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A row for each sentence: the class that it asks for, and the Dice with every class."""
    model = medseg.load(run, device="cpu")
    assert isinstance(model, TextModel)
    chosen = choose_cases(data, run, "test")
    log_scoring(run, model.manifest, str(data), chosen)
    names = [label.name for label in model.manifest.labels[1:]]
    own = zip(names, model.manifest.sentences, strict=True)
    for wanted, sentence in [*own, *others]:
        asked = model.pointed(Prompts(text=sentence))
        scores: list[list[float]] = [[] for _ in names]
        for case in chosen.cases:
            assert case.mask is not None
            found: NDArray[np.bool_] = np.not_equal(asked.predict(case.image.read_image()), 0)
            truth = read_classes(case.mask, model.labels)
            for number, into in enumerate(scores, start=1):
                into.append(dice(found, truth == number))
        yield {
            "wanted": wanted,
            "sentence": sentence,
            "of_the_model": sentence in model.manifest.sentences,
            "dice_with": {
                name: asdict(bootstrap_mean(each)) for name, each in zip(names, scores, strict=True)
            },
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--ask", action="append", default=[], metavar="CLASS=SENTENCE")
    args = parser.parse_args()
    others = [(wanted, sentence) for wanted, _, sentence in (x.partition("=") for x in args.ask)]
    measured = []
    for run in args.runs:
        history = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = list(measure(args.data, run, others))
        for row in rows:
            print(run.name, row["sentence"], {k: v["mean"] for k, v in row["dice_with"].items()})
        recipe = load_recipe(run / "recipe.yaml")
        measured.append(
            {
                "run": run.name,
                "epochs": len(history),
                "image_size": recipe.data.image_size,
                "seed": recipe.seed,
                "network": recipe.network,
                "asked": rows,
            }
        )
    result = {"system": "vlsm-adapter", **origin(), "data": args.data.name, "runs": measured}
    write_text(args.output, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
