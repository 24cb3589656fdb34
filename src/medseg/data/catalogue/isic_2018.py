"""ISIC 2018, task 1."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="isic-2018",
    title="ISIC 2018, task 1",
    modality="dermoscopy",
    organ="skin",
    summary="skin lesions",
    labels=binary("lesion"),
    images=3694,
    licence="CC0",
    licence_url="https://challenge.isic-archive.com/data/#2018",
    citation=Citation(
        authors="Codella, Rotemberg, Tschandl, Celebi, Dusza et al.",
        year=2019,
        title=(
            "Skin Lesion Analysis Toward Melanoma Detection 2018: A Challenge Hosted by "
            "the International Skin Imaging Collaboration (ISIC)"
        ),
        venue="arXiv",
        link="https://arxiv.org/abs/1902.03368",
    ),
    url="https://challenge.isic-archive.com/data/#2018",
    steps=(
        (
            "download input and ground truth of task 1 for training, validation and test "
            "and unpack the archives into one folder, under their own names"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "the folders of the archives: 2594 train, 100 val, 1000 test; most papers "
            "only split the 2594 at random (80/20 or 70/10/20), each its own way"
        ),
        parts={"train": 2594, "val": 100, "test": 1000},
    ),
    notes=(
        (
            "the ISIC years overlap: images of 2016 come back in 2017 and 2018, so never "
            "test on one year what was trained on another without removing duplicates"
        ),
        "several photographs of one lesion occur, without a key to the patient",
    ),
    sources=(
        "https://arxiv.org/abs/1902.03368",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/isic.py"
        ),
    ),
    unverified=(
        "images",
        "split",
        "licence",
    ),
)
