"""MoNuSeg."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="monuseg",
    title="MoNuSeg",
    modality="histology",
    organ="cell nuclei",
    summary="nuclei of several organs, H&E at 40x",
    labels=binary("nucleus"),
    objects=True,
    images=51,
    widths=(1000, 1000),
    heights=(1000, 1000),
    licence="CC BY-NC-SA 4.0",
    licence_url="https://monuseg.grand-challenge.org/Data/",
    citation=Citation(
        authors="Kumar, Verma, Anand, Zhou, Onder et al.",
        year=2020,
        title="A Multi-Organ Nucleus Segmentation Challenge",
        venue="IEEE Transactions on Medical Imaging 39(5), 1380-1391",
        link="https://doi.org/10.1109/TMI.2019.2947628",
    ),
    url="https://monuseg.grand-challenge.org/Data/",
    steps=(
        "download training and test data: TIFF images and XML outlines",
        (
            "medseg does not read the XML: rasterise it to masks with any tool, then "
            "train/images, train/masks, test/images, test/masks"
        ),
    ),
    layout="folders",
    group_pattern=r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}",
    split=PublishedSplit(
        rule=(
            "the two archives: 37 train, 14 test; the challenge of 2018 had 30 training "
            "images, and many papers still count those"
        ),
        parts={"train": 37, "test": 14},
    ),
    notes=(
        "one annotator",
        "the test images hold two organs (lung, brain) that training does not",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/MoNuSeg.md"),
        "https://huggingface.co/datasets/Angelou0516/MoNuSeg",
    ),
    unverified=(
        "images",
        "split",
        "citation",
    ),
)
