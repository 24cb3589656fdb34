"""White blood cell segmentation, dataset 1."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="wbc",
    title="White blood cell segmentation, dataset 1",
    modality="microscopy",
    organ="blood",
    summary="nucleus and cytoplasm of single white blood cells",
    labels=(
        Label("background", 0),
        Label("cytoplasm", 128),
        Label("nucleus", 255),
    ),
    images=300,
    widths=(120, 120),
    heights=(120, 120),
    licence="GPL-3.0 (the repository)",
    licence_url="https://github.com/zxaoyou/segmentation_WBC",
    citation=Citation(
        authors="Zheng, Wang, Wang, Liu",
        year=2018,
        title=(
            "Fast and robust segmentation of white blood cell images by self-supervised learning"
        ),
        venue="Micron 107, 55-71",
        link="https://doi.org/10.1016/j.micron.2018.01.010",
    ),
    url="https://github.com/zxaoyou/segmentation_WBC",
    steps=(
        (
            "download the repository; put the .bmp images of Dataset 1 into images/ and "
            "its .png masks into masks/"
        ),
    ),
    layout="folders",
    notes=(
        "images 112 and 139 are equal",
        (
            "dataset 2 of the same repository (100 images of 300 x 300) is another "
            "laboratory: a fair unseen set"
        ),
    ),
    unverified=(
        "labels",
        "images",
        "widths",
        "heights",
        "licence",
        "citation",
        "notes",
    ),
)
