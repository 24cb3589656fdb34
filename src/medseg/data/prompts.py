"""What a user points at in an image: clicks, boxes, scribbles, an earlier mask, words, examples.

Everything is in the image's own pixels: ``x`` counts columns from the left and ``y`` rows from the
top, both from 0. A box is given by its edges, as in slicing: it holds the columns ``x0`` to
``x1 - 1`` and the rows ``y0`` to ``y1 - 1``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.errors import DataError, MedsegError, ModelError

Kind = Literal["point", "box", "scribble", "mask", "text", "support"]
KINDS: tuple[Kind, ...] = get_args(Kind)

IN_WORDS: Mapping[Kind, str] = {
    "point": "points",
    "box": "boxes",
    "scribble": "scribbles",
    "mask": "an earlier mask",
    "text": "text",
    "support": "examples with masks",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A click on the pixel in column ``x`` and row ``y``.

    Attributes:
        x: column.
        y: row.
        positive: whether the pixel belongs to what is wanted.
    """

    x: int
    y: int
    positive: bool = True

    def __str__(self) -> str:
        return f"{self.x},{self.y}{'' if self.positive else ',-'}"


@dataclass(frozen=True, slots=True)
class Box:
    """Around what is wanted: columns ``x0`` to ``x1 - 1``, rows ``y0`` to ``y1 - 1``."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __str__(self) -> str:
        return f"{self.x0},{self.y0},{self.x1},{self.y1}"


@dataclass(frozen=True, eq=False, slots=True)
class Prompts:
    """All that says what is wanted of one image.

    Attributes:
        points: clicks, in the order they were made.
        boxes: around what is wanted.
        scribbles: ``(2, H, W)`` float32 in 0..1: what was drawn on the structure, and beside it.
        mask: ``(H, W)`` float32 in 0..1: an earlier mask, or its probabilities, to start from.
        text: what is wanted, in words; empty where nothing is said.
        support: examples, each an image ``(H, W, C)`` uint8 and its mask ``(H, W)`` bool.
    """

    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    scribbles: NDArray[np.float32] | None = None
    mask: NDArray[np.float32] | None = None
    text: str = ""
    support: tuple[tuple[NDArray[np.uint8], NDArray[np.bool_]], ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Which kinds of prompts there are."""
        given = {
            "point": bool(self.points),
            "box": bool(self.boxes),
            "scribble": self.scribbles is not None,
            "mask": self.mask is not None,
            "text": bool(self.text),
            "support": bool(self.support),
        }
        return tuple(kind for kind in KINDS if given[kind])

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __add__(self, more: Prompts) -> Prompts:
        """Both together: of a pixel clicked twice the later click counts, of a pixel drawn on twice
        the stronger stroke, and of masks and texts the later one."""
        again = {(point.x, point.y) for point in more.points}
        kept = tuple(point for point in self.points if (point.x, point.y) not in again)
        if self.scribbles is not None and more.scribbles is not None:
            drawn: NDArray[np.float32] | None = np.maximum(self.scribbles, more.scribbles)
        else:
            drawn = more.scribbles if self.scribbles is None else self.scribbles
        return Prompts(
            points=kept + more.points,
            boxes=self.boxes + more.boxes,
            scribbles=drawn,
            mask=self.mask if more.mask is None else more.mask,
            text=more.text or self.text,
            support=self.support + more.support,
        )

    def check(self, height: int, width: int) -> None:
        """Whether all of it lies in an image of ``height`` x ``width`` pixels.

        Raises:
            DataError: something lies outside, has another size, or values that it cannot have.
        """
        image = f"the image has {width} x {height} pixels"
        for point in self.points:
            if not (0 <= point.x < width and 0 <= point.y < height):
                raise DataError(
                    f"point {point}", f"it lies outside: {image}",
                    f"Give x of 0 to {width - 1} and y of 0 to {height - 1}",
                )  # fmt: skip
        for box in self.boxes:
            if not (0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height):
                raise DataError(
                    f"box {box}", f"it is no box in the image: {image}",
                    f"Give left,top,right,bottom with 0 <= left < right <= {width} and "
                    f"0 <= top < bottom <= {height}",
                )  # fmt: skip
        for name, values, shape in (
            ("scribbles", self.scribbles, (2, height, width)),
            ("mask", self.mask, (height, width)),
        ):
            if values is None:
                continue
            if values.shape != shape:
                raise DataError(
                    name, f"an array of shape {values.shape}: {image}", f"Give an array of {shape}"
                )
            if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
                raise DataError(name, "not all values are in 0 to 1", "Scale them")
        for picture, outline in self.support:
            if picture.shape[:2] != outline.shape:
                raise DataError(
                    "support",
                    f"an image of shape {picture.shape} has a mask of {outline.shape}",
                    "Give masks of their images' sizes",
                )

    def require(self, taken: Collection[str], system: str) -> None:
        """Whether ``system`` takes all of these kinds.

        Raises:
            ModelError: it does not, or there is nothing but what it starts from.
        """
        for kind in self.kinds:
            if kind not in taken:
                raise ModelError(
                    system, f"it does not take {IN_WORDS[kind]}", f"It takes {in_words(taken)}"
                )
        if set(self.kinds) <= {"mask"}:
            raise ModelError(
                system,
                "it segments what it is pointed at, and nothing is pointed at",
                f"Give {in_words(kind for kind in taken if kind != 'mask')}",
            )


