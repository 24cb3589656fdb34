"""Ultrasound Nerve Segmentation (Kaggle 2016)."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="ultrasound-nerve",
    title="Ultrasound Nerve Segmentation (Kaggle 2016)",
    modality="ultrasound",
    organ="neck",
    summary="the brachial plexus",
    labels=binary("nerve"),
    images=5635,
    widths=(580, 580),
    heights=(420, 420),
    licence="competition rules",
    licence_url="https://www.kaggle.com/c/ultrasound-nerve-segmentation",
    citation=Citation(
        authors="Montoya, Hasnin, kaggle446, shirzad, Cukierski, yffud",
        year=2016,
        title="Ultrasound Nerve Segmentation",
        venue="Kaggle",
        link="https://www.kaggle.com/c/ultrasound-nerve-segmentation",
    ),
    url="https://www.kaggle.com/c/ultrasound-nerve-segmentation",
    steps=(
        (
            "accept the rules, download it; the dataset is train/ with images and their "
            "_mask.tif together"
        ),
    ),
    layout="folders",
    group_pattern=r"(\d+)_\d+$",
    notes=(
        "5635 training images have masks, 5508 test images none",
        "the first number of a name is the patient: keep it together",
        "video frames: many near-identical images, some with a mask and some without one",
        "more than half of the masks are empty",
    ),
    sources=("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/UNS.md",),
    unverified=(
        "licence",
        "citation",
        "notes",
    ),
)
