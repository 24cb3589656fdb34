from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.data.case import Dataset
from medseg.data.integrity import check_dataset
from medseg.data.layouts import bids, open_dataset
from medseg.errors import DataError

from ..builders import save
from .test_folders import kinds, pairs, touch
from .test_nnunet import messages

MANUAL = "derivatives/manual"


def name(stem: str, suffix: str, folder: str = "") -> str:
    """``derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz`` for ``sub-01_ses-1``."""
    entities = stem.split("_")
    parts = [part for part in entities if part.startswith(("sub-", "ses-"))]
    return "/".join([*filter(None, [folder]), *parts, "anat", f"{stem}_{suffix}.nii.gz"])


def study(root: Path, *stems: str, image: str = "T1w", mask: str = "dseg") -> Path:
    """Images and, in a folder of derivatives, masks; all files are empty."""
    touch(root, *(name(stem, image) for stem in stems))
    return touch(root, *(name(stem, mask, MANUAL) for stem in stems))


def image_of(found: Dataset, case: str = "sub-01") -> str:
    return next(c.image.path.name for c in found.cases if c.id == case)


def test_masks_of_derivatives_find_their_image_and_subjects_are_patients(tmp_path: Path) -> None:
    found = open_dataset(study(tmp_path, "sub-01_ses-1", "sub-01_ses-2", "sub-02"))
    assert pairs(found) == {
        f"{case}": f"{case}_dseg.nii.gz" for case in ("sub-01_ses-1", "sub-01_ses-2", "sub-02")
    }
    assert [case.patient for case in found.cases] == ["sub-01", "sub-01", "sub-02"]
    assert (found.layout, found.problems) == ("bids", ())
    assert f"{MANUAL}/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz" in found.reason


@pytest.mark.parametrize("where", [MANUAL, "derivatives"])
def test_a_folder_of_derivatives_finds_images_in_the_raw_dataset(
    tmp_path: Path, where: str
) -> None:
    study(tmp_path, "sub-01")
    found = open_dataset(tmp_path / where)
    assert pairs(found) == {"sub-01": "sub-01_dseg.nii.gz"}
    assert found.cases[0].image.path == tmp_path / "sub-01/anat/sub-01_T1w.nii.gz"


def test_masks_may_lie_beside_their_images(tmp_path: Path) -> None:
    touch(tmp_path, name("sub-01", "FLAIR"), name("sub-01", "mask"))
    assert pairs(open_dataset(tmp_path)) == {"sub-01": "sub-01_mask.nii.gz"}


@pytest.mark.parametrize(
    ("stem", "suffix", "image"),
    [
        ("sub-01_T2w", "dseg", "sub-01_T2w.nii.gz"),
        ("sub-01_T1w_label-lesion", "mask", "sub-01_T1w.nii.gz"),
        ("sub-01_T1w_label-cord", "seg", "sub-01_T1w.nii.gz"),
        ("sub-01_acq-fast", "dseg", "sub-01_acq-fast_T2w.nii.gz"),
        ("sub-01_space-MNI", "dseg", "sub-01_space-MNI_desc-preproc_T1w.nii.gz"),
    ],
)
def test_the_name_of_a_mask_says_which_image_is_meant(
    tmp_path: Path, stem: str, suffix: str, image: str
) -> None:
    touch(tmp_path, name("sub-01", "T1w"), name("sub-01", "T2w"), name("sub-01_acq-fast", "T2w"))
    touch(tmp_path, name("sub-01_space-MNI_desc-preproc", "T1w", "derivatives/prep"))
    touch(tmp_path, name(stem, suffix, MANUAL))
    found = bids.read(tmp_path)
    assert [case.image.path.name for case in found.cases if case.mask] == [image]


def test_the_image_in_the_same_derivatives_goes_before_the_raw_one(tmp_path: Path) -> None:
    study(tmp_path, "sub-01")
    touch(tmp_path, name("sub-01_desc-preproc", "T1w", MANUAL))
    assert image_of(open_dataset(tmp_path)) == "sub-01_desc-preproc_T1w.nii.gz"


