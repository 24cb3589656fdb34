from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from numpy.typing import NDArray

from data.builders import disk, noise
from medseg.data import arrays as memory
from medseg.data.arrays import InArray, read_array
from medseg.data.integrity import check_dataset
from medseg.data.layouts import npz, open_dataset
from medseg.errors import DataError


def bench(
    path: Path, counts: tuple[int, int, int] = (4, 2, 3), **changed: Any
) -> dict[str, NDArray[Any]]:
    """A MedSegBench file, with some arrays replaced; those that are None are left out."""
    members: dict[str, Any] = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        seeds = range(count)
        members[f"{split}_images"] = np.stack([noise(seed + 10 * count) for seed in seeds])
        members[f"{split}_label"] = np.stack([disk(value=1, radius=3 + seed) for seed in seeds])
    members = {key: value for key, value in {**members, **changed}.items() if value is not None}
    np.savez_compressed(path, **members)
    return members


def found(root: Path) -> list[str]:
    return [problem.found for problem in open_dataset(root).problems]


def test_medsegbench_arrays_are_cases_with_their_published_split(tmp_path: Path) -> None:
    members = bench(tmp_path / "kvasir_256.npz")
    dataset = open_dataset(tmp_path / "kvasir_256.npz")
    assert dataset.layout == "npz"
    assert dataset.reason == "kvasir_256.npz holds train_images, val_images, test_images"
    assert dataset.cases == open_dataset(tmp_path).cases
    assert [case.split for case in dataset.cases] == ["test"] * 3 + ["train"] * 4 + ["val"] * 2
    for case in dataset.cases:
        split, index = case.id.split("/")
        assert np.array_equal(case.image.read_image(), members[f"{split}_images"][int(index)])
        assert case.mask is not None
        assert np.array_equal(case.mask.read_mask().values, members[f"{split}_label"][int(index)])
    survey = check_dataset(dataset)
    assert survey.problems == ()
    assert survey.labels is not None
    assert survey.labels.values == (0, 1)


@pytest.mark.parametrize("compressed", [True, False])
def test_grey_images_with_a_last_axis_of_one_are_read(tmp_path: Path, compressed: bool) -> None:
    grey = np.stack([noise(seed, channels=1) for seed in range(4)])
    labels = np.stack([disk(value=1)] * 4)[..., None]
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", train_images=grey[..., None], train_label=labels)
    case = open_dataset(tmp_path).cases[2]
    assert np.array_equal(case.image.read_image(), grey[2][..., None])
    assert case.mask is not None
    assert np.array_equal(case.mask.read_mask().values, disk(value=1))


def test_volumes_of_medsam_are_sliced_and_each_is_a_patient(tmp_path: Path) -> None:
    volume = np.stack([noise(seed, channels=1) for seed in range(3)])
    masks = np.stack([disk(value=k) for k in range(3)])
    np.savez(tmp_path / "CT_1.npz", imgs=volume, gts=masks, spacing=np.ones(3))
    np.savez(tmp_path / "CT_2.npz", imgs=noise(7), gts=disk(value=2))
    dataset = open_dataset(tmp_path)
    assert [(case.id, case.patient) for case in dataset.cases] == [
        ("CT_1/slice_000", "CT_1"),
        ("CT_1/slice_001", "CT_1"),
        ("CT_1/slice_002", "CT_1"),
        ("CT_2", None),
    ]
    middle = dataset.cases[1]
    assert np.array_equal(middle.image.read_image()[..., 0], volume[1])
    assert middle.mask is not None
    assert np.array_equal(middle.mask.read_mask().values, masks[1])
    assert np.array_equal(dataset.cases[3].image.read_image(), noise(7))


def test_slices_of_a_volume_are_scaled_together(tmp_path: Path) -> None:
    volume = np.linspace(-500, 1500, 4 * 16 * 20).reshape(4, 16, 20)
    np.savez(tmp_path / "ct.npz", imgs=volume, gts=np.ones((4, 16, 20), np.uint8))
    means = [case.image.read_image().mean() for case in open_dataset(tmp_path).cases]
    assert means == pytest.approx([32, 96, 159, 223], abs=2)


def test_an_array_without_labels_is_unlabelled(tmp_path: Path) -> None:
    bench(tmp_path / "a.npz", test_label=None)
    dataset = open_dataset(tmp_path)
    assert [case.mask is None for case in dataset.cases if case.split == "test"] == [True] * 3
    assert dataset.problems[0].kind == "unpaired-image"


