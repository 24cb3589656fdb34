import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medseg.data.case import Label, LabelMap
from medseg.report.overlay import (
    CLASS_COLOURS,
    draw_contours,
    mask_thumbnail,
    outline,
    thumbnail,
    to_rgb,
)

TWO = LabelMap((Label("background", 0), Label("disc", 1), Label("cup", 2)))


def black(height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), dtype=np.uint8)


def test_a_square_gets_a_closed_one_pixel_frame_in_its_classs_colour() -> None:
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[3:9, 3:9] = 2
    drawn = (draw_contours(black(12, 12), mask, labels=TWO) == CLASS_COLOURS[1]).all(axis=2)
    frame = mask == 2
    frame[4:8, 4:8] = False
    np.testing.assert_array_equal(drawn, frame)


def test_the_line_is_wider_on_a_larger_picture() -> None:
    mask = np.zeros((1000, 800), dtype=np.uint8)
    mask[100:900, 100:700] = 1
    drawn = draw_contours(black(1000, 800), mask, labels=TWO).any(axis=2)
    assert drawn[500, 100:105].all()
    assert not drawn[500, 105]


def test_a_mask_that_covers_everything_is_framed() -> None:
    drawn = draw_contours(black(9, 9), np.ones((9, 9), dtype=np.uint8), labels=TWO).any(axis=2)
    assert drawn[0].all()
    assert not drawn[1:-1, 1:-1].any()


def test_the_truth_is_dashed_black_and_white_and_the_prediction_lies_on_top() -> None:
    grey = np.full((40, 40, 3), 128, dtype=np.uint8)
    truth = np.zeros((40, 40), dtype=np.uint8)
    truth[10:30, 10:30] = 1
    mask = np.zeros_like(truth)
    mask[10:30, 20:38] = 1
    drawn = draw_contours(grey, mask, truth=truth, labels=TWO)
    shades = {tuple(pixel) for pixel in drawn[10:30, 10].tolist()}
    assert shades == {(0, 0, 0), (255, 255, 255)}
    assert tuple(drawn[10, 25]) == CLASS_COLOURS[0]


def test_the_image_itself_is_not_changed() -> None:
    image = black(8, 8)
    draw_contours(image, np.ones((8, 8), dtype=np.uint8), labels=TWO)
    assert not image.any()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_becomes_rgb(channels: int) -> None:
    image = np.arange(5 * 6 * channels, dtype=np.uint8).reshape(5, 6, channels)
    rgb = to_rgb(image)
    assert rgb.shape == (5, 6, 3)
    np.testing.assert_array_equal(rgb[..., 0], image[..., 0])


def test_a_mask_of_another_size_or_with_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        draw_contours(black(8, 8), np.zeros((8, 9), dtype=np.uint8), labels=TWO)
    with pytest.raises(ValueError, match="class 3 of 3"):
        draw_contours(black(8, 8), np.full((8, 8), 3, dtype=np.uint8), labels=TWO)


@given(arrays(np.bool_, (7, 9)), st.integers(1, 3))
def test_an_outline_lies_inside_its_region_and_grows_with_its_width(
    region: NDArray[np.bool_], width: int
) -> None:
    line = outline(region, width)
    assert not (line & ~region).any()
    assert not (line & ~outline(region, width + 1)).any()
    assert line.any() == region.any()


@pytest.mark.parametrize("size", [(300, 200), (20, 31), (1, 400)])
def test_picture_and_mask_thumbnails_have_one_size_and_invent_no_class(
    size: tuple[int, int],
) -> None:
    mask = np.zeros(size, dtype=np.uint8)
    mask[:, size[1] // 2 :] = 2
    small = mask_thumbnail(mask, 64)
    assert small.shape == thumbnail(black(*size), 64).shape[:2]
    assert max(small.shape) == 64
    assert set(np.unique(small)) <= {0, 2}