def test_several_possible_images_are_an_error_that_names_them(tmp_path: Path) -> None:
    study(tmp_path, "sub-01", "sub-02")
    touch(tmp_path, name("sub-02", "FLAIR"))
    found = open_dataset(tmp_path)
    assert pairs(found) == {"sub-01": "sub-01_dseg.nii.gz"}
    assert kinds(found) == ["ambiguous-image"]
    assert "may belong to sub-02_FLAIR.nii.gz, sub-02_T1w.nii.gz" in messages(found)


def test_binary_masks_that_differ_by_label_are_classes(tmp_path: Path) -> None:
    study(tmp_path, "sub-01", "sub-02", mask="label-right_mask")
    touch(tmp_path, name("sub-01_label-left", "mask", MANUAL))
    found = open_dataset(tmp_path)
    assert found.labels is not None
    assert found.labels.names == ("background", "left", "right")
    assert [path.name for path in found.cases[0].mask.files] == [  # type: ignore[union-attr]
        "sub-01_label-left_mask.nii.gz", "sub-01_label-right_mask.nii.gz",
    ]  # fmt: skip
    assert found.problems == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("desc-a_dseg", "desc-b_dseg"),
        ("label-a_dseg", "label-b_dseg"),
        ("desc-a_mask", "mask"),
        ("label-a_mask", "mask"),
        ("label-a_desc-x_mask", "label-b_desc-y_mask"),
    ],
)
def test_masks_that_contradict_each_other_are_an_error(
    tmp_path: Path, first: str, second: str
) -> None:
    study(tmp_path, "sub-01", "sub-02", mask=first)
    touch(tmp_path, name("sub-02", second, MANUAL))
    found = open_dataset(tmp_path)
    assert [case.id for case in found.cases] == ["sub-01"]
    assert kinds(found) == ["ambiguous-mask"]
    assert f"1 image with several masks: {MANUAL}/sub-02/anat/sub-02_" in messages(found)


def test_masks_of_other_derivatives_are_a_choice_that_naming_one_makes(tmp_path: Path) -> None:
    study(tmp_path, "sub-01")
    touch(tmp_path, name("sub-01", "dseg", "derivatives/automatic"))
    with pytest.raises(DataError, match=r"several masks.*Name the folder of derivatives"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path / MANUAL).problems == ()


def test_segmentations_go_before_masks_with_a_warning(tmp_path: Path) -> None:
    study(tmp_path, "sub-01")
    touch(tmp_path, name("sub-01_desc-brain", "mask", MANUAL))
    found = open_dataset(tmp_path)
    assert pairs(found) == {"sub-01": "sub-01_dseg.nii.gz"}
    assert [(p.severity, p.kind) for p in found.problems] == [("warning", "several-masks")]


def test_masks_of_another_grid_leave_the_image_alone(tmp_path: Path) -> None:
    study(tmp_path, "sub-01")
    touch(tmp_path, name("sub-01_space-MNI", "dseg", MANUAL))
    assert pairs(open_dataset(tmp_path)) == {"sub-01": "sub-01_dseg.nii.gz"}


def test_images_of_the_same_kind_without_a_mask_are_unlabelled(tmp_path: Path) -> None:
    study(tmp_path, "sub-01")
    touch(tmp_path, name("sub-02", "T1w"), name("sub-03", "bold"))
    found = open_dataset(tmp_path)
    assert pairs(found) == {"sub-01": "sub-01_dseg.nii.gz", "sub-02": None}
    assert kinds(found) == ["unpaired-image"]


def test_masks_without_an_image_are_errors(tmp_path: Path) -> None:
    study(tmp_path, "sub-01")
    touch(tmp_path, name("sub-02", "dseg", MANUAL))
    found = open_dataset(tmp_path)
    assert kinds(found) == ["mask-without-image"]
    assert "no image is called sub-02_..." in messages(found)