def test_every_array_that_does_not_fit_is_reported(tmp_path: Path) -> None:
    bench(
        tmp_path / "a.npz",
        train_label=np.zeros((3, 16, 20), np.uint8),
        val_images=np.zeros((2, 2, 16, 20, 3), np.uint8),
        test_images=None,
        abdomen_label=None,
        train_label_MA=np.zeros((3, 16, 20), np.uint8),
    )
    with pytest.raises(DataError, match="several sets of images or labels: train_label_MA"):
        open_dataset(tmp_path)
    bench(
        tmp_path / "a.npz",
        (4, 2, 2),
        train_label=np.zeros((3, 16, 20), np.uint8),
        val_images=np.zeros((2, 2, 16, 20, 3), np.uint8),
    )
    assert found(tmp_path) == [
        "train_images is 4 x 16 x 20 x 3, train_label 3 x 16 x 20",
        "val_images is 2 x 2 x 16 x 20 x 3",
    ]


def test_a_4d_array_where_a_volume_is_expected_is_reported(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3, 8, 8)), gts=np.zeros((3, 8, 8), np.uint8))
    np.savez(tmp_path / "b.npz", imgs=noise(), gts=disk(value=1))
    np.savez(tmp_path / "c.npz", gts=disk(value=1))
    assert found(tmp_path) == [
        "imgs is 2 x 3 x 8 x 8, gts 3 x 8 x 8",
        "holds no imgs or image, only gts",
    ]


def test_pickled_objects_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "a.npz", imgs=np.array([Bomb()], dtype=object), gts=disk())
    with pytest.raises(DataError, match="imgs holds values of type object"):
        open_dataset(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_truncated_file_is_one_clear_error(tmp_path: Path) -> None:
    bench(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"a\.npz: cannot be decoded"):
        open_dataset(tmp_path)


def test_a_header_that_promises_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (100_000, 100_000, 3)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("imgs.npy", header.getvalue() + b"12345")
    case = open_dataset(tmp_path, layout="npz").cases[0]
    with pytest.raises(DataError, match="imgs is cut off"):
        case.image.read_image()


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bench(
        tmp_path / "a.npz",
        train_images=rng.integers(0, 256, (4, 64, 64), np.uint8),
        train_label=np.ones((4, 64, 64), np.uint8),
    )
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[6000] ^= 255
    (tmp_path / "a.npz").write_bytes(bytes(raw))
    survey = check_dataset(open_dataset(tmp_path))
    assert {problem.kind for problem in survey.errors} <= {"unreadable-image", "unreadable-mask"}
    assert survey.errors


def test_label_values_that_no_class_has_are_reported(tmp_path: Path) -> None:
    labels = np.stack([disk(value=1)] * 4)
    labels[2, 0, 0] = 9
    bench(tmp_path / "a.npz", train_label=labels)
    (tmp_path / "labels.json").write_text('{"background": 0, "polyp": 1}')
    (error,) = check_dataset(open_dataset(tmp_path)).errors
    assert error.where == f"{tmp_path / 'a.npz'}, train_label, picture 2"
    assert error.kind == "unexpected-values"


def test_an_array_is_decoded_once_and_large_ones_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = bench(tmp_path / "a.npz")
    decoded = []
    decode = memory._decode_npz

    def counted(path: Path, key: str) -> NDArray[Any]:
        decoded.append(key)
        return decode(path, key)

    monkeypatch.setattr(memory, "_decode_npz", counted)
    monkeypatch.setattr(memory, "_SPILLED", 1000)
    check_dataset(open_dataset(tmp_path), workers=2)
    assert sorted(decoded) == sorted(members)
    array = read_array(tmp_path / "a.npz", "train_images")
    assert isinstance(array, np.memmap)
    assert np.array_equal(array, members["train_images"])


def test_reading_one_picture_does_not_hand_out_the_shared_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", imgs=noise(1), gts=disk(value=1))
    source = InArray(tmp_path / "a.npz", "imgs")
    source.read_image()[:] = 0
    assert np.array_equal(source.read_image(), noise(1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(
            ("train_images", "train_label", "test_images", "test_label", "imgs", "gts", "label")
        ),
        arrays(
            scalar_dtypes() | st.just(np.dtype("U3")),
            array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
        ),
        max_size=4,
    ),
    st.integers(0, 400),
)
def test_no_arrays_give_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, NDArray[Any]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    np.savez(path, **members)  # type: ignore[arg-type]
    if cut > 200:
        path.write_bytes(path.read_bytes()[: -(cut - 200)])
    npz.recognise(path)
    with suppress(DataError):
        check_dataset(npz.read(path), workers=1)