def in_words(kinds: Iterable[str]) -> str:
    """``"points, boxes or scribbles"``, in the order of ``KINDS``."""
    wanted = set(kinds)
    names = [IN_WORDS[kind] for kind in KINDS if kind in wanted]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def parse_point(text: str) -> Point:
    """``x,y``, ``x,y,+`` or, for what is not wanted, ``x,y,-``.

    Raises:
        MedsegError: anything else.
    """
    *numbers, sign = text.split(",") if text.count(",") == 2 else [*text.split(","), "+"]
    try:
        x, y = (int(number) for number in numbers)
        if sign.strip() not in ("+", "-"):
            raise ValueError
    except ValueError:
        raise MedsegError(
            f"--point {text}", "it is not a point",
            "Give column,row in whole pixels, e.g. 120,64, or 120,64,- for what is not wanted",
        ) from None  # fmt: skip
    return Point(x, y, sign.strip() == "+")


def parse_box(text: str) -> Box:
    """``x0,y0,x1,y1``.

    Raises:
        MedsegError: anything else.
    """
    try:
        x0, y0, x1, y1 = (int(number) for number in text.split(","))
    except ValueError:
        raise MedsegError(
            f"--box {text}", "it is not a box",
            "Give left,top,right,bottom in whole pixels, e.g. 30,20,90,75",
        ) from None  # fmt: skip
    return Box(x0, y0, x1, y1)


def read_scribbles(path: Path) -> NDArray[np.float32]:
    """A picture with strokes: white or green ones on the structure, red ones beside it.

    Black and transparent pixels say nothing. Grey counts as white from the middle of its range.

    Returns:
        ``(2, H, W)`` float32, 0 or 1.

    Raises:
        DataError: it cannot be read, or nothing is drawn in it.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(path, f"it cannot be read ({error})", "Give a PNG with strokes") from error
    red, green, opaque = values[..., 0], values[..., 1], values[..., 3] >= 128
    on = opaque & (green >= 128) & (green >= red)
    beside = opaque & (red >= 128) & (red > green)
    if not (on.any() or beside.any()):
        raise DataError(
            path, "nothing is drawn in it",
            "Draw on the structure in white or green, and beside it in red, on black",
        )  # fmt: skip
    return np.stack([on, beside]).astype(np.float32)


def at_size(prompts: Prompts, height: int, width: int, side: int) -> Prompts:
    """Prompts in an image, in pixels of it resized to ``side`` x ``side``.

    A point goes to the pixel that its centre falls in; a box covers every pixel that it touches.
    A stroke stays as strong as it was where the image becomes smaller, so that thin ones do not
    fade. Words and examples stay as they are.
    """
    if (height, width) == (side, side):
        return prompts
    return replace(
        prompts,
        points=tuple(
            Point(
                (2 * point.x + 1) * side // (2 * width),
                (2 * point.y + 1) * side // (2 * height),
                point.positive,
            )
            for point in prompts.points
        ),
        boxes=tuple(
            Box(
                box.x0 * side // width,
                box.y0 * side // height,
                -(-box.x1 * side // width),
                -(-box.y1 * side // height),
            )
            for box in prompts.boxes
        ),
        scribbles=None if prompts.scribbles is None else _strokes(prompts.scribbles, side),
        mask=None if prompts.mask is None else _smooth(prompts.mask, side),
    )


def _strokes(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    for axis in (1, 2):
        length = values.shape[axis]
        if length > side:
            # Every place belongs to the place its centre falls in; of several the largest stays.
            target = ((np.arange(length) + 0.5) * side / length).astype(np.intp)
            values = np.maximum.reduceat(values, np.searchsorted(target, np.arange(side)), axis)
        else:
            source = ((np.arange(side) + 0.5) * length / side).astype(np.intp)
            values = values.take(source, axis)
    return np.ascontiguousarray(values)


def _smooth(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)).clip(0, 1)
