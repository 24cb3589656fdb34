from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter

from medseg.data.prompts import Box, Point, Prompts
from medseg.data.simulate_prompts import (
    Simulation,
    border_clicks,
    centre_clicks,
    centreline_scribble,
    contour_scribble,
    line_scribble,
    next_click,
    random_clicks,
    simulated_box,
    smooth_noise,
)

SCRIBBLES = pytest.mark.parametrize("make", [line_scribble, centreline_scribble, contour_scribble])


def key(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(list(numbers))


def blobs(seed: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """Several smooth pieces, some of which touch the image's border."""
    return gaussian_filter(key(seed).standard_normal(size), 4, mode="wrap") > 0.02


def square(top: int, left: int, side: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


regions = st.one_of(
    st.integers(0, 10_000).map(blobs),
    st.builds(square, st.integers(0, 47), st.integers(0, 39), st.integers(1, 60)),
    st.builds(lambda n: blobs(n, (1, 30)), st.just(0)),
)


def same(a: Prompts, b: Prompts) -> bool:
    return (a.points, a.boxes) == (b.points, b.boxes) and np.array_equal(
        np.zeros(1) if a.scribbles is None else a.scribbles,
        np.zeros(1) if b.scribbles is None else b.scribbles,
    )


@settings(deadline=None, max_examples=40)
@given(mask=regions, seed=st.integers(0, 2**32), as_released=st.booleans())
def test_first_prompts_lie_in_the_image_and_say_what_the_mask_says(
    mask: np.ndarray, seed: int, as_released: bool
) -> None:
    prompts = Simulation(as_released=as_released).first(mask, key(seed))
    prompts.check(*mask.shape)
    assert all(mask[point.y, point.x] == point.positive for point in prompts.points)
    if prompts.scribbles is not None:
        on, beside = prompts.scribbles
        assert not on[~mask].any()
        assert not beside[mask].any()
    for box in prompts.boxes:
        if not as_released:
            inside = np.zeros_like(mask)
            inside[box.y0 : box.y1, box.x0 : box.x1] = True
            assert inside[mask].all()


@settings(deadline=None, max_examples=40)
@given(mask=regions, other=st.integers(0, 99), seed=st.integers(0, 2**32))
def test_corrections_lie_where_something_is_wrong(mask: np.ndarray, other: int, seed: int) -> None:
    predicted = blobs(other, mask.shape)
    found = Simulation().correction(mask, predicted, key(seed))
    found.check(*mask.shape)
    for point in found.points:
        assert mask[point.y, point.x] == point.positive
        assert predicted[point.y, point.x] != point.positive
    if found.scribbles is not None:
        assert not found.scribbles[0][~(mask & ~predicted)].any()
        assert not found.scribbles[1][~(predicted & ~mask)].any()


def test_the_same_key_gives_the_same_prompts_and_another_key_others() -> None:
    mask, simulation = blobs(1), Simulation()
    again = [same(simulation.first(mask, key(1, n)), simulation.first(mask, key(1, n)))
             for n in range(20)]  # fmt: skip
    assert all(again)
    assert not all(
        same(simulation.first(mask, key(1, n)), simulation.first(mask, key(2, n)))
        for n in range(20)
    )


def test_every_non_empty_set_of_kinds_comes_about_equally_often() -> None:
    mask, counts = square(2, 3, 5, (10, 11)), dict[tuple[str, ...], int]()
    simulation = Simulation(positive=(1, 1), negative=(1, 1))
    for n in range(210):
        kinds = simulation.first(mask, key(n)).kinds
        counts[kinds] = counts.get(kinds, 0) + 1
    assert len(counts) == 7
    assert min(counts.values()) > 15
    assert max(counts.values()) < 48


@pytest.mark.parametrize("kind", ["box", "point", "scribble"])
def test_only_the_kinds_asked_for_are_simulated(kind: str) -> None:
    simulation = Simulation(kinds=(kind,))  # type: ignore[arg-type]
    assert {simulation.first(blobs(3), key(n)).kinds for n in range(10)} == {(kind,)}


def test_nothing_is_corrected_where_nothing_is_wrong() -> None:
    mask = blobs(5)
    assert not Simulation().correction(mask, mask, key(0))
    assert next_click(mask, mask) is None


def test_nothing_is_corrected_where_the_truth_is_not_known() -> None:
    mask = square(4, 4, 10)
    known = ~square(0, 0, 20)
    assert not Simulation().correction(mask, np.zeros_like(mask), key(0), known)
    assert next_click(mask, np.zeros_like(mask), known) is None


def test_an_empty_structure_gets_prompts_beside_it_only() -> None:
    empty = np.zeros((48, 40), bool)
    for n in range(30):
        prompts = Simulation().first(empty, key(n))
        assert not prompts.boxes
        assert not any(point.positive for point in prompts.points)
        assert prompts.scribbles is None or not prompts.scribbles[0].any()


def test_the_next_click_is_in_the_middle_of_the_largest_error() -> None:
    truth = square(2, 2, 9) | square(20, 10, 21)
    assert next_click(truth, np.zeros_like(truth)) == Point(20, 30)
    # Too much is wrong, too, and is not part of what is missing beside it.
    predicted = truth | square(0, 0, 48)
    predicted[2:11, 2:11] = False
    found = next_click(truth, predicted)
    assert found is not None
    assert not found.positive


@settings(deadline=None, max_examples=40)
@given(mask=regions.filter(lambda m: m.any() and not m.all()), seed=st.integers(0, 2**32))
def test_a_centre_click_is_as_far_from_the_outside_as_any_pixel_of_its_piece(
    mask: np.ndarray, seed: int
) -> None:
    ((x, y),) = centre_clicks(mask.astype(np.float32), 1, key(seed))
    distance = distance_transform_edt(mask)
    around = distance[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    assert distance[y, x] == around.max()
    assert distance[y, x] > 0


def test_centre_clicks_prefer_large_pieces_and_take_each_once() -> None:
    mask = (square(2, 2, 3) | square(20, 10, 21)).astype(np.float32)
    first = [centre_clicks(mask, 1, key(n))[0] for n in range(50)]
    assert first.count((20, 30)) >= 45
    assert set(centre_clicks(mask, 2, key(0))) == {(3, 3), (20, 30)}
    assert len(centre_clicks(mask, 5, key(0))) == 5


def test_border_clicks_keep_their_distance_and_stay_inside() -> None:
    mask = square(4, 4, 36)
    for n in range(10):
        places = border_clicks(mask.astype(np.float32), 6, key(n))
        assert all(mask[y, x] for x, y in places)
        for i, (x, y) in enumerate(places):
            for other_x, other_y in places[:i]:
                assert (x - other_x) ** 2 + (y - other_y) ** 2 >= 64


def test_a_region_too_small_for_a_border_is_clicked_all_the_same() -> None:
    dot = square(5, 6, 1).astype(np.float32)
    assert {tuple(border_clicks(dot, 1, key(n))) for n in range(5)} == {((6, 5),)}


def test_random_clicks_reach_every_pixel() -> None:
    mask = square(3, 3, 3).astype(np.float32)
    found = set(random_clicks(mask, 300, key(0)))
    assert found == {(x, y) for x in range(3, 6) for y in range(3, 6)}


@SCRIBBLES
@settings(deadline=None, max_examples=20)
@given(mask=regions.filter(np.any), seed=st.integers(0, 2**32))
def test_a_scribble_lies_in_its_region_and_is_never_empty(
    make: Callable[..., np.ndarray], mask: np.ndarray, seed: int
) -> None:
    drawn = make(mask, 2, key(seed))
    assert drawn.dtype == np.float32
    assert drawn.any()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert not drawn[~mask].any()


@SCRIBBLES
def test_a_scribble_is_thin(make: Callable[..., np.ndarray]) -> None:
    mask = square(4, 2, 36)
    for n in range(5):
        assert np.count_nonzero(make(mask, 1, key(n)) > 0.5) < 0.25 * mask.sum()


def test_a_box_without_jitter_is_that_of_the_mask() -> None:
    assert simulated_box(square(5, 7, 10), key(0), jitter=0) == Box(7, 5, 17, 15)


def test_a_box_grows_by_less_than_the_jitter_and_stays_in_the_image() -> None:
    boxes = [simulated_box(square(20, 10, 10), key(n), jitter=6) for n in range(200)]
    assert {box.x0 for box in boxes} == set(range(5, 11))
    assert {box.y1 for box in boxes} == set(range(30, 36))
    assert simulated_box(np.ones((8, 9), bool), key(0)) == Box(0, 0, 9, 8)


def test_as_released_every_box_begins_in_the_corner_and_loses_its_last_line() -> None:
    mask = np.zeros((128, 128), bool)
    mask[40:60, 70:100] = True
    assert simulated_box(mask, key(0), jitter=0, from_corner=True) == Box(0, 0, 99, 59)


@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_smooth_noise_is_standard_and_as_smooth_as_asked(sigma: float) -> None:
    noise = np.stack([smooth_noise((64, 96), sigma, key(n)) for n in range(40)])
    assert np.abs(noise.mean((1, 2))).max() < 1e-12
    np.testing.assert_allclose(noise.std((1, 2)), 1)
    # Noise blurred by s has the correlation exp(-d^2 / 4 s^2) at distance d.
    shift = round(2 * sigma)
    found = (noise * np.roll(noise, shift, 2)).mean()
    assert found == pytest.approx(np.exp(-((shift / sigma) ** 2) / 4), abs=0.08)
