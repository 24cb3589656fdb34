"""A figure: what models of a benchmark make of data from other places.

    python benchmarks/cross_domain.py results/twenty-64px docs/images/cross-domain.png \
        cvc_clinicdb=../shared/data/kvasir_seg monuseg=../shared/data/dsb2018

Each TRAINED=FOLDER, with one foreground class, was scored before by `many_tasks.py --unseen`. A
row is a case: those at the 95th percentile and the median of the first system's Dice, so that
nobody chose them. Solid outlines: prediction; dashed: truth. Only name folders whose images may be
shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import medseg
from medseg.benchmark.reading import Results
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.metrics.tables import read_table
from medseg.report.overlay import draw_contours, mask_thumbnail, thumbnail, to_rgb

SIDE = 256
SHARES = {"95th percentile": 0.95, "median": 0.5}


def at_shares(dice: dict[str, float]) -> dict[str, str]:
    """Each of ``SHARES`` to the case there."""
    ordered = sorted(dice, key=lambda case: (dice[case], case))
    return {name: ordered[round(share * (len(ordered) - 1))] for name, share in SHARES.items()}


def draw(out: Path, pairs: list[tuple[str, Path]], figure_path: Path) -> None:
    results = Results.read(out)
    heads = ["image", *results.systems]
    rows = len(pairs) * len(SHARES)
    figure = Figure(figsize=(1.8 * len(heads) + 0.6, 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, len(heads), squeeze=False)
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=9)
    for place, (trained, folder) in enumerate(pairs):
        cells = {system: out / "cells" / system / trained / "seed-0" for system in results.systems}
        dice = {
            system: read_table(cell / "unseen" / f"all-{folder.name}.csv", "dice").values
            for system, cell in cells.items()
        }
        models = {system: medseg.load(cell / "run") for system, cell in cells.items()}
        cases = {case.id: case for case in open_dataset(folder).cases}
        for row, (name, chosen) in enumerate(at_shares(dict(dice[results.systems[0]])).items()):
            line = grid[place * len(SHARES) + row]
            case = cases[chosen]
            assert case.mask is not None
            image = case.image.read_image()
            picture = thumbnail(to_rgb(image), SIDE)
            line[0].imshow(picture)
            line[0].set_ylabel(f"{trained} to\n{folder.name}\n{name}", fontsize=8)
            for axes, (system, model) in zip(line[1:], models.items(), strict=True):
                truth = mask_thumbnail(read_classes(case.mask, model.labels), SIDE)
                mask = mask_thumbnail((model.predict(image) > 0).astype(np.uint8), SIDE)
                axes.imshow(draw_contours(picture, mask, truth=truth, labels=model.labels))
                axes.set_xlabel(f"Dice {100 * dice[system][chosen]:.0f}", fontsize=8)
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
    figure.savefig(figure_path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("pairs", nargs="+", metavar="TRAINED=FOLDER")
    arguments = parser.parse_args()
    pairs = [(name, Path(path)) for name, _, path in (p.partition("=") for p in arguments.pairs)]
    draw(arguments.benchmark, pairs, arguments.output)


if __name__ == "__main__":
    main()
