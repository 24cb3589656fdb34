from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.builders import noise, save
from medseg.data.case import Case
from medseg.data.convert import TARGETS, convert_dataset
from medseg.data.convert.items import ORIGINAL
from medseg.data.integrity import check_dataset
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.leaks import KINDS
from medseg.data.survey import Survey

LAYOUT_OF = {target: "folders" if target == "images-masks" else target for target in TARGETS}


def surveyed(root: Path, layout: str = "auto") -> Survey:
    survey = check_dataset(open_dataset(root, layout=layout), workers=1)
    # Images of a few pixels may happen to be alike.
    assert {problem.kind for problem in survey.errors} <= KINDS
    return survey


def identity(case: Case) -> str:
    """The id that a case had before it was renamed for a layout."""
    return case.attributes.get(ORIGINAL) or case.id


def content(case: Case, survey: Survey) -> tuple[bytes, bytes | None]:
    """A case's pixels and classes, grey also where three channels are equal."""
    assert survey.labels is not None
    image = case.image.read_image()
    if image.shape[2] == 1 and survey.channels == 3:
        image = np.repeat(image, 3, axis=2)
    if survey.channels == 1:
        image = image[..., :1]
    pixels = image.tobytes() + str(image.shape).encode()
    if case.mask is None:
        return pixels, None
    classes = read_classes(case.mask, survey.labels, field_of_view=case.field_of_view)
    return pixels, classes.tobytes()


def known(case: Case) -> dict[str, str]:
    return {key: value for key, value in case.attributes.items() if value and key != ORIGINAL}


def same_cases(before: Survey, after: Survey) -> None:
    """Both have the same cases: ids, pixels, classes, patients, attributes and parts."""
    assert before.labels is not None
    assert after.labels is not None
    assert before.labels.names == after.labels.names
    assert before.channels == after.channels
    others = {identity(case): case for case in after.dataset.cases}
    assert {identity(case) for case in before.dataset.cases} == others.keys()
    for case in before.dataset.cases:
        other = others[identity(case)]
        assert content(case, before) == content(other, after)
        assert case.patient == other.patient
        assert (case.split or "train") == (other.split or "train")
        assert known(case) == known(other)


def manifest(
    root: Path,
    rows: list[Mapping[str, str]],
    images: list[NDArray[np.uint8]],
    masks: list[NDArray[np.uint8] | None],
    names: Mapping[str, int | list[int]],
) -> Path:
    """A dataset with everything a case may have."""
    columns = ["image", "mask", *sorted({key for row in rows for key in row})]
    lines = [",".join(columns)]
    for index, (row, image, mask) in enumerate(zip(rows, images, masks, strict=True)):
        save(root / f"i{index}.png", image)
        if mask is not None:
            save(root / f"m{index}.png", mask)
        cells = [f"i{index}.png", "" if mask is None else f"m{index}.png"]
        lines.append(",".join([*cells, *(f'"{row.get(key, "")}"' for key in columns[2:])]))
    (root / "manifest.csv").write_text("\n".join(lines), "utf-8")
    (root / "labels.json").write_text(json.dumps(names), "utf-8")
    return root


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of :func:`manifest`."""
    count = draw(st.integers(2, 4))
    published = draw(st.booleans())
    has_patients = draw(st.booleans())
    channels = draw(st.sampled_from((1, 3)))
    values = draw(st.sampled_from(({"background": 0, "a": 255}, {"background": 0, "a": 7, "b": 3})))
    codes = list(values.values())
    if draw(st.booleans()):
        values = {**values, "ignore": 99}
        codes.append(99)
    name = st.text("ab0 _-.é/", min_size=1, max_size=6).map(str.strip).filter(valid)
    ids = draw(st.lists(name, min_size=count, max_size=count, unique_by=str.lower))
    rows, images, masks = [], [], []
    for index, case_id in enumerate(ids):
        seed = draw(st.integers(0, 9))
        rng = np.random.default_rng((index, seed))
        size = (int(rng.integers(2, 6)), int(rng.integers(2, 6)))
        row = {"id": case_id, "site": draw(st.sampled_from(("", "north", "süd")))}
        if published:
            row["split"] = ("train", "val", "test", "train")[index]
        if has_patients:
            row["patient"] = draw(st.sampled_from(("p1", "p2"))) + row.get("split", "")
        rows.append(row)
        images.append(noise(seed * 10 + index, size, channels))
        mask = rng.choice(codes, size).astype(np.uint8)
        mask.flat[0] = codes[1]
        masks.append(mask)
    return {"rows": rows, "images": images, "masks": masks, "names": values}


def valid(name: str) -> bool:
    parts = name.split("/")
    return all(part.strip() == part and part.strip(".") and part[0] != "." for part in parts)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=datasets())
def test_a_converted_dataset_is_the_same_dataset(
    tmp_path_factory: pytest.TempPathFactory, target: str, made: dict[str, Any]
) -> None:
    assume(target != "coco" or "ignore" not in made["names"])
    folder = tmp_path_factory.mktemp("convert")
    before = surveyed(manifest(folder / "in", **made))
    convert_dataset(before, target, folder / "out")
    after = surveyed(folder / "out")
    assert after.dataset.layout == LAYOUT_OF[target]
    same_cases(before, after)
    convert_dataset(after, "images-masks", folder / "back")
    same_cases(after, surveyed(folder / "back"))
