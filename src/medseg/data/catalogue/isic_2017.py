"""ISIC 2017, part 1."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="isic-2017",
    title="ISIC 2017, part 1",
    modality="dermoscopy",
    organ="skin",
    summary="skin lesions, outlined by an expert",
    labels=binary("lesion"),
    images=2750,
    widths=(576, 6748),
    heights=(540, 4499),
    licence="CC0",
    licence_url="https://challenge.isic-archive.com/data/#2017",
    citation=Citation(
        authors="Codella, Gutman, Celebi, Helba, Marchetti et al.",
        year=2018,
        title=(
            "Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 "
            "International Symposium on Biomedical Imaging (ISBI), Hosted by the "
            "International Skin Imaging Collaboration (ISIC)"
        ),
        venue="ISBI 2018, 168-172",
        link="https://doi.org/10.1109/ISBI.2018.8363547",
    ),
    url="https://challenge.isic-archive.com/data/#2017",
    steps=(
        (
            "download data and part 1 ground truth of training, validation and test and "
            "unpack the six archives into one folder, under their own names"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="the folders of the archives: 2000 train, 150 val, 600 test",
        parts={"train": 2000, "val": 150, "test": 600},
    ),
    notes=(
        (
            "the ISIC years overlap: images of 2016 come back in 2017 and 2018, so never "
            "test on one year what was trained on another without removing duplicates"
        ),
        "the training folder also holds superpixel images, which are not masks",
    ),
    sources=(
        "https://challenge.isic-archive.com/landing/2017/42",
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/projects/medical/2d_image/dermoscopy/isic2017_task1/README.md"
        ),
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/ISIC2017.md"),
    ),
    unverified=(
        "widths",
        "heights",
    ),
)