def test_images_that_share_their_entities_have_different_ids(tmp_path: Path) -> None:
    touch(tmp_path, name("sub-01", "T1w"), name("sub-01", "T2w"))
    touch(tmp_path, name("sub-01_T1w", "dseg", MANUAL), name("sub-01_T2w", "dseg", MANUAL))
    assert pairs(open_dataset(tmp_path)) == {
        "sub-01_T1w": "sub-01_T1w_dseg.nii.gz",
        "sub-01_T2w": "sub-01_T2w_dseg.nii.gz",
    }


@pytest.mark.parametrize(
    "place",
    [
        "dseg.tsv",
        f"{MANUAL}/dseg.tsv",
        f"{MANUAL}/desc-x_dseg.tsv",
        f"{MANUAL}/sub-01/anat/sub-01_desc-x_dseg.tsv",
    ],
)
def test_a_table_names_the_classes(tmp_path: Path, place: str) -> None:
    study(tmp_path, "sub-01", mask="desc-x_dseg")
    (tmp_path / place).write_text("index\tname\tcolor\n2\tleft\tred\n1\tright\n\n")
    labels = open_dataset(tmp_path).labels
    assert labels is not None
    assert [(label.value, label.name) for label in labels.labels] == [
        (0, "background"), (1, "right"), (2, "left"),
    ]  # fmt: skip


def test_a_table_about_other_masks_is_not_read(tmp_path: Path) -> None:
    study(tmp_path, "sub-01", mask="desc-x_dseg")
    (tmp_path / MANUAL / "desc-y_dseg.tsv").write_text("index\tname\n1\tleft\n")
    assert open_dataset(tmp_path).labels is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its first line holds nothing"),
        ("index,name\n1,left\n", "its first line holds index,name"),
        ("index\tname\tname\n1\tleft\tx\n", "its first line holds"),
        ("index\tname\n1\tleft\tx\n", "line 2: 3 cells for 2 columns"),
        ("index\tname\n-1\tleft\nx\tb\n", "has the index 'x'"),
        ("index\tname\n1\t\n", "name ''"),
        ("index\tname\n1\tleft\n1\tright\n", "1 is 'right', but 'left'"),
        ("index\tname\n1\tleft\n2\tleft\n", "'left' is 2, but also 1"),
        ("index\tname\n70000\tleft\n", "'left' has the value 70000"),
        ("index\tname\n0\tbackground\n", "declares 0 labels"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path: Path, text: str, words: str) -> None:
    study(tmp_path, "sub-01")
    (tmp_path / "dseg.tsv").write_text(text)
    found = open_dataset(tmp_path)
    assert found.labels is None
    assert words in messages(found)
    assert {problem.severity for problem in found.problems} == {"error"}


def test_tables_of_subjects_must_agree(tmp_path: Path) -> None:
    study(tmp_path, "sub-01", "sub-02")
    for subject, class_name in (("sub-01", "left"), ("sub-02", "right")):
        table = tmp_path / name(subject, "dseg", MANUAL).replace(".nii.gz", ".tsv")
        table.write_text(f"index\tname\n1\t{class_name}\n")
    assert "1 is 'right', but 'left' in sub-01_dseg.tsv" in messages(open_dataset(tmp_path))


