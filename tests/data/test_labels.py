from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from medseg.data.case import IGNORE, Label, LabelMap
from medseg.data.io import MaskFile, read_mask
from medseg.data.io.pixels import pack_colours
from medseg.data.labels import (
    count_values,
    decode_mask,
    encode_mask,
    infer_label_map,
    read_labels_file,
)
from medseg.errors import DataError

from .builders import disk, save

BINARY = LabelMap((Label("background", 0), Label("foreground", 255)))
COLOURS = LabelMap(
    (Label("background", 0), Label("tumour", 0xFF0000), Label("white", 0xFFFFFF)), rgb=True
)


def write(path: Path, content: object) -> Path:
    path = path / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_grey_values_are_read_with_the_background_first(tmp_path: Path) -> None:
    labels = read_labels_file(write(tmp_path, {"nucleus": 255, "background": 0, "cytoplasm": 128}))
    assert labels.names == ("background", "nucleus", "cytoplasm")
    assert labels.values == (0, 255, 128)
    assert not labels.rgb


def test_the_class_stored_as_0_is_background_under_any_name(tmp_path: Path) -> None:
    assert read_labels_file(write(tmp_path, {"cell": 1, "rest": 0})).names == ("rest", "cell")


def test_a_class_called_background_may_have_any_value(tmp_path: Path) -> None:
    labels = read_labels_file(write(tmp_path, {"membrane": 0, "background": 255}))
    assert labels.values == (255, 0)


