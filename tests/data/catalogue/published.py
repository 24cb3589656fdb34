"""Small files laid out as public datasets are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.builders import disk, noise, save


def kvasir(root: Path, count: int = 4) -> Path:
    for i in range(count):
        save(root / "images" / f"cju{i}.jpg", noise(i))
        save(root / "masks" / f"cju{i}.jpg", disk(radius=4 + i % 3), quality=95)
    return root


def glas(root: Path) -> Path:
    """Masks that number their glands."""
    for i, name in enumerate(("train_1", "train_2", "testA_1", "testB_1")):
        save(root / f"{name}.bmp", noise(i))
        mask = np.zeros((16, 20), np.uint8)
        for gland in range(1, 4 + i):
            mask[gland * 2, 2:9] = gland
        save(root / f"{name}_anno.bmp", mask)
    return root


def drive(root: Path) -> Path:
    """The left column of every image lies outside the field of view."""
    for part, numbers in (("training", (21, 22, 23)), ("test", (1, 2))):
        for number in numbers:
            stem = f"{number:02}_{part}"
            save(root / part / "images" / f"{stem}.tif", noise(number))
            save(root / part / "1st_manual" / f"{number:02}_manual1.gif", disk(), optimize=False)
            save(root / part / "2nd_manual" / f"{number:02}_manual2.gif", disk(), optimize=False)
            view = np.full((16, 20), 255, np.uint8)
            view[:, 0] = 0
            save(root / part / "mask" / f"{stem}_mask.gif", view, optimize=False)
    return root


def busi(root: Path) -> Path:
    """Two lesions in one image, each with a mask of its own; normal tissue with an empty one."""
    for i, kind in enumerate(("benign", "malignant", "normal")):
        for number in (1, 2):
            stem = f"{kind} ({number})"
            save(root / kind / f"{stem}.png", noise(10 * i + number))
            value = 0 if kind == "normal" else 255
            save(root / kind / f"{stem}_mask.png", disk(value=value))
    second = np.zeros((16, 20), np.uint8)
    second[:2, :2] = 255
    save(root / "benign" / "benign (1)_mask_1.png", second)
    return root


def chase(root: Path) -> Path:
    for i, stem in enumerate(("Image_01L", "Image_01R", "Image_11L", "Image_11R")):
        save(root / f"{stem}.jpg", noise(i))
        save(root / f"{stem}_1stHO.png", disk())
        save(root / f"{stem}_2ndHO.png", disk(radius=6))
    return root


def isic(root: Path) -> Path:
    for i, part in enumerate(("Training", "Test")):
        for k in range(2):
            stem = f"ISIC_{i}00000{k}"
            save(root / f"ISBI2016_ISIC_Part1_{part}_Data" / f"{stem}.jpg", noise(5 * i + k))
            folder = root / f"ISBI2016_ISIC_Part1_{part}_GroundTruth"
            save(folder / f"{stem}_Segmentation.png", disk(radius=3 + k))
    return root


def montgomery(root: Path) -> Path:
    """The left lung in one folder, the right one in another."""
    for i in range(3):
        name = f"MCUCXR_000{i}_0.png"
        save(root / "CXR_png" / name, noise(i, channels=1))
        for side, columns in (("left", slice(0, 5)), ("right", slice(12, 18))):
            mask = np.zeros((16, 20), np.uint8)
            mask[4:12, columns] = 255
            save(root / "ManualMask" / f"{side}Mask" / name, mask)
    return root
