from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medseg.data.case import IGNORE, Label, LabelMap
from medseg.data.labels import read_classes
from medseg.data.source import Channels, File, Union
from medseg.errors import DataError

from .builders import disk, noise, save

BINARY = LabelMap((Label("background", 0), Label("lesion", 255)))


def square(top: int, value: int = 255) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    mask = np.zeros((16, 20), np.uint8)
    mask[top : top + 4, 2:8] = value
    return mask


def test_channels_in_several_files_are_stacked_in_their_order(tmp_path: Path) -> None:
    planes = [noise(seed, channels=1) for seed in range(4)]
    files = [File(save(tmp_path / f"{i}.png", plane)) for i, plane in enumerate(planes)]
    image = Channels(tuple(files)).read_image()
    assert np.array_equal(image, np.stack(planes, axis=-1))


@pytest.mark.parametrize(
    ("other", "found"),
    [(noise(0, (16, 21), channels=1), "21 x 16 pixels"), (noise(0, channels=3), "3 channels")],
)
def test_channels_of_another_kind_are_named(
    tmp_path: Path, other: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], found: str
) -> None:
    first, second = (
        save(tmp_path / "a_0000.png", noise(channels=1)),
        save(tmp_path / "b.png", other),
    )
    with pytest.raises(DataError, match=rf"b\.png: .*{found}.*a_0000\.png"):
        Channels((File(first), File(second))).read_image()


def test_united_masks_show_what_any_of_them_shows(tmp_path: Path) -> None:
    parts = [File(save(tmp_path / f"{top}.png", square(top))) for top in (1, 3, 10)]
    united = Union(tuple(parts)).read_mask()
    assert np.array_equal(united.values, np.maximum.reduce([square(1), square(3), square(10)]))


def test_united_masks_can_each_stand_for_a_class(tmp_path: Path) -> None:
    parts = [File(save(tmp_path / f"{top}.png", square(top))) for top in (1, 3)]
    united = Union(tuple(parts), values=(1, 2)).read_mask()
    assert np.array_equal(united.values, np.maximum(square(1, 1), square(3, 2)))


def test_ringing_in_a_lossy_part_is_background(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", square(4), quality=60)
    united = Union((File(path),), values=(1,)).read_mask()
    assert np.array_equal(united.values, square(4, 1))
    assert not united.lossy


def test_united_masks_of_different_sizes_are_refused(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a.png", square(1)), save(tmp_path / "b.png", square(1)[:-1])
    with pytest.raises(DataError, match=r"b\.png: is 20 x 15 pixels.*a\.png"):
        Union((File(one), File(two))).read_mask()


def test_the_hash_of_a_file_is_that_of_its_content_and_follows_changes(tmp_path: Path) -> None:
    one, same = save(tmp_path / "a.png", noise(1)), save(tmp_path / "b.png", noise(1))
    before = File(one).sha256()
    assert before == File(same).sha256()
    save(one, noise(2))
    os.utime(one, ns=(1, 1))
    assert File(one).sha256() != before


def test_the_hash_of_several_files_depends_on_their_order_and_values(tmp_path: Path) -> None:
    a, b = (File(save(tmp_path / f"{i}.png", square(i))) for i in (1, 2))
    sources = [Union((a, b)), Union((b, a)), Union((a, b), (1, 2)), Channels((a, b)), a]
    assert len({source.sha256() for source in sources}) == len(sources)


def test_nothing_is_known_outside_the_field_of_view(tmp_path: Path) -> None:
    mask, view = save(tmp_path / "m.png", disk()), save(tmp_path / "v.png", disk(radius=6))
    classes = read_classes(File(mask), BINARY, field_of_view=File(view))
    assert np.array_equal(classes == IGNORE, disk(radius=6) == 0)
    assert np.array_equal(classes == 1, disk() > 0)


def test_a_field_of_view_of_another_size_is_an_error(tmp_path: Path) -> None:
    mask, view = save(tmp_path / "m.png", disk()), save(tmp_path / "v.png", disk((8, 8)))
    with pytest.raises(DataError, match=r"v\.png: the field of view is 8 x 8 pixels"):
        read_classes(File(mask), BINARY, field_of_view=File(view))
