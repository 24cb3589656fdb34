"""Choose the demo images from BBBC038 (DSB 2018, stage 1) and publish a split for them.

    python tools/select_demo_images.py SOURCE src/medseg/demo/dsb2018

SOURCE holds images/ and masks/ (0 and 255), named by their BBBC038 identifiers. Many of its
images are neighbouring tiles of one field of view. They are found by their shared borders, and
one image is taken of each field, so that no field can be on both sides of a split. Images whose
nuclei would be mere dots or most of the picture at the demo's size are left out.
"""

from __future__ import annotations

import argparse
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

IMAGES = 120
DEMO_SIZE = 128
# Allowed median diameter of an image's nuclei, in pixels at the demo's size.
SMALLEST_NUCLEUS, LARGEST_NUCLEUS = 4.0, 20.0
# Ten images in a row, 7 : 1 : 2, spread so that a look with few images reaches all three.
PATTERN = ("train", "test", "train", "val", "train", "train", "test", "train", "train", "train")

Look = tuple[tuple[int, int], bool, bool]


def look(path: Path) -> Look:
    """Size (width, height), colour or grey, bright or dark ground: one microscope and stain."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)
    coloured = (pixels.max(-1) - pixels.min(-1)).mean() > 10
    return (pixels.shape[1], pixels.shape[0]), bool(coloured), bool(np.median(pixels) > 180)


def nucleus_diameter(mask: Path) -> float:
    """Median over the connected regions, in pixels at the demo's size; 0 without any."""
    foreground = np.asarray(Image.open(mask)) > 0
    regions, count = ndimage.label(foreground)
    areas = np.bincount(regions.ravel())[1:]
    scale = DEMO_SIZE / max(foreground.shape)
    return float(2 * np.sqrt(np.median(areas) / np.pi) * scale) if count else 0.0


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row with mean 0 and length 1, so that products are correlations."""
    centred: NDArray[np.float32] = rows - rows.mean(-1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=-1, keepdims=True) + 1e-6
    return centred


def fields(paths: list[Path]) -> list[list[Path]]:
    """Group images of one size that continue, or repeat, one another."""
    pictures = [Image.open(path).convert("L") for path in paths]
    pixels = np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])
    across = unit(pixels[:, :, -1]) @ unit(pixels[:, :, 0]).T
    down = unit(pixels[:, -1]) @ unit(pixels[:, 0]).T
    alike = (across > 0.95) | (down > 0.95)
    small = [np.asarray(picture.resize((64, 64), Image.Resampling.BOX)) for picture in pictures]
    flat = unit(np.stack(small).reshape(len(small), -1).astype(np.float32))
    spectra = np.fft.rfft2(flat.reshape(-1, 64, 64))
    for index, spectrum in enumerate(spectra):
        overlap = np.fft.irfft2(spectra * np.conj(spectrum)).max((-2, -1))
        alike[index] |= overlap > 0.6

    groups = np.arange(len(paths))
    for first, second in np.argwhere(alike):
        groups[groups == groups[first]] = groups[second]
    return [[paths[i] for i in np.flatnonzero(groups == group)] for group in np.unique(groups)]


def choose(source: Path) -> list[Path]:
    """One image per field, with rare looks over-represented, ordered by look."""
    sizes: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for path in sorted((source / "images").iterdir()):
        sizes[Image.open(path).size].append(path)
    random = np.random.default_rng(2018)
    looks: dict[Look, list[Path]] = defaultdict(list)
    for paths in sizes.values():
        for field in fields(paths):
            chosen = field[random.integers(len(field))]
            diameter = nucleus_diameter(source / "masks" / f"{chosen.stem}.png")
            if SMALLEST_NUCLEUS <= diameter <= LARGEST_NUCLEUS:
                looks[look(chosen)].append(chosen)

    taken = dict.fromkeys(looks, 0)
    for _ in range(IMAGES):
        open_looks = [key for key in looks if taken[key] < len(looks[key])]
        neediest = max(open_looks, key=lambda key: len(looks[key]) ** 0.5 / (taken[key] + 0.5))
        taken[neediest] += 1
    for key in sorted(looks):
        print(key, f"{taken[key]} of {len(looks[key])} fields")
    shuffled = {key: random.permutation(len(looks[key]))[: taken[key]] for key in sorted(looks)}
    return [looks[key][index] for key, order in shuffled.items() for index in order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()

    chosen = choose(arguments.source)
    names = [path.stem[:8] for path in chosen]
    if len(set(names)) < len(names):
        raise SystemExit("two images share their first eight digits; use longer names")
    for folder in ("images", "masks"):
        shutil.rmtree(arguments.target / folder, ignore_errors=True)
        (arguments.target / folder).mkdir(parents=True)
    for path, name in zip(chosen, names, strict=True):
        shutil.copyfile(path, arguments.target / "images" / f"{name}{path.suffix}")
        mask = arguments.source / "masks" / f"{path.stem}.png"
        shutil.copyfile(mask, arguments.target / "masks" / f"{name}.png")
    for part in ("train", "val", "test"):
        members = [n for i, n in enumerate(names) if PATTERN[i % len(PATTERN)] == part]
        text = "".join(f"{name}\n" for name in sorted(members))
        (arguments.target / f"{part}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
