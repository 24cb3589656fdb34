"""Draw the README's picture from a finished `medseg demo`: image, truth and prediction in rows.

    python tools/demo_picture.py demo-run docs/images/demo.png

Five test cases at equal steps of the Dice ranking, the best on the left, the worst on the right.
"""

from __future__ import annotations

import csv
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.case import Label, LabelMap
from medseg.data.io import read_image, read_mask
from medseg.report.overlay import draw_contours, to_rgb

LABELS = LabelMap((Label("background", 0), Label("nucleus", 255)))
TILE, GAP, COLUMNS = 232, 6, 5


def square(picture: np.ndarray) -> Image.Image:
    """The middle of a picture as a tile."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    crop = Image.fromarray(picture[top : top + side, left : left + side])
    return crop.resize((TILE, TILE), Image.Resampling.LANCZOS)


def main() -> None:
    run, output = map(Path, sys.argv[1:])
    data = Path(str(files("medseg.demo") / "dsb2018"))
    with (run / "scores" / "test.csv").open(encoding="utf-8", newline="") as file:
        ranked = sorted(csv.DictReader(file), key=lambda row: -float(row["dice"]))
    places = np.linspace(0, len(ranked) - 1, COLUMNS).round().astype(int)
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) - GAP, 3 * (TILE + GAP) - GAP), "white")
    for column, place in enumerate(places):
        case = ranked[place]["case"]
        image = to_rgb(read_image(next((data / "images").glob(f"{case}.*"))))
        truth = (read_mask(data / "masks" / f"{case}.png").values > 0).astype(np.uint8)
        found = (read_mask(run / "masks" / "test" / f"{case}.png").values > 0).astype(np.uint8)
        rows = (image, *(draw_contours(image, mask, labels=LABELS) for mask in (truth, found)))
        for row, picture in enumerate(rows):
            sheet.paste(square(picture), (column * (TILE + GAP), row * (TILE + GAP)))
        print(case, ranked[place]["dice"])
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, optimize=True)


if __name__ == "__main__":
    main()
