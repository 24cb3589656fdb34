from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.data.shapes import Polygons, Runs, Shapes, fill_polygon, fill_runs, parse_counts
from medseg.errors import DataError

from .builders import noise, save
from .outlines import compressed, one_ring, run_lengths

Mask = NDArray[np.bool_]
HERE = Path("list.json")

masks = (
    st.integers(1, 9)
    .flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=9
        )
    )
    .map(lambda rows: np.array(rows, bool))
)


def shapes(*objects: Polygons | Runs, size: tuple[int, int] | None = (6, 8)) -> Shapes:
    return Shapes(HERE, objects, size, HERE)


def filled(corners: list[tuple[float, float]], height: int = 6, width: int = 8) -> Mask:
    return fill_polygon(np.array(corners, np.float64), height, width)


@given(masks)
def test_run_lengths_keep_every_pixel(mask: Mask) -> None:
    lengths = run_lengths(mask)
    assert np.array_equal(fill_runs(np.array(lengths), *mask.shape), mask)
    assert parse_counts(compressed(lengths)).tolist() == lengths


@given(masks)
def test_a_polygon_along_the_edges_of_pixels_keeps_every_pixel(mask: Mask) -> None:
    ring = one_ring(mask)
    read = shapes(Polygons.of(1, [ring] if ring else []), size=mask.shape).read_mask()
    assert np.array_equal(read.values, mask)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("05d0", [0, 5, 20]),
        ("061M", [0, 6, 1, 3]),
        ("0610", [0, 6, 1, 6]),
        ("011101010", [0, 1, 1, 2, 1, 3, 1, 4, 1]),
        ("0PP1", [0, 1024]),
    ],
)
def test_strings_of_the_coco_api_are_read(text: str, lengths: list[int]) -> None:
    assert parse_counts(text).tolist() == lengths


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_numbers_of_any_length_are_read(lengths: list[int]) -> None:
    assert parse_counts(compressed(lengths)).tolist() == lengths


@pytest.mark.parametrize("text", ["", "P", "05d", " ", "é", "画", "p", "PPPPPPP0"])
def test_text_that_is_no_run_lengths_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"characters|number"):
        parse_counts(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        lengths = parse_counts(text)
    except ValueError:
        return
    assert compressed(lengths.tolist())


def test_pixels_belong_to_a_polygon_by_their_centre() -> None:
    rows, columns = np.nonzero(filled([(1.4, 1.4), (3.6, 1.4), (3.6, 2.6), (1.4, 2.6)]))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3),
    }  # fmt: skip
    assert not filled([(1.6, 1.6), (2.4, 1.6), (2.4, 2.4), (1.6, 2.4)]).any()


def test_a_large_disk_has_the_area_of_its_polygon() -> None:
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    corners = 100 + 70 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    polygon = Polygons.of(1, [corners.ravel().tolist()])
    assert polygon.area == pytest.approx(np.pi * 70**2, rel=1e-3)
    assert fill_polygon(corners, 200, 200).sum() == pytest.approx(polygon.area, rel=2e-3)


points = st.tuples(st.floats(-3, 12), st.floats(-3, 12))


@given(st.lists(points, min_size=3, max_size=8))
def test_the_direction_and_the_first_corner_do_not_matter(
    corners: list[tuple[float, float]],
) -> None:
    expected = filled(corners)
    assert np.array_equal(filled(corners[::-1]), expected)
    assert np.array_equal(filled([*corners[2:], *corners[:2]]), expected)


@given(points, points, points, points)
def test_each_pixel_belongs_to_one_of_two_polygons_with_a_common_edge(
    a: tuple[float, float],
    b: tuple[float, float],
    c: tuple[float, float],
    d: tuple[float, float],
) -> None:
    together = filled([a, b, c]) ^ filled([a, c, d])
    assert np.array_equal(together, filled([a, b, c, d]))


def test_what_lies_outside_the_image_is_cut_off() -> None:
    assert filled([(-50, -50), (50, -50), (50, 50), (-50, 50)]).all()
    assert not filled([(-9, 1), (-2, 1), (-2, 4)]).any()
    assert not filled([(20, 1), (30, 1), (30, 4)]).any()
    assert not filled([(2, -9), (4, -9), (4, -2)]).any()


def test_an_outline_within_an_outline_is_a_hole() -> None:
    outer = [(0.0, 0.0), (8.0, 0.0), (8.0, 6.0), (0.0, 6.0), (0.0, 0.0)]
    inner = [(2.0, 2.0), (5.0, 2.0), (5.0, 4.0), (2.0, 4.0), (2.0, 2.0)]
    hole = ~filled(inner)
    assert np.array_equal(filled([*outer, *inner, (0.0, 0.0)]), hole)


def test_polygons_of_one_object_are_united() -> None:
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    read = shapes(Polygons.of(1, [square, square])).read_mask()
    assert read.values.sum() == 16


def test_the_smaller_of_two_objects_lies_on_top_and_of_two_equal_ones_the_later() -> None:
    small = Polygons.of(2, [[2, 2, 4, 2, 4, 4, 2, 4]])
    large = Runs.of(1, [0, 48])
    expected = np.ones((6, 8), np.int32)
    expected[2:4, 2:4] = 2
    for order in ((small, large), (large, small)):
        assert np.array_equal(shapes(*order).read_mask().values, expected)
    both = shapes(Runs.of(1, [0, 48]), Runs.of(3, [0, 48])).read_mask()
    assert (both.values == 3).all()


def test_shares_are_of_the_size_of_the_image_after_its_exif_rotation(tmp_path: Path) -> None:
    image = save(tmp_path / "a.jpg", noise(size=(4, 10)), orientation=6)
    half = Polygons.of(1, [[0, 0, 0.5, 0, 0.5, 1, 0, 1]])
    values = Shapes(HERE, (half,), None, image).read_mask().values
    assert values.shape == (10, 4)
    assert np.array_equal(values, np.tile([1, 1, 0, 0], (10, 1)))


def test_the_hash_follows_the_objects_and_not_the_file() -> None:
    first, same = (shapes(Polygons.of(1, [[1, 1, 5, 1, 5, 5]])) for _ in range(2))
    assert first.sha256() == same.sha256()
    others = [
        shapes(),
        shapes(Polygons.of(2, [[1, 1, 5, 1, 5, 5]])),
        shapes(Polygons.of(1, [[1, 1, 5, 1, 5, 4]])),
        shapes(Polygons.of(1, [[1, 1, 5, 1, 5, 5]]), size=(8, 6)),
    ]
    assert len({each.sha256() for each in (first, *others)}) == 5


def test_outlines_are_no_image_and_huge_ones_are_refused() -> None:
    with pytest.raises(DataError, match="holds outlines"):
        shapes().read_image()
    with pytest.raises(DataError, match=r"100000 x 100000 pixels, more than"):
        shapes(size=(100_000, 100_000)).read_mask()
    with pytest.raises(DataError, match="does not exist"):
        shapes(size=None).read_mask()
