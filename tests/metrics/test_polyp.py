from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medseg.metrics.polyp import (
    adaptive_e_measure,
    mean_absolute_error,
    mean_dice,
    mean_iou,
    polyp_scores,
    s_measure,
    stretched,
    threshold_curves,
    weighted_f,
)

Region = NDArray[np.bool_]
Map = NDArray[np.float64]

SHAPE = (5, 7)
regions = arrays(np.bool_, SHAPE)
byte_maps = arrays(np.uint8, SHAPE).map(lambda values: values / 255)
THRESHOLDS = [level / 255 for level in range(256)]


def case(number: int, height: int = 37, width: int = 45) -> tuple[Region, Map]:
    """An ellipse, and an unsure 8-bit map of one beside it."""
    y, x = np.mgrid[:height, :width]
    ry, rx = 6 + number, 9 + number
    cy, cx = height * (0.4 + 0.05 * number), width * (0.6 - 0.06 * number)
    truth = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    by, bx = height * (0.45 + 0.05 * number), width * (0.52 - 0.05 * number)
    rim = 1.5 - np.hypot((y - by) / ry, (x - bx) / (8 + number))
    rim = rim + 0.25 * np.sin(y * 1.3 + number) * np.cos(x * 0.7)
    return truth, np.round(255 / (1 + np.exp(-3 * rim))) / 255


NUMBERS = (
    "mean_dice",
    "mean_iou",
    "weighted_f",
    "s_measure",
    "mean_e",
    "max_e",
    "adaptive_e",
    "mae",
)
GOLDEN = {
    0: (
        0.5274014399205449,
        0.3694575785735715,
        0.4115822502635699,
        0.6633842406071686,
        0.6629527768778478,
        0.9435367099127847,
        0.7171813364682069,
        0.17298012298012297,
    ),
    1: (
        0.5516370472032592,
        0.3960608739413958,
        0.4323728902302325,
        0.6787560066279541,
        0.6372255079553069,
        0.9324146568936573,
        0.8333589156572181,
        0.21554439815309379,
    ),
    3: (
        0.5907262536047546,
        0.43733391603257005,
        0.4852925342596689,
        0.6835637101778378,
        0.5911116906315215,
        0.924409636523133,
        0.8923657647520018,
        0.2782632434806348,
    ),
}


@pytest.mark.parametrize("number", GOLDEN)
def test_all_numbers_agree_with_pysodmetrics(number: int) -> None:
    """Release 1.6.2; its E-measure divides by one pixel less, as the released program does."""
    truth, prediction = case(number)
    found = polyp_scores(truth, prediction)
    for name in ("mean_e", "max_e", "adaptive_e"):
        found[name] *= truth.size / (truth.size - 1)
    assert tuple(found) == NUMBERS
    assert list(found.values()) == pytest.approx(GOLDEN[number], abs=1e-12)


def test_another_beta_agrees_with_pysodmetrics() -> None:
    truth, prediction = case(0)
    found = weighted_f(truth, stretched(prediction), beta_squared=0.3)
    assert found == pytest.approx(0.3221120236043407, abs=1e-12)


# A second implementation: every mask, and every pixel of it.


def enhanced_alignment(mask: Region, truth: Region) -> float:
    if not truth.any():
        return float(1 - mask.mean())
    if truth.all():
        return float(mask.mean())
    total = 0.0
    for claimed, true in zip(mask.ravel(), truth.ravel(), strict=True):
        a, b = true - truth.mean(), claimed - mask.mean()
        total += (1 + 2 * a * b / (a * a + b * b)) ** 2 / 4
    return total / truth.size


@given(regions, byte_maps, st.sampled_from([np.float32, np.float64]))
@settings(max_examples=25, deadline=None)
def test_the_curves_are_those_of_the_masks_at_each_threshold(
    truth: Region, prediction: Map, kept_as: type[np.floating]
) -> None:
    curves = threshold_curves(truth, prediction.astype(kept_as))
    for level in (0, 1, 77, 128, 254, 255):
        mask = prediction >= THRESHOLDS[level]
        shared, areas = (mask & truth).sum(), mask.sum() + truth.sum()
        assert curves.dice[level] == pytest.approx(2 * shared / areas if shared else 0)
        assert curves.iou[level] == pytest.approx(shared / (areas - shared) if shared else 0)
        assert curves.e_measure[level] == pytest.approx(enhanced_alignment(mask, truth))


@given(regions, byte_maps)
@settings(max_examples=25, deadline=None)
def test_the_adaptive_e_measure_is_that_of_the_mask_at_twice_the_mean(
    truth: Region, prediction: Map
) -> None:
    mask = prediction >= min(2 * prediction.mean(), 1)
    expected = enhanced_alignment(mask, truth)
    assert adaptive_e_measure(truth, prediction) == pytest.approx(expected)


def weighted_f_of_pixels(truth: Region, prediction: Map) -> float:
    """For a truth of one pixel, where no two foreground pixels are equally near."""
    ((row, column),) = np.argwhere(truth)
    miss = 1 - prediction[row, column]
    around = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    weights = {at: math.exp(-(at[0] ** 2 + at[1] ** 2) / 50) for at in around}
    inside = [
        weights[y, x]
        for y, x in around
        if 0 <= row + y < truth.shape[0] and 0 <= column + x < truth.shape[1]
    ]
    missed = min(miss, miss * sum(inside) / sum(weights.values()))
    false = sum(
        prediction[at] * (2 - math.exp(math.log(0.5) / 5 * math.dist(at, (row, column))))
        for at in np.ndindex(truth.shape)
        if not truth[at]
    )
    recall = 1 - missed
    precision = recall / (recall + false) if recall else 0
    return float(2 * recall * precision / (recall + precision)) if recall else 0.0


