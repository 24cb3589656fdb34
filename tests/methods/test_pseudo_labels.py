from __future__ import annotations

import torch

from medseg.methods.pseudo_labels import largest_components


def test_of_each_class_the_largest_component_of_each_image_stays() -> None:
    classes = torch.tensor(
        [
            [[1, 0, 1, 1], [0, 0, 1, 2], [2, 0, 0, 2], [2, 2, 0, 2]],
            [[0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2], [1, 0, 0, 0]],
        ],
        dtype=torch.uint8,
    )
    kept = torch.tensor(
        [
            [[0, 0, 1, 1], [0, 0, 1, 2], [2, 0, 0, 2], [2, 2, 0, 2]],
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2], [1, 0, 0, 0]],
        ],
        dtype=torch.uint8,
    )
    # Of the two components of three pixels of class 2 the first met stays.
    kept[0, 2:, :2] = 0
    assert torch.equal(largest_components(classes), kept)


def test_pixels_that_touch_at_a_corner_belong_together() -> None:
    diagonal = torch.eye(4, dtype=torch.uint8)[None]
    assert torch.equal(largest_components(diagonal), diagonal)


def test_a_volume_is_cleaned_through_its_slices() -> None:
    volume = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    volume[0, :, 1, 1] = 1
    alone = volume.clone()
    alone[0, 0, 3, 3] = 1
    assert torch.equal(largest_components(alone), volume)


def test_an_image_without_foreground_stays_empty() -> None:
    empty = torch.zeros(2, 4, 4, dtype=torch.uint8)
    assert torch.equal(largest_components(empty), empty)
