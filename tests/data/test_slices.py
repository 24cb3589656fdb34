from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.data.case import Case, Label, LabelMap
from medseg.data.expand import Subject, expand
from medseg.data.integrity import check_dataset
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.slices import Slice, Stack, gather, misplaced, mixed_orientations, open_slices
from medseg.data.source import Channels, File, Union
from medseg.errors import DataError

from .builders import disk, noise, save
from .volumes import AXIAL, dicom_series, dicom_slice, ramp, save_nifti, save_nrrd


def cases_of(*images: Path, masks: tuple[Path, ...] = (), **more: object) -> list[Case]:
    cases, problems = expand(Subject("p1", images, masks, **more))  # type: ignore[arg-type]
    assert problems == []
    return cases


def test_a_volume_is_a_case_a_slice(tmp_path: Path) -> None:
    values = ramp((4, 5, 3), np.uint8)
    image = save_nifti(tmp_path / "a.nii.gz", values)
    mask = save_nifti(tmp_path / "m.nii.gz", values % 3)
    cases = cases_of(image, masks=(mask,), split="test", attributes={"site": "A"})
    assert [case.id for case in cases] == ["p1/slice_000", "p1/slice_001", "p1/slice_002"]
    assert {(c.patient, c.split, c.attributes["site"]) for c in cases} == {("p1", "test", "A")}
    for index, case in enumerate(cases):
        upright = values[::-1, ::-1, index].T
        assert np.array_equal(case.image.read_image()[..., 0], upright)
        assert case.mask is not None
        assert np.array_equal(case.mask.read_mask().values, upright % 3)
        assert case.image.place == f"axial slice {index}"


def test_a_known_patient_is_kept(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp())
    assert {case.patient for case in cases_of(image, patient="Ann")} == {"Ann"}


def test_dicom_says_who_the_patient_is(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", ramp((3, 4, 5), np.uint8), PatientID="Bob")
    assert {case.patient for case in cases_of(folder)} == {"Bob"}


def test_a_single_slice_is_a_case_by_itself(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp((4, 5, 1)))
    (case,) = cases_of(image)
    assert (case.id, case.patient) == ("p1", None)


def test_channels_in_several_volumes_are_joined(tmp_path: Path) -> None:
    images = [save_nifti(tmp_path / f"{i}.nii.gz", ramp(seed=i)) for i in range(2)]
    cases = cases_of(*images)
    assert isinstance(cases[0].image, Channels)
    assert cases[0].image.read_image().shape == (5, 4, 2)


def test_masks_in_several_volumes_are_united(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp())
    masks = []
    for index in range(2):
        values = np.zeros((4, 5, 3), np.uint8)
        values[index] = 1
        masks.append(save_nifti(tmp_path / f"m{index}.nii.gz", values))
    case = cases_of(image, masks=tuple(masks), mask_values=(3, 7))[0]
    assert isinstance(case.mask, Union)
    assert set(np.unique(case.mask.read_mask().values).tolist()) == {0, 3, 7}


def test_a_fourth_axis_holds_channels_only_where_the_layout_says_so(tmp_path: Path) -> None:
    values = ramp((4, 5, 3, 2), np.uint8)
    image = save_nifti(tmp_path / "a.nii.gz", values)
    cases = cases_of(image, channels_in_file=True)
    assert len(cases) == 3
    assert np.array_equal(cases[1].image.read_image(), values[::-1, ::-1, 1].transpose(1, 0, 2))
    (case,) = cases_of(image)
    with pytest.raises(DataError, match=r"is 4D \(4 x 5 x 3 x 2\) where 3D is expected"):
        case.image.read_image()


def test_channels_of_a_file_are_scaled_each_by_itself(tmp_path: Path) -> None:
    values = np.stack([ramp((4, 5, 3)), 1000 * ramp((4, 5, 3), np.int32)], axis=3)
    image = save_nifti(tmp_path / "a.nii.gz", values.astype(np.float32))
    for case in cases_of(image, channels_in_file=True):
        first, second = np.moveaxis(case.image.read_image(), 2, 0)
        assert np.array_equal(first, second)


def test_a_field_of_view_may_be_a_volume(tmp_path: Path) -> None:
    view = np.ones((4, 5, 3), np.uint8)
    view[0] = 0
    image = save_nifti(tmp_path / "a.nii.gz", ramp())
    mask = save_nifti(tmp_path / "m.nii.gz", np.ones((4, 5, 3), np.uint8))
    seen = save_nifti(tmp_path / "v.nii.gz", view)
    case = cases_of(image, masks=(mask,), field_of_view=seen)[0]
    assert case.mask is not None
    labels = LabelMap((Label("background", 0), Label("it", 1)))
    classes = read_classes(case.mask, labels, field_of_view=case.field_of_view)
    assert (classes[:, -1] == 255).all()
    assert (classes[:, :-1] == 1).all()


@pytest.mark.parametrize(
    ("shape", "affine", "kind", "found"),
    [
        ((4, 5, 2), AXIAL, "size-mismatch", "the mask is 4 x 5 x 2 voxels"),
        (
            (4, 5, 3),
            np.diag([-2, -2, 5, 1.0]),
            "geometry-mismatch",
            "stored in the orientation LPS",
        ),
        ((4, 5, 3), np.diag([2, 2, 6, 1.0]), "geometry-mismatch", "2 mm away from the image"),
    ],
)
def test_a_mask_on_another_grid_is_a_problem_and_leaves_the_case_unlabelled(
    tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray, kind: str, found: str
) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp())
    mask = save_nifti(tmp_path / "m.nii.gz", np.zeros(shape, np.uint8), affine)
    cases, (problem,) = expand(Subject("p1", [image], [mask]))
    assert (problem.severity, problem.kind, problem.where) == ("error", kind, str(mask))
    assert found in problem.found
    assert len(cases) == 3
    assert not any(case.mask for case in cases)


