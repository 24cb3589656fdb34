"""NumPy archives.

Understood:

- MedSegBench: one file with ``train_images`` (N, H, W) or (N, H, W, 3) and ``train_label``
  (N, H, W), likewise ``val_`` and ``test_``: a published split (Kus and Aydin 2024,
  doi:10.1038/s41597-024-04159-2);
- MedSAM: a folder of files with ``imgs`` and ``gts``, each (H, W) or (H, W, 3) with (H, W), or a
  volume (D, H, W) with (D, H, W), whose slices become cases and whose file is their patient;
- the same with the names ``image`` and ``label``, as TransUNet's Synapse slices have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.data.arrays import Header, InArray, array_names, read_headers, shape_text
from medseg.data.case import SPLITS, Case, Dataset, Problem, Split
from medseg.data.layouts.names import labels_beside, nfc
from medseg.errors import DataError

NAME = "npz"
DECLARED = False
SUFFIX = ".npz"
PAIRS = (("imgs", "gts"), ("image", "label"))


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    files = _files(root)
    if not files:
        return None
    names = array_names(files[0])
    if names is None:
        return f"{files[0].name} is called like a file of arrays"
    if _is_bench(names):
        return f"{files[0].name} holds {', '.join(n for n in names if n.endswith('_images'))}"
    pair = _pair(names)
    if pair is None:
        return None
    return f"{len(files)} .npz files hold {pair[0]}" + (
        f" and {pair[1]}" if pair[1] in names else ""
    )


def read(root: Path) -> Dataset:
    """List the pictures of the arrays; arrays that cannot be used become error problems.

    Raises:
        DataError: no such file, or none that can be used.
    """
    files = _files(root)
    if not files:
        raise DataError(root, "holds no .npz file", "Name an .npz file or a folder of them")
    reason = recognise(root) or f"{len(files)} .npz files"
    cases: list[Case] = []
    problems: list[Problem] = []
    folder = root if root.is_dir() else root.parent
    for file in files:
        try:
            headers = read_headers(file)
        except DataError as error:
            problems.append(
                Problem("error", "unreadable-array", error.where, error.found, error.remedy)
            )
            continue
        if _is_bench(tuple(headers)) and len(files) > 1:
            problems.append(
                Problem(
                    "error",
                    "several-datasets",
                    str(file),
                    f"is a dataset of its own beside {len(files) - 1} other files",
                    "Name the one .npz file that is meant",
                )
            )
        elif _is_bench(tuple(headers)):
            found, wrong = _bench(file, headers)
            cases += found
            problems += wrong
        else:
            below = file.relative_to(folder)
            found, wrong = subject_cases(
                nfc((below.parent / below.stem).as_posix()), file, headers, PAIRS
            )
            cases += found
            problems += wrong
    if not cases:
        raise nothing_usable(root, problems)
    cases.sort(key=lambda case: case.id)
    return Dataset(root, NAME, reason, tuple(cases), labels_beside(folder), tuple(problems))


def nothing_usable(root: Path, problems: Sequence[Problem]) -> DataError:
    """Why there is not a single case, by the first problem."""
    if not problems:
        return DataError(root, "holds no arrays", "Name a file or folder of arrays")
    first = problems[0]
    if len(problems) == 1:
        return DataError(first.where, first.found, first.remedy)
    return DataError(
        root,
        f"none of its files can be used; first of {len(problems)} errors: {first.where}: "
        f"{first.found}",
        first.remedy,
    )


def subject_cases(
    name: str,
    file: Path,
    headers: Mapping[str, Header],
    pairs: Sequence[tuple[str, str]],
    *,
    axis: int = 0,
    patient: str | None = None,
    split: Split | None = None,
) -> tuple[list[Case], list[Problem]]:
    """The cases of a file that holds one image or volume and perhaps its mask.

    Args:
        name: of the case, or of the volume.
        file: the ``.npz`` or ``.h5`` file.
        headers: what it holds.
        pairs: names of the image and the mask, in the order of preference.
        axis: of a volume, along which its slices lie.
        patient: when None, a volume is its own patient.
        split: the published part.
    """
    pair = _pair(tuple(headers), pairs)
    if pair is None:
        found = ", ".join(headers) or "nothing"
        wanted = " or ".join(image for image, _ in pairs)
        return [], [_problem(file, f"holds no {wanted}, only {found}", "Export it again")]
    image = headers[pair[0]].shape
    mask = headers[pair[1]].shape if pair[1] in headers else None
    is_volume = len(image) == 3 and image[2] != 3 if mask is None else len(mask) == 3
    pixels = image[: 3 if is_volume else 2]
    wrong = _wrong_shape(image, volume=is_volume)
    if wrong or mask not in (None, pixels):
        found = f"{pair[0]} is {shape_text(image)}" + (
            f", {pair[1]} {shape_text(mask)}" if mask is not None else ""
        )
        return [], [
            _problem(
                file,
                found,
                "Images are (H, W) or (H, W, 3) with masks (H, W); volumes (D, H, W) or "
                "(D, H, W, 3) with masks (D, H, W)",
            )
        ]
    if not is_volume:
        label = InArray(file, pair[1]) if mask is not None else None
        return [Case(name, InArray(file, pair[0]), label, patient, split)], []
    return [
        Case(
            f"{name}/slice_{index:03d}",
            InArray(file, pair[0], index, axis, volume=True),
            InArray(file, pair[1], index, axis) if mask is not None else None,
            patient or name,
            split,
        )
        for index in range(pixels[axis])
    ], []


def _files(root: Path) -> list[Path]:
    """The files of a dataset: the one named, those in a folder, or those in its subfolders."""
    if root.is_file():
        return [root] if root.suffix.lower() == SUFFIX else []
    if not root.is_dir():
        return []
    for pattern in ("*.npz", "*/*.npz"):
        found = sorted(path for path in root.glob(pattern) if not path.name.startswith("."))
        if found:
            return found
    return []


def _is_bench(names: tuple[str, ...]) -> bool:
    return any(name.split("_", 1)[-1].startswith("images") for name in names if _part(name))


def _part(name: str) -> Split | None:
    return next((split for split in SPLITS if name.startswith(f"{split}_")), None)


def _pair(names: Sequence[str], pairs: Sequence[tuple[str, str]] = PAIRS) -> tuple[str, str] | None:
    return next((pair for pair in pairs if pair[0] in names), None)


def _bench(file: Path, headers: Mapping[str, Header]) -> tuple[list[Case], list[Problem]]:
    cases: list[Case] = []
    problems: list[Problem] = []
    variants = sorted({name for name in headers if _part(name) and _variant(name)})
    if variants:
        problems.append(
            _problem(
                file,
                f"holds several sets of images or labels: {', '.join(variants)}",
                "Save the arrays that are meant as train_images, train_label and so on in a file "
                "of their own",
            )
        )
    for split in SPLITS:
        images, labels = f"{split}_images", f"{split}_label"
        if images not in headers and labels not in headers:
            continue
        if images not in headers:
            problems.append(_problem(file, f"holds {labels} but no {images}", "Add the images"))
            continue
        image = headers[images].shape
        if _wrong_shape(image, volume=True):
            found = f"{images} is {shape_text(image)}"
            problems.append(_problem(file, found, "Images are (N, H, W) or (N, H, W, 3)"))
            continue
        label = headers.get(labels)
        if label is None:
            problems.append(
                Problem(
                    "warning",
                    "unpaired-image",
                    str(file),
                    f"holds {images} but no {labels}: {image[0]} images are unlabelled",
                    "They are not used for supervised training",
                )
            )
        elif _without_last(label.shape) != image[:3]:
            problems.append(
                _problem(
                    file,
                    f"{images} is {shape_text(image)}, {labels} {shape_text(label.shape)}",
                    f"{labels} must be {shape_text(image[:3])}",
                )
            )
            continue
        digits = max(4, len(str(image[0] - 1)))
        cases += [
            Case(
                f"{split}/{index:0{digits}d}",
                InArray(file, images, index),
                InArray(file, labels, index) if label is not None else None,
                split=split,
            )
            for index in range(image[0])
        ]
    return cases, problems


def _variant(name: str) -> bool:
    return name.split("_", 1)[1] not in ("images", "label")


def _without_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-1] if len(shape) == 4 and shape[-1] == 1 else shape


def _wrong_shape(shape: tuple[int, ...], *, volume: bool) -> bool:
    axes = 3 if volume else 2
    coloured = len(shape) == axes + 1 and shape[-1] in (1, 3, 4)
    return 0 in shape or not (len(shape) == axes or coloured)


def _problem(file: Path, found: str, remedy: str) -> Problem:
    return Problem("error", "array-shape", str(file), found, remedy)