def test_colours_are_read_as_lists_and_as_hex(tmp_path: Path) -> None:
    labels = read_labels_file(write(tmp_path, {"background": [0, 0, 0], "tumour": "#fF0001"}))
    assert labels == LabelMap((Label("background", 0), Label("tumour", 0xFF0001)), rgb=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ([0, 1], "not an object"),
        ("7", "not an object"),
        ({"background": 0}, "declares 1 classes"),
        ({"background": 0, "a": 0}, "'background' and 'a' have the same value"),
        ('{"background": 0, "a": 1, "a": 2}', "'a' is declared twice"),
        ({"background": 0, "a": 65536}, "'a' has the value 65536"),
        ({"background": 0, "a": -1}, "'a' has the value -1"),
        ({"background": 0, "a": 1.5}, "'a' has the value 1.5"),
        ({"background": 0, "a": True}, "'a' has the value true"),
        ({"background": 0, "a": {}}, "'a' has the value"),
        ({"background": [0, 0, 0], "a": [0, 0, 256]}, "'a' has the value"),
        ({"background": [0, 0, 0], "a": "red"}, "'a' has the value \"red\""),
        ({"background": 0, "a": [1, 2, 3]}, "mixes"),
        ({"background": 0, " ": 1}, "empty name"),
        ({"a": 1, "b": 2}, "no class is the background"),
    ],
)
def test_a_malformed_labels_file_is_explained(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(DataError, match=rf"labels\.json: .*{re.escape(words)}"):
        read_labels_file(write(tmp_path, content))


def test_counts_add_up_for_small_and_colour_values() -> None:
    values = np.array([[0, 0], [3, 0xFFFFFF]], np.int32)
    assert count_values(MaskFile(values[:, :1])) == {0: 1, 3: 1}
    assert count_values(MaskFile(values, rgb=True)) == {0: 2, 3: 1, 0xFFFFFF: 1}


def test_two_values_are_background_and_foreground() -> None:
    assert infer_label_map({"a": {0: 9}, "b": {0: 5, 7: 4}}).labels == (
        Label("background", 0),
        Label("foreground", 7),
    )


def test_more_values_are_numbered() -> None:
    labels = infer_label_map({"a": {0: 9, 255: 1}, "b": {0: 5, 128: 4}})
    assert labels.names == ("background", "class_1", "class_2")
    assert labels.values == (0, 128, 255)


def test_stray_values_of_one_mask_among_many_are_no_classes() -> None:
    counts = {str(index): {0: 90, 255: 10} for index in range(20)}
    counts["3"] = dict.fromkeys(range(37), 5)
    assert infer_label_map(counts).values == (0, 255)


def test_stray_values_of_one_mask_among_few_are_no_classes() -> None:
    counts = {str(index): {0: 90, 255: 10} for index in range(4)}
    counts["3"] = dict.fromkeys(range(37), 5)
    assert infer_label_map(counts).values == (0, 255)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "no masks"),
        ({"a": {0: 10}, "b": {0: 3}}, "all masks are empty"),
        ({"a": {255: 10}}, "only the value 255"),
        ({"a": {1: 10, 2: 3}}, "1, 2 but no 0"),
        ({"a": dict.fromkeys(range(40), 5)}, "40 different values"),
    ],
)
def test_masks_that_tell_no_classes_are_explained(
    counts: dict[str, dict[int, int]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        infer_label_map(counts)


def test_colours_come_with_a_labels_file_to_paste(tmp_path: Path) -> None:
    counts = {"a": {0: 90, 0xFF0000: 8, 0x00FF00: 2}}
    with pytest.raises(DataError, match="#000000, #ff0000, #00ff00") as caught:
        infer_label_map(counts, rgb=True)
    pasted = re.search(r"\{.*\}", caught.value.remedy)
    assert pasted is not None
    assert read_labels_file(write(tmp_path, pasted[0])).values == (0, 0xFF0000, 0x00FF00)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
@pytest.mark.parametrize("levels", [(0, 255), (0, 127), (0, 128, 255), (0, 60, 120, 180, 240)])
def test_the_levels_of_jpeg_masks_are_found(levels: tuple[int, ...], quality: int) -> None:
    counts = {}
    for index in range(3):
        mask = np.zeros((96, 96), np.uint8)
        for place, level in enumerate(levels[1:]):
            top, left = 48 * (place // 2), 48 * (place % 2)
            mask[top : top + 48, left : left + 48] = disk((48, 48), level, 12 + 3 * index)
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "JPEG", quality=quality)
        counts[str(index)] = Counter(np.asarray(Image.open(buffer)).ravel().tolist())
    found = infer_label_map(counts, lossy=True).values
    assert len(found) == len(levels)
    assert np.abs(np.subtract(found, levels)).max() <= 2


def test_jpeg_masks_snap_to_the_original_but_for_the_outline(tmp_path: Path) -> None:
    original = disk((64, 64), radius=20)
    mask = read_mask(save(tmp_path / "a.jpg", original, quality=60))
    indices = encode_mask(mask, BINARY)
    assert np.mean(indices != original // 255) < 0.01
    with pytest.raises(DataError, match="unexpected values"):
        encode_mask(mask, BINARY, snap="never")


def test_unexpected_values_are_counted_and_listed() -> None:
    values = np.zeros((10, 10), np.int32)
    values.ravel()[:12] = range(1, 13)
    with pytest.raises(DataError, match=r"a\.png: 12 pixels hold 12 .* \(1, 2, .* 8 \.\.\.\)"):
        encode_mask(MaskFile(values), BINARY, where="a.png")
    assert not encode_mask(MaskFile(values), BINARY, snap="always").any()


def test_black_and_white_files_among_colour_masks_keep_their_meaning(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / "a.png", disk()))
    assert np.array_equal(encode_mask(mask, COLOURS), np.where(disk(), 2, 0))


def test_a_palette_mask_is_matched_by_colour_when_labels_are_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / "a.png")
    assert encode_mask(read_mask(tmp_path / "a.png"), COLOURS).tolist() == [[0, 1]]


def test_lossy_colours_snap_to_the_nearest() -> None:
    values = np.array([[0x100502, 0xE01010], [0xF0F0FF, 0xFF0000]], np.int32)
    mask = MaskFile(values, rgb=True, lossy=True)
    assert encode_mask(mask, COLOURS).tolist() == [[0, 1], [2, 1]]


@st.composite
def label_maps(draw: st.DrawFn) -> LabelMap:
    rgb = draw(st.booleans())
    value = st.integers(0, 0xFFFFFF if rgb else 65535)
    values = draw(st.lists(value, min_size=2, max_size=20, unique=True))
    return LabelMap(tuple(Label(str(value), value) for value in values), rgb)


@given(labels=label_maps(), data=st.data())
def test_encoding_undoes_decoding(labels: LabelMap, data: st.DataObject) -> None:
    shape = arrays.array_shapes(min_dims=2, max_dims=2)
    classes = st.integers(0, len(labels.labels) - 1)
    indices = data.draw(arrays.arrays(np.uint8, shape, elements=classes))
    stored = decode_mask(indices, labels)
    values = pack_colours(stored.astype(np.uint8)) if labels.rgb else stored.astype(np.int32)
    mask = MaskFile(values, rgb=labels.rgb)
    for snap in ("never", "always"):
        assert np.array_equal(encode_mask(mask, labels, snap=snap), indices)


def test_decoding_an_index_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        decode_mask(np.array([[0, 2]]), BINARY)


def test_the_ignored_value_is_no_class(tmp_path: Path) -> None:
    labels = read_labels_file(write(tmp_path, {"background": 0, "vessel": 1, "ignore": 4}))
    assert labels.names == ("background", "vessel")
    assert labels.ignore == 4
    classes = encode_mask(MaskFile(np.array([[0, 1, 4]], np.int32)), labels)
    assert classes.tolist() == [[0, 1, IGNORE]]


def test_an_ignored_value_alone_does_not_make_two_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="declares 1 classes"):
        read_labels_file(write(tmp_path, {"background": 0, "ignore": 4}))


@pytest.mark.parametrize("lossy", [False, True])
def test_an_ignored_colour_is_no_class(lossy: bool) -> None:
    labels = replace(COLOURS, ignore=0x00FF00)
    mask = MaskFile(np.array([[0xFF0000, 0x00FF00, 0]], np.int32), rgb=True, lossy=lossy)
    assert encode_mask(mask, labels).tolist() == [[1, IGNORE, 0]]