def test_a_picture_is_no_mask_of_a_volume(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp())
    mask = save(tmp_path / "m.png", disk((5, 4)))
    _, (problem,) = expand(Subject("p1", [image], [mask]))
    assert problem.found == "the mask is one picture, the image has 3 slices"
    _, (problem,) = expand(Subject("p1", [mask], [image]))
    assert problem.found == "the mask has 3 slices, the image is one picture"


def test_a_picture_fits_a_single_slice_that_is_shown_as_it_is_stored(tmp_path: Path) -> None:
    image = dicom_slice(tmp_path / "a.dcm", noise(channels=1))
    mask = save(tmp_path / "m.png", disk())
    assert expand(Subject("p1", [image], [mask]))[1] == []
    flat = save_nifti(tmp_path / "a.nii.gz", ramp((4, 5)))
    _, (problem,) = expand(Subject("p1", [flat], [save(tmp_path / "n.png", disk((5, 4)))]))
    assert problem.kind == "geometry-mismatch"
    assert "stored turned or mirrored" in problem.found


def test_channels_on_different_grids_are_a_problem(tmp_path: Path) -> None:
    one = save_nifti(tmp_path / "a.nii.gz", ramp())
    two = save_nifti(tmp_path / "b.nii.gz", ramp((4, 5, 2)))
    cases, (problem,) = expand(Subject("p1", [one, two]))
    assert cases == []
    assert (problem.kind, problem.where) == ("channel-mismatch", str(two))


def test_a_volume_that_cannot_be_read_is_a_case_that_says_so(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp())
    mask = save_nifti(tmp_path / "m.nii.gz", np.zeros((4, 5, 3), np.uint8))
    for content in (image.read_bytes()[:60], b"", b"no volume"):
        image.write_bytes(content)
        (case,) = cases_of(image, masks=(mask,))
        with pytest.raises(DataError, match=r"a\.nii\.gz: .*copy or export it again"):
            case.image.read_image()


def test_formats_may_differ_between_image_and_mask(tmp_path: Path) -> None:
    image = save_nrrd(tmp_path / "a.nrrd", ramp())
    mask = save_nifti(tmp_path / "m.nii.gz", ramp() % 2)
    assert len(cases_of(image, masks=(mask,))) == 3


