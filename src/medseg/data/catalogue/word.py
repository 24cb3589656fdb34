"""WORD."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit

ENTRY = Entry(
    name="word",
    title="WORD",
    modality="CT",
    organ="abdomen",
    summary="16 abdominal organs",
    labels=(
        Label("background", 0),
        Label("liver", 1),
        Label("spleen", 2),
        Label("left kidney", 3),
        Label("right kidney", 4),
        Label("stomach", 5),
        Label("gallbladder", 6),
        Label("oesophagus", 7),
        Label("pancreas", 8),
        Label("duodenum", 9),
        Label("colon", 10),
        Label("intestine", 11),
        Label("adrenal gland", 12),
        Label("rectum", 13),
        Label("bladder", 14),
        Label("left femoral head", 15),
        Label("right femoral head", 16),
    ),
    images=150,
    unit="volumes",
    patients=150,
    licence="on request, research",
    licence_url="https://github.com/HiLab-git/WORD",
    citation=Citation(
        authors="Luo, Liao, Xiao, Chen, Song et al.",
        year=2022,
        title=(
            "WORD: A large scale dataset, benchmark and clinical applicable study for "
            "abdominal organ segmentation from CT image"
        ),
        venue="Medical Image Analysis 82, 102642",
        link="https://arxiv.org/abs/2111.02403",
    ),
    url="https://github.com/HiLab-git/WORD",
    steps=(
        "ask for the password, download and unpack it",
        (
            "train/images, train/masks from imagesTr, labelsTr; val/ from imagesVal, "
            "labelsVal; test/ from imagesTs, labelsTs"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="folders: 100 train, 20 val, 30 test",
        parts={"train": 100, "val": 20, "test": 30},
    ),
    notes=("the test masks were released later",),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/WORD.md"),
    ),
    unverified=(
        "labels",
        "patients",
        "licence",
        "citation",
        "notes",
    ),
)
