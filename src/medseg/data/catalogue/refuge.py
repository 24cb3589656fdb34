"""REFUGE."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit

ENTRY = Entry(
    name="refuge",
    title="REFUGE",
    modality="fundus photography",
    organ="retina",
    summary="optic disc rim and cup; glaucomatous and other eyes",
    labels=(
        Label("background", 255),
        Label("disc rim", 128),
        Label("cup", 0),
    ),
    images=1200,
    widths=(1634, 2124),
    heights=(1634, 2056),
    licence="on registration, research",
    licence_url="https://refuge.grand-challenge.org/",
    citation=Citation(
        authors="Orlando, Fu, Barbosa Breda, van Keer, Bathula et al.",
        year=2020,
        title=(
            "REFUGE Challenge: A unified framework for evaluating automated methods for "
            "glaucoma assessment from fundus photographs"
        ),
        venue="Medical Image Analysis 59, 101570",
        link="https://arxiv.org/abs/1910.03667",
    ),
    url="https://refuge.grand-challenge.org/",
    steps=(
        "register, download training, validation and test with their disc and cup masks",
        "train/images, train/masks, val/images, val/masks, test/images, test/masks",
    ),
    layout="folders",
    split=PublishedSplit(
        rule="folders: 400 train, 400 val, 400 test",
        parts={"train": 400, "val": 400, "test": 400},
    ),
    notes=(
        "training images come from another camera than validation and test",
        (
            "the cup lies inside the disc: 'disc' in papers is rim and cup together, so "
            "give it as a region when comparing"
        ),
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/REFUGE.md"),
    ),
    unverified=(
        "labels",
        "widths",
        "heights",
        "licence",
        "citation",
        "notes",
    ),
)
