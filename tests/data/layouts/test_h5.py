from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from numpy.typing import NDArray

from medseg.data.case import IGNORE
from medseg.data.integrity import check_dataset
from medseg.data.labels import read_classes
from medseg.data.layouts import h5, open_dataset
from medseg.errors import DataError

h5py = pytest.importorskip("h5py")


def put(path: Path, **members: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in members.items():
            file[key] = value
    return path


def acdc(root: Path, patients: int = 4, depth: int = 2) -> Mapping[str, NDArray[Any]]:
    """SSL4MIS's ACDC: volumes and their slices, with lists; the volumes by name."""
    volumes = {}
    for patient in range(1, patients + 1):
        rng = np.random.default_rng(patient)
        image = rng.random((depth, 8, 9)).astype(np.float32)
        label = rng.integers(0, 4, (depth, 8, 9)).astype(np.uint8)
        scribble = np.where(rng.random(label.shape) < 0.5, label, 4).astype(np.uint8)
        name = f"patient{patient:03}_frame01"
        volumes[name] = label
        put(root / "data" / f"{name}.h5", image=image, label=label)
        for index in range(depth):
            put(
                root / "data" / "slices" / f"{name}_slice_{index}.h5",
                image=image[index],
                label=label[index],
                scribble=scribble[index],
            )
    slices = [f"{name}_slice_{index}\n" for name in list(volumes)[:2] for index in range(depth)]
    (root / "train_slices.list").write_text("".join(slices))
    (root / "train.list").write_text("patient001_frame01\npatient002_frame01\n")
    (root / "val.list").write_text("patient003_frame01\n")
    (root / "test.list").write_text("patient004_frame01\n")
    return volumes


def test_slices_are_cases_with_patients_and_the_published_split(tmp_path: Path) -> None:
    volumes = acdc(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.problems) == ("h5", ())
    assert dataset.reason == ("HDF5 files such as patient001_frame01.h5 hold image and label")
    assert [case.split for case in dataset.cases] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert {case.patient for case in dataset.cases} == {f"patient{k:03}" for k in range(1, 5)}
    for case in dataset.cases:
        name, index = case.id.split("_slice_")
        assert case.mask is not None
        assert np.array_equal(case.mask.read_mask().values, volumes[name][int(index)])
    assert check_dataset(dataset).errors == ()


def test_volumes_without_slices_are_sliced(tmp_path: Path) -> None:
    volumes = acdc(tmp_path)
    for path in (tmp_path / "data" / "slices").glob("patient004*"):
        path.unlink()
    case = open_dataset(tmp_path).cases[-1]
    assert (case.id, case.patient, case.split) == (
        "patient004_frame01/slice_001",
        "patient004",
        "test",
    )
    assert case.mask is not None
    assert np.array_equal(case.mask.read_mask().values, volumes["patient004_frame01"][1])


def test_the_left_atrium_is_sliced_along_its_last_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (5, 6, 3)).astype(np.uint8)
    for name in ("0RZ", "1D7"):
        put(tmp_path / "set" / name / "mri_norm2.h5", image=rng.random((5, 6, 3)), label=label)
    (tmp_path / "train.list").write_text("0RZ\n")
    (tmp_path / "test.list").write_text("1D7\n")
    cases = open_dataset(tmp_path).cases
    assert [case.id for case in cases] == [
        f"{name}/slice_00{k}" for name in ("0RZ", "1D7") for k in range(3)
    ]
    assert [(case.patient, case.split) for case in cases[::3]] == [
        ("0RZ", "train"),
        ("1D7", "test"),
    ]
    assert cases[2].mask is not None
    assert np.array_equal(cases[2].mask.read_mask().values, label[..., 2])


def test_scribbles_are_learnt_from_and_labels_are_scored(tmp_path: Path) -> None:
    volumes = acdc(tmp_path)
    (tmp_path / "labels.json").write_text(
        '{"background": 0, "right": 1, "muscle": 2, "left": 3, "ignore": 4}'
    )
    dataset = open_dataset(tmp_path, layout="h5-scribble")
    assert dataset.labels is not None
    for case in dataset.cases:
        name, index = case.id.split("_slice_")
        assert case.mask is not None
        classes = read_classes(case.mask, dataset.labels)
        known = classes != IGNORE
        assert known.all() == (case.split != "train")
        assert np.array_equal(classes[known], volumes[name][int(index)][known])


def test_scribbles_need_the_value_of_unknown_pixels(tmp_path: Path) -> None:
    acdc(tmp_path)
    with pytest.raises(DataError, match=r'labels\.json.*"ignore": 4'):
        open_dataset(tmp_path, layout="h5-scribble")


def test_every_bad_file_and_line_is_reported(tmp_path: Path) -> None:
    acdc(tmp_path)
    slices = tmp_path / "data" / "slices"
    whole = (slices / "patient001_frame01_slice_0.h5").read_bytes()
    (slices / "patient001_frame01_slice_0.h5").write_bytes(whole[:900])
    put(slices / "patient001_frame01_slice_1.h5", picture=np.zeros((8, 9)))
    put(slices / "patient002_frame01_slice_0.h5", image=np.zeros((8, 9)), label=np.zeros((8, 8)))
    put(slices / "patient002_frame01_slice_1.h5", image=np.zeros((2, 2, 8, 9)))
    with (tmp_path / "test.list").open("a") as file:
        file.write("patient009_frame01\npatient003_frame01\n")
    problems = open_dataset(tmp_path).problems
    assert sorted(problem.kind for problem in problems) == [
        "array-shape",
        "array-shape",
        "array-shape",
        "case-in-two-splits",
        "split-unknown-case",
        "unreadable-array",
    ]
    said = " ".join(f"{problem.where} {problem.found}" for problem in problems)
    for text in (
        "holds no image, only picture",
        "image is 8 x 9, label 8 x 8",
        "image is 2 x 2 x 8 x 9",
        "there is no file 'patient009_frame01'",
        "'patient003_frame01' is also in the list of val",
    ):
        assert text in said


def test_files_in_no_list_are_named(tmp_path: Path) -> None:
    acdc(tmp_path, 5)
    (problem,) = open_dataset(tmp_path).problems
    assert problem.kind == "not-in-published-split"
    assert "patient005_frame01_slice_0" in problem.found


def test_foreign_hdf5_files_are_not_a_dataset(tmp_path: Path) -> None:
    put(tmp_path / "model.h5", weights=np.zeros(3))
    (tmp_path / "notes.h5").write_text("hello")
    assert h5.recognise(tmp_path) is None
    assert h5.recognise(tmp_path / "notes.h5") is None


def test_without_h5py_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acdc(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "h5py" else find(name, *rest),
    )
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"needs h5py.*pip install 'medseg\[h5\]'"):
        open_dataset(tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(("image", "label", "scribble", "other")),
        arrays(
            scalar_dtypes().filter(lambda dtype: dtype.kind not in "mM"),
            array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
        ),
        max_size=3,
    ),
    st.integers(0, 3000),
    st.binary(max_size=12),
)
def test_no_file_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory,
    members: dict[str, NDArray[Any]],
    place: int,
    noise: bytes,
) -> None:
    path = put(tmp_path_factory.mktemp("h5") / "a.h5", **members)
    raw = bytearray(path.read_bytes())
    raw[place : place + len(noise)] = noise
    path.write_bytes(bytes(raw))
    h5.recognise(path)
    with suppress(DataError):
        check_dataset(h5.read(path), workers=1)