def test_slices_have_hashes_of_their_own_that_follow_the_content(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii", ramp())
    copy = save_nifti(tmp_path / "b.nii", ramp())
    ours, theirs = cases_of(image), cases_of(copy)
    assert len({case.image.sha256() for case in ours}) == 3
    assert [c.image.sha256() for c in ours] == [c.image.sha256() for c in theirs]
    save_nifti(copy, ramp(seed=1))
    assert ours[0].image.sha256() != theirs[0].image.sha256()


def test_gathering_undoes_the_slicing_and_leaves_pictures_alone(tmp_path: Path) -> None:
    values = ramp((4, 5, 3), np.uint8)
    image = save_nifti(tmp_path / "a.nii.gz", values)
    mask = save_nifti(tmp_path / "m.nii.gz", values % 2)
    picture = Case("photo", File(save(tmp_path / "photo.png", noise())))
    whole, alone = gather([*cases_of(image, masks=(mask,)), picture])
    assert (whole.id, alone.id, alone.image) == ("p1", "photo", picture.image)
    assert isinstance(whole.mask, Stack)
    assert np.array_equal(whole.image.read_image()[..., 0], values[::-1, ::-1].transpose(2, 1, 0))
    assert np.array_equal(whole.mask.read_mask().values, whole.image.read_image()[..., 0] % 2)
    assert whole.field_of_view is None


def test_a_picture_named_like_a_slice_is_a_picture(tmp_path: Path) -> None:
    cases = [Case(f"a/slice_00{i}", File(save(tmp_path / f"{i}.png", noise(i)))) for i in range(2)]
    assert [whole.id for whole in gather(cases)] == ["a/slice_000", "a/slice_001"]


def test_a_file_opens_as_what_it_holds(tmp_path: Path) -> None:
    assert isinstance(open_slices(save(tmp_path / "a.png", noise())), File)
    assert isinstance(open_slices(save_nifti(tmp_path / "a.nii", ramp((4, 5)))), Slice)
    assert isinstance(open_slices(save_nifti(tmp_path / "b.nii", ramp())), Stack)


def test_pictures_are_never_misplaced(tmp_path: Path) -> None:
    picture = File(save(tmp_path / "a.png", noise()))
    assert misplaced(picture, open_slices(save_nifti(tmp_path / "a.nii", ramp()))) is None


def test_planes_that_differ_between_volumes_are_a_warning(tmp_path: Path) -> None:
    one = save_nifti(tmp_path / "a.nii", ramp())
    two = save_nifti(tmp_path / "b.nii", ramp(), np.diag([2, 7, 2, 1.0]))
    cases = [*expand(Subject("x", [one]))[0], *expand(Subject("y", [two]))[0]]
    (problem,) = mixed_orientations(cases, tmp_path)
    assert (problem.severity, problem.kind) == ("warning", "mixed-orientations")
    assert "x is cut into axial slices, y is cut into coronal slices" in problem.found
    assert mixed_orientations(cases[:3], tmp_path) == []


def test_reading_slice_by_slice_decodes_a_volume_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", ramp((4, 5, 9)))
    cases = cases_of(image)
    decoded = []
    original = nibabel.arrayproxy.ArrayProxy.__array__
    monkeypatch.setattr(
        nibabel.arrayproxy.ArrayProxy,
        "__array__",
        lambda self, *given, **named: decoded.append(1) or original(self, *given, **named),
    )
    for case in cases:
        case.image.read_image()
    assert len(decoded) == 1


def test_a_damaged_volume_is_one_problem_of_the_dataset(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / "images" / f"{name}.nii.gz", ramp((9, 9, 9)))
        save_nifti(tmp_path / "masks" / f"{name}.nii.gz", ramp((9, 9, 9)) % 2)
    image = tmp_path / "images" / "a.nii.gz"
    image.write_bytes(image.read_bytes()[:-400])
    survey = check_dataset(open_dataset(tmp_path))
    (problem,) = survey.errors
    assert (problem.kind, problem.where) == ("unreadable-image", str(image))
    assert len(survey.usable) == 9
