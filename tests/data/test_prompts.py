from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.prompts import (
    Box,
    Point,
    Prompts,
    at_size,
    in_words,
    parse_box,
    parse_point,
    read_scribbles,
)
from medseg.errors import DataError, MedsegError, ModelError

from .builders import save


def strokes(*marked: tuple[int, int, int], size: tuple[int, int] = (4, 6)) -> np.ndarray:
    drawn = np.zeros((2, *size), np.float32)
    for which, y, x in marked:
        drawn[which, y, x] = 1
    return drawn


def test_a_point_is_read_with_and_without_its_sign() -> None:
    assert parse_point("3,4") == parse_point("3,4,+") == Point(3, 4)
    assert parse_point(" 3, 4, -") == Point(3, 4, positive=False)


@pytest.mark.parametrize("text", ["", "3", "3,4,5", "3,4,x", "3.5,4", "3,4,+,+", "a,b", "3,,-"])
def test_what_is_no_point_is_an_error_that_shows_one(text: str) -> None:
    with pytest.raises(MedsegError, match="120,64,-"):
        parse_point(text)


def test_a_box_is_read() -> None:
    assert parse_box("1,2,30, 40") == Box(1, 2, 30, 40)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3.5,4"])
def test_what_is_no_box_is_an_error_that_shows_one(text: str) -> None:
    with pytest.raises(MedsegError, match="30,20,90,75"):
        parse_box(text)


@pytest.mark.parametrize("point", [Point(6, 0), Point(0, 4), Point(-1, 0), Point(0, -1)])
def test_a_point_outside_the_image_is_an_error_that_says_how_large_it_is(point: Point) -> None:
    with pytest.raises(DataError, match="6 x 4 pixels"):
        Prompts(points=(point,)).check(4, 6)


@pytest.mark.parametrize(
    "box", [Box(0, 0, 7, 4), Box(0, 0, 6, 5), Box(3, 1, 3, 2), Box(1, 2, 4, 1), Box(-1, 0, 2, 2)]
)
def test_a_box_that_leaves_the_image_or_is_empty_is_an_error(box: Box) -> None:
    with pytest.raises(DataError, match="left,top,right,bottom"):
        Prompts(boxes=(box,)).check(4, 6)


def test_what_fills_the_image_is_no_error() -> None:
    Prompts(
        points=(Point(0, 0), Point(5, 3)),
        boxes=(Box(0, 0, 6, 4),),
        scribbles=np.ones((2, 4, 6), np.float32),
        mask=np.zeros((4, 6), np.float32),
    ).check(4, 6)


@pytest.mark.parametrize(
    ("prompts", "found"),
    [
        (Prompts(scribbles=np.zeros((2, 4, 5), np.float32)), r"\(2, 4, 5\)"),
        (Prompts(scribbles=np.full((2, 4, 6), 1.5, np.float32)), "0 to 1"),
        (Prompts(mask=np.zeros((6, 4), np.float32)), r"\(6, 4\)"),
        (Prompts(mask=np.full((4, 6), np.nan, np.float32)), "0 to 1"),
        (
            Prompts(support=((np.zeros((3, 3, 1), np.uint8), np.zeros((2, 3), bool)),)),
            r"\(2, 3\)",
        ),
    ],
)
def test_an_array_of_another_size_or_range_is_an_error(prompts: Prompts, found: str) -> None:
    with pytest.raises(DataError, match=found):
        prompts.check(4, 6)


def test_a_kind_that_is_not_taken_is_an_error_that_says_what_is() -> None:
    with pytest.raises(ModelError, match=r"does not take text\. It takes points or boxes"):
        Prompts(points=(Point(1, 1),), text="liver").require(("point", "box"), "some-system")


@pytest.mark.parametrize("nothing", [Prompts(), Prompts(mask=np.zeros((4, 6), np.float32))])
def test_pointing_at_nothing_is_an_error_even_with_an_earlier_mask(nothing: Prompts) -> None:
    with pytest.raises(ModelError, match=r"nothing is pointed at\. Give points or scribbles"):
        nothing.require(("point", "scribble", "mask"), "some-system")


def test_kinds_are_named_in_one_order() -> None:
    assert in_words(["scribble", "point", "box"]) == "points, boxes or scribbles"
    assert in_words(["text"]) == "text"


def test_of_a_pixel_that_is_clicked_twice_the_later_click_counts() -> None:
    first = Prompts(points=(Point(1, 1), Point(2, 2)))
    assert (first + Prompts(points=(Point(1, 1, False),))).points == (
        Point(2, 2),
        Point(1, 1, False),
    )


