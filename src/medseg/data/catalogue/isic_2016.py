"""ISIC 2016, task 1."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="isic-2016",
    title="ISIC 2016, task 1",
    modality="dermoscopy",
    organ="skin",
    summary="skin lesions, outlined by an expert",
    labels=binary("lesion"),
    images=1279,
    licence="CC0",
    licence_url="https://challenge.isic-archive.com/data/#2016",
    citation=Citation(
        authors="Gutman, Codella, Celebi, Helba, Marchetti, Mishra, Halpern",
        year=2016,
        title=(
            "Skin Lesion Analysis toward Melanoma Detection: A Challenge at the "
            "International Symposium on Biomedical Imaging (ISBI) 2016"
        ),
        venue="arXiv",
        link="https://arxiv.org/abs/1605.01397",
    ),
    url="https://challenge.isic-archive.com/data/#2016",
    steps=(
        (
            "download the training and test data and ground truth of part 1 and unpack "
            "the four archives into one folder, under their own names"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="the folders of the archives: 900 train, 379 test; no validation part",
        parts={"train": 900, "test": 379},
    ),
    notes=(
        (
            "the ISIC years overlap: images of 2016 come back in 2017 and 2018, so never "
            "test on one year what was trained on another without removing duplicates"
        ),
    ),
    sources=(
        "https://challenge.isic-archive.com/landing/2016/37",
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/projects/medical/2d_image/dermoscopy/isic2016_task1/README.md"
        ),
    ),
    unverified=("citation",),
)