@given(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), byte_maps)
@settings(max_examples=25, deadline=None)
def test_weighted_f_is_the_sum_of_its_pixels(row: int, column: int, prediction: Map) -> None:
    truth = np.zeros(SHAPE, bool)
    truth[row, column] = True
    assume(prediction.any())
    expected = weighted_f_of_pixels(truth, prediction)
    assert weighted_f(truth, prediction) == pytest.approx(expected, abs=1e-12)


def test_the_s_measure_of_a_half_sure_map_of_half_the_image_has_a_closed_form() -> None:
    """Objects are 2m / (m^2 + 1) at m = 0.5; each part is constant in the map, so alike in none."""
    truth = np.zeros((4, 8), bool)
    truth[:, :4] = True
    found = s_measure(truth, np.full((4, 8), 0.5))
    # Left of the centroid are three columns of foreground only, with nothing to tell apart.
    assert found == pytest.approx(0.5 * 0.8 + 0.5 * 3 / 8)


def test_the_centroid_is_rounded_up_where_it_lies_between_pixels() -> None:
    """As MATLAB does; rounding to even would part the image elsewhere."""
    truth = np.zeros((1, 8), bool)
    truth[0, 2:4] = True
    prediction = np.linspace(0, 1, 8)[None]
    left, right = slice(0, 4), slice(4, 8)
    x, y = prediction[0, left], truth[0, left]
    covariance = np.cov(x, y)
    similarity = 4 * x.mean() * y.mean() * covariance[0, 1]
    similarity /= (x.mean() ** 2 + y.mean() ** 2) * np.trace(covariance)
    assert not truth[0, right].any()
    assert s_measure(truth, prediction, alpha=0) == pytest.approx(similarity / 2)


@given(regions)
@settings(max_examples=30, deadline=None)
def test_the_truth_itself_is_perfect(truth: Region) -> None:
    found = polyp_scores(truth, truth.astype(float))
    assert found["mae"] == 0
    assert found["s_measure"] == pytest.approx(1)
    assert found["max_e"] == pytest.approx(1)
    if truth.any():
        assert found["weighted_f"] == pytest.approx(1)
        everything = 2 * truth.sum() / (truth.sum() + truth.size)
        assert found["mean_dice"] == pytest.approx((255 + everything) / 256)


@given(regions, byte_maps)
@settings(max_examples=60, deadline=None)
def test_every_number_lies_between_zero_and_one(truth: Region, prediction: Map) -> None:
    found = polyp_scores(truth, prediction)
    assert all(not value < 0 and not value > 1 + 1e-12 for value in found.values())


@given(regions, byte_maps)
@settings(max_examples=40, deadline=None)
def test_flipping_both_changes_no_curve(truth: Region, prediction: Map) -> None:
    found = threshold_curves(truth, prediction)
    flipped = threshold_curves(truth[::-1, ::-1], prediction[::-1, ::-1])
    np.testing.assert_allclose(found.dice, flipped.dice)
    np.testing.assert_allclose(found.e_measure, flipped.e_measure)


@given(byte_maps)
@settings(max_examples=30, deadline=None)
def test_scores_are_those_of_the_stretched_map(prediction: Map) -> None:
    truth = np.zeros(SHAPE, bool)
    truth[1:3, 2:5] = True
    low, high = prediction.min(), prediction.max()
    if low == high:
        np.testing.assert_array_equal(stretched(prediction), prediction)
        return
    assert (stretched(prediction).min(), stretched(prediction).max()) == (0, 1)
    weak = polyp_scores(truth, prediction / 4)
    assert weak == polyp_scores(truth, prediction)
    assert weak["mae"] == mean_absolute_error(truth, stretched(prediction))


def test_empty_truth_and_map_leave_overlaps_to_the_empty_policy() -> None:
    nothing = np.zeros(SHAPE)
    found = polyp_scores(nothing, nothing)
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"mean_dice", "mean_iou", "weighted_f"}
    assert (found["s_measure"], found["max_e"], found["mae"]) == (1, 1, 0)


def test_a_false_alarm_in_an_empty_image_has_no_overlap() -> None:
    nothing, alarm = np.zeros(SHAPE), np.zeros(SHAPE)
    alarm[0, 0] = 1
    for metric in (mean_dice, mean_iou, weighted_f):
        assert metric(nothing, alarm) == 0


def test_a_missed_polyp_keeps_what_the_threshold_zero_gives() -> None:
    truth = np.zeros(SHAPE, bool)
    truth[0, :5] = True
    nothing = np.zeros(SHAPE)
    assert weighted_f(truth, nothing) == 0
    assert mean_dice(truth, nothing) == pytest.approx(2 * 5 / (5 + 35) / 256)
    assert mean_iou(truth, nothing) == pytest.approx(5 / 35 / 256)


def test_an_object_in_the_last_corner_leaves_parts_without_pixels() -> None:
    truth = np.zeros(SHAPE, bool)
    truth[-1, -1] = True
    assert s_measure(truth, truth.astype(float)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("truth", "prediction", "found"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "differ in shape"),
        (np.zeros((2, 3)), np.full((2, 3), 255), "not 255 to 255"),
        (np.zeros((2, 3)), np.full((2, 3), math.nan), "not nan to nan"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "is not of an image"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "is not of an image"),
    ],
)
def test_what_is_no_map_of_an_image_is_refused(truth: Map, prediction: Map, found: str) -> None:
    for metric in (polyp_scores, mean_absolute_error, s_measure, weighted_f):
        with pytest.raises(ValueError, match=found):
            metric(truth, prediction)
