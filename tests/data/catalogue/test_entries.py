"""Every entry of the catalogue is complete and fits itself."""

from __future__ import annotations

import dataclasses
import re

import pytest

from medseg.data import catalogue
from medseg.data.case import SPLITS
from medseg.data.catalogue.entry import Entry
from medseg.data.layouts import LAYOUTS
from medseg.errors import DataError

WANTED = (
    "kvasir-seg", "hyperkvasir", "cvc-clinicdb", "cvc-colondb", "cvc-300", "etis-larib", "pranet",
    "ph2", "isic-2016", "isic-2017", "isic-2018", "busi", "udiat", "dsb2018", "glas", "monuseg",
    "tnbc", "drive", "stare", "chase-db1", "hrf", "montgomery", "shenzhen", "jsrt", "covid19-ct",
    "acdc", "synapse", "endovis-2015", "endovis-2017", "refuge", "drishti-gs", "tn3k", "ddti",
    "hc18", "lgg-mri", "isbi-2012", "wbc", "camus", "promise12", "la-2018", "brain-tumor",
    "fuseg", "dental-panoramic", "covid-cxr-lungs",
    "msd-task01-brain-tumour", "msd-task02-heart", "msd-task03-liver", "msd-task04-hippocampus",
    "msd-task05-prostate", "msd-task06-lung", "msd-task07-pancreas", "msd-task08-hepatic-vessel",
    "msd-task09-spleen", "msd-task10-colon",
)  # fmt: skip


def test_the_sets_that_readers_expect_are_there() -> None:
    assert set(WANTED) <= set(catalogue.names())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'kvasir-seg'"):
        catalogue.load_entry("kvasir_segg")


@pytest.mark.parametrize("name", catalogue.names())
def test_an_entry_is_complete(name: str) -> None:
    entry = catalogue.load_entry(name)
    assert entry.name == name
    for text in (entry.title, entry.modality, entry.organ, entry.summary, entry.licence):
        assert text.strip() == text != ""
    assert entry.steps
    cited = entry.citation
    assert all((cited.authors, cited.title, cited.venue))
    assert 1990 < cited.year < 2030
    for url in (entry.url, entry.licence_url, cited.link, *entry.sources):
        assert re.fullmatch(r"https?://[\w.-]+\.[a-z]+(:\d+)?(/\S*)?", url), url


@pytest.mark.parametrize("name", catalogue.names())
def test_an_entry_can_be_read_by_a_layout_as_classes(name: str) -> None:
    entry = catalogue.load_entry(name)
    assert entry.layout in LAYOUTS
    names, values = entry.label_map.names, entry.label_map.values
    assert len(names) >= 2
    assert len(set(names)) == len(names)
    assert len(set(values)) == len(values)
    assert not entry.objects or len(names) == 2
    if entry.group_pattern is not None:
        assert re.compile(entry.group_pattern).groups <= 1


@pytest.mark.parametrize("name", catalogue.names())
def test_numbers_fit_each_other(name: str) -> None:
    entry = catalogue.load_entry(name)
    assert entry.images is None or entry.images > 0
    assert (entry.widths is None) == (entry.heights is None)
    for bounds in (entry.widths, entry.heights):
        assert bounds is None or 0 < bounds[0] <= bounds[1]
    if entry.split is not None:
        assert set(entry.split.patterns) <= set(entry.split.parts) <= set(SPLITS)
        assert sum(entry.split.parts.values()) == entry.images
        for pattern in entry.split.patterns.values():
            re.compile(pattern)


@pytest.mark.parametrize("name", catalogue.names())
def test_what_is_not_known_from_a_source_is_called_unverified(name: str) -> None:
    entry = catalogue.load_entry(name)
    assert set(entry.unverified) <= {field.name for field in dataclasses.fields(Entry)}
    assert len(set(entry.unverified)) == len(entry.unverified)
    assert entry.images is not None or "images" in entry.unverified
    assert entry.sources or "images" in entry.unverified or "licence" in entry.unverified


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("drive", {"01_test": "test", "20_test": "test", "21_training": "train", "40": "train"}),
        ("glas", {"train_1": "train", "testA_60": "test", "testB_3": "test", "test_001": "test"}),
        ("chase-db1", {"Image_10L": "train", "Image_11R": "test", "Image_01R": "train"}),
        ("hrf", {"01_dr": "train", "05_h": "train", "06_g": "test", "15_dr": "test"}),
        ("idrid", {"IDRiD_09": "train", "IDRiD_54": "train", "IDRiD_55": "test"}),
        ("fuseg", {"train_0011": "train", "validation/images/0002": "val"}),
        (
            "acdc",
            {
                "training/patient001/patient001_frame01": "train",
                "patient100_frame12_slice_3": "train",
                "testing/patient101/patient101_frame01": "test",
                "patient150_frame01": "test",
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_case_is_in_the_part_that_its_name_says(name: str, cases: dict[str, str]) -> None:
    split = catalogue.load_entry(name).split
    assert split is not None
    for case, wanted in cases.items():
        parts = [part for part, pattern in split.patterns.items() if re.search(pattern, case)]
        assert parts == [wanted], case


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("acdc", {"patient001_frame01_slice_0": "patient001"}),
        ("hc18", {"392_HC": "392", "392_2HC": "392", "training_set/010_HC": "010"}),
        ("chase-db1", {"Image_01L": "01", "Image_01R": "01"}),
        ("camus", {"patient0001/patient0001_2CH_ED": "patient0001"}),
        ("lgg-mri", {"TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1": "TCGA_CS_4941"}),
        ("tnbc", {"01_2": "01"}),
        ("ultrasound-nerve", {"33_77": "33"}),
        ("monuseg", {"TCGA-18-5592-01Z-00-DX1": "TCGA-18-5592"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_case_belongs_to_the_group_that_its_name_says(name: str, cases: dict[str, str]) -> None:
    pattern = catalogue.load_entry(name).group_pattern
    assert pattern is not None
    for case, wanted in cases.items():
        match = re.search(pattern, case)
        assert match is not None
        assert (match.group(1) if match.re.groups else match.group(0)) == wanted
