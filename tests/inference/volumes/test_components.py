from __future__ import annotations

import numpy as np
import pytest

from medseg.inference.bundle import Postprocessing
from medseg.inference.volumes.components import clean_volume


def lumps() -> np.ndarray:
    """Class 1 in lumps of 8, 2 and 1 voxels, class 2 in one of 1 that touches none."""
    classes = np.zeros((6, 7, 8), np.uint8)
    classes[:2, :2, :2] = 1
    classes[4, 4, 4:6] = 1
    classes[5, 0, 7] = 1
    classes[0, 6, 7] = 2
    return classes


@pytest.mark.parametrize(
    ("rules", "counts"),
    [
        ({}, {1: 11, 2: 1}),
        ({"keep_largest": True}, {1: 8, 2: 1}),
        ({"min_pixels": 2}, {1: 10, 2: 0}),
        ({"min_pixels": 3, "keep_largest": True}, {1: 8, 2: 0}),
        ({"min_pixels": 99}, {1: 0, 2: 0}),
    ],
)
def test_components_are_those_in_3d(rules: dict[str, int], counts: dict[int, int]) -> None:
    found = clean_volume(lumps(), Postprocessing.model_validate(rules))
    assert {value: int((found == value).sum()) for value in counts} == counts
    assert ((found == lumps()) | (found == 0)).all()


def test_voxels_that_touch_at_a_corner_belong_together() -> None:
    classes = np.zeros((3, 3, 3), np.uint8)
    classes[0, 0, 0] = classes[1, 1, 1] = classes[2, 2, 2] = 1
    assert clean_volume(classes, Postprocessing(min_pixels=3)).sum() == 3


def test_classes_whose_boxes_overlap_are_cleaned_each_by_itself() -> None:
    classes = np.ones((3, 3, 3), np.uint8)
    classes[1, 1, 1] = 2
    found = clean_volume(classes.copy(), Postprocessing(keep_largest=True))
    assert np.array_equal(found, classes)
