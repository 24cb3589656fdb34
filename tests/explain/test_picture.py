from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data.builders import disk, noise
from medseg.explain.explanation import Explanation, Randomisation
from medseg.explain.picture import draw
from medseg.explain.scores import Faithfulness, Pointing


def explanation(size: tuple[int, int] = (16, 20)) -> Explanation:
    region = disk(size) > 0
    region[0, 0] = True
    return Explanation(
        map=np.linspace(0, 1, region.size, dtype=np.float32).reshape(size),
        region=region,
        label="nucleus",
        method="seg-grad-cam",
        layer="stages.3",
        steps=None,
        probability=0.9,
        faithfulness=Faithfulness(0.2, 0.8, 0.5, 0.6),
        pointing=Pointing(0.7, 1.0, 0.3),
        truth_pointing=None,
        randomisation=Randomisation(0.1, 0.2),
        completeness=None,
    )


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def test_the_same_explanation_is_drawn_to_the_same_bytes() -> None:
    one, again = (draw(noise(), explanation(), name="a") for _ in range(2))
    assert one == again
    assert opened(one).format == "PNG"


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 20)])
def test_images_of_any_shape_are_drawn(size: tuple[int, int]) -> None:
    picture = opened(draw(noise(0, size)[..., :1], explanation(size), name="long"))
    assert picture.width > 300
    assert picture.height > 80


def test_a_failed_check_is_written_on_the_picture() -> None:
    failing = replace(explanation(), randomisation=Randomisation(0.9, 0.9))
    fine, warned = (opened(draw(noise(), each)) for each in (explanation(), failing))
    warning = (0xA3, 0x3C, 0x00)

    def coloured(picture: Image.Image) -> int:
        near = np.abs(np.asarray(picture.convert("RGB")).astype(int) - warning).max(axis=2) < 12
        # Above the panels.
        return int(near[: round(0.25 * picture.height)].sum())

    assert coloured(warned) > 200 > coloured(fine)


def test_names_are_shown_as_they_are_whatever_they_hold() -> None:
    odd = replace(explanation(), label="核 $\\frac{1}$ <b>")
    assert opened(draw(noise(), odd, name="größe $x$ " * 30)).width > 300


def test_the_truth_changes_the_picture() -> None:
    plain = draw(noise(), explanation())
    assert draw(noise(), explanation(), truth=disk(radius=6) > 0) != plain