def test_participants_give_attributes(tmp_path: Path) -> None:
    study(tmp_path, "sub-01", "sub-02")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tsex\tage\nsub-02\tF\tn/a\nsub-09\tM\t4\n01\tM\t61\n", encoding="utf-8-sig"
    )
    found = open_dataset(tmp_path)
    assert [case.attributes for case in found.cases] == [
        {"sex": "M", "age": "61"}, {"sex": "F", "age": ""},
    ]  # fmt: skip
    assert found.problems == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"subject\tsex\n", "its first line holds subject, sex"),
        (b"participant_id\tsex\nsub-01\tM\nsub-01\tF\n", "line 3: sub-01 again"),
        (b"participant_id\n\xff\n", "is not UTF-8"),
    ],
)
def test_participants_that_cannot_be_read_are_explained(
    tmp_path: Path, content: bytes, words: str
) -> None:
    study(tmp_path, "sub-01")
    (tmp_path / "participants.tsv").write_bytes(content)
    found = open_dataset(tmp_path)
    assert words in messages(found)
    assert [case.id for case in found.cases] == ["sub-01"]


def test_images_without_any_mask_are_no_dataset_of_this_layout(tmp_path: Path) -> None:
    touch(tmp_path, name("sub-01", "T1w"), name("sub-02", "T1w"))
    assert bids.recognise(tmp_path) is None
    with pytest.raises(DataError, match="holds no mask named as in BIDS"):
        bids.read(tmp_path)


def test_masks_without_any_image_are_no_dataset_of_this_layout(tmp_path: Path) -> None:
    touch(tmp_path, name("sub-01", "dseg"), name("sub-02", "dseg"))
    assert bids.recognise(tmp_path) is None
    with pytest.raises(DataError, match=r"no mask can be used; .* no image is called sub-01_"):
        bids.read(tmp_path)


_PARTS = st.lists(
    st.sampled_from(
        [
            "sub-01",
            "sub-",
            "ses-1",
            "run-1",
            "desc-a",
            "label-b",
            "space-c",
            "T1w",
            "T2w",
            "x-",
            "é",
        ]
    ),
    max_size=4,
)
_FILE = st.tuples(
    st.sampled_from(["", "sub-01", "sub-02/anat", f"{MANUAL}/sub-01", "derivatives/sub-01/anat"]),
    _PARTS.map("_".join),
    st.sampled_from(["_T1w", "_dseg", "_mask", "_seg", "_", ""]),
    st.sampled_from([".nii.gz", ".png", ".tsv", ""]),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(_FILE, max_size=8), text=st.text(max_size=60))
def test_whatever_the_names_and_tables_only_a_message_comes_out(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str, str, str]], text: str
) -> None:
    root = tmp_path_factory.mktemp("bids")
    for folder, stem, suffix, ending in files:
        touch(root, f"{folder}/sub-01_{stem}{suffix}{ending}".lstrip("/"))
    for table in ("participants.tsv", "dseg.tsv"):
        heading = "participant_id\tage\n" if table[0] == "p" else "index\tname\n"
        (root / table).write_text(heading + text, encoding="utf-8", errors="surrogatepass")
    bids.recognise(root)
    try:
        found = bids.read(root)
    except DataError:
        return
    assert len({case.id for case in found.cases}) == len(found.cases)


def test_volumes_with_several_labels_are_united_slice_by_slice(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    left = np.zeros((6, 5, 4), np.uint8)
    right = left.copy()
    left[:2], right[4:] = 1, 255
    study(tmp_path, "sub-01", mask="label-left_mask")
    for path, array in (
        (name("sub-01", "T1w"), voxels),
        (name("sub-01_label-left", "mask", MANUAL), left),
        (name("sub-01_label-right", "mask", MANUAL), right),
    ):
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / path)  # type: ignore[attr-defined, no-untyped-call]
    survey = check_dataset(open_dataset(tmp_path))
    assert survey.errors == ()
    assert {facts.pixels for facts in survey.cases} == {(10, 10, 10)}
    assert len(survey.cases) == 4


def test_pictures_are_read_as_volumes_are(tmp_path: Path) -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save(tmp_path / "sub-01/micr/sub-01_sample-A_BF.png", picture)
    save(tmp_path / "sub-01/micr/sub-01_sample-A_dseg.png", picture // 32)
    assert pairs(open_dataset(tmp_path)) == {"sub-01_sample-A": "sub-01_sample-A_dseg.png"}