def test_adding_keeps_everything_that_was_there() -> None:
    whole = Prompts(boxes=(Box(0, 0, 2, 2),), scribbles=strokes((0, 1, 1)), text="liver")
    whole += Prompts(points=(Point(0, 0),), scribbles=strokes((1, 2, 2)))
    assert whole.kinds == ("point", "box", "scribble", "text")
    assert whole.scribbles is not None
    np.testing.assert_array_equal(whole.scribbles, strokes((0, 1, 1), (1, 2, 2)))


@given(
    x=st.integers(0, 1000),
    y=st.integers(0, 1000),
    width=st.integers(1, 1001),
    height=st.integers(1, 1001),
    side=st.integers(1, 300),
)
def test_a_point_goes_to_the_pixel_that_holds_its_centre(
    x: int, y: int, width: int, height: int, side: int
) -> None:
    x, y = x % width, y % height
    moved = at_size(Prompts(points=(Point(x, y),)), height, width, side)
    moved.check(side, side)
    (point,) = moved.points
    assert point.x <= (x + 0.5) * side / width + 1e-9 < point.x + 1 + 2e-9
    assert point.y <= (y + 0.5) * side / height + 1e-9 < point.y + 1 + 2e-9


@given(
    edges=st.tuples(*[st.integers(0, 400)] * 4),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    side=st.integers(1, 300),
)
def test_a_box_covers_every_pixel_it_touches_and_no_other(
    edges: tuple[int, int, int, int], width: int, height: int, side: int
) -> None:
    x0, y0 = edges[0] % width, edges[1] % height
    box = Box(x0, y0, x0 + 1 + edges[2] % (width - x0), y0 + 1 + edges[3] % (height - y0))
    moved = at_size(Prompts(boxes=(box,)), height, width, side)
    moved.check(side, side)
    (found,) = moved.boxes
    # In units of 1 / (side * width) nothing is rounded.
    assert found.x0 * width <= box.x0 * side < (found.x0 + 1) * width
    assert (found.x1 - 1) * width < box.x1 * side <= found.x1 * width
    assert found.y0 * height <= box.y0 * side < (found.y0 + 1) * height
    assert (found.y1 - 1) * height < box.y1 * side <= found.y1 * height


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(1, 60),
    place=st.integers(0, 8099),
)
def test_a_single_drawn_pixel_is_there_at_any_size_where_its_point_would_be(
    height: int, width: int, side: int, place: int
) -> None:
    y, x = divmod(place % (height * width), width)
    drawn = np.zeros((2, height, width), np.float32)
    drawn[1, y, x] = 0.75
    prompts = Prompts(scribbles=drawn, points=(Point(x, y),))
    moved = at_size(prompts, height, width, side)
    moved.check(side, side)
    assert moved.scribbles is not None
    if height >= side and width >= side:
        (point,) = moved.points
        assert moved.scribbles[1, point.y, point.x] == 0.75
        assert np.count_nonzero(moved.scribbles) == 1
    assert not moved.scribbles[0].any()


def test_prompts_at_their_own_size_stay_as_they_are() -> None:
    prompts = Prompts(points=(Point(1, 2),), scribbles=strokes((0, 1, 1), size=(4, 4)))
    assert at_size(prompts, 4, 4, 4) is prompts


def test_an_earlier_mask_is_resized_smoothly() -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[:, 4:] = 1
    moved = at_size(Prompts(mask=mask), 8, 8, 4).mask
    assert moved is not None
    assert moved.shape == (4, 4)
    assert (moved[:, 0] == 0).all()
    assert (np.diff(moved, axis=1) >= 0).all()
    assert moved.mean() == pytest.approx(0.5)


def test_strokes_are_white_or_green_on_the_structure_and_red_beside_it(tmp_path: Path) -> None:
    picture = np.zeros((3, 4, 3), np.uint8)
    picture[0, 0] = 255
    picture[0, 1] = (0, 200, 0)
    picture[2, 3] = (220, 30, 30)
    picture[1, 1] = 60
    found = read_scribbles(save(tmp_path / "s.png", picture))
    np.testing.assert_array_equal(found, strokes((0, 0, 0), (0, 0, 1), (1, 2, 3), size=(3, 4)))


def test_transparent_pixels_are_no_strokes(tmp_path: Path) -> None:
    picture = np.full((2, 2, 4), 255, np.uint8)
    picture[1, :, 3] = 0
    found = read_scribbles(save(tmp_path / "s.png", picture))
    np.testing.assert_array_equal(found[0], [[1, 1], [0, 0]])


def test_a_picture_without_strokes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is drawn"):
        read_scribbles(save(tmp_path / "s.png", np.zeros((3, 4), np.uint8)))


def test_a_file_that_is_no_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "s.png").write_text("no picture")
    with pytest.raises(DataError, match=r"s\.png"):
        read_scribbles(tmp_path / "s.png")
