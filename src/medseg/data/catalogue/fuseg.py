"""FUSeg (Foot Ulcer Segmentation Challenge)."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="fuseg",
    title="FUSeg (Foot Ulcer Segmentation Challenge)",
    modality="photography",
    organ="skin",
    summary="foot ulcers in clinical photographs",
    labels=binary("ulcer"),
    images=1010,
    widths=(512, 512),
    heights=(512, 512),
    licence="none named by the authors; a catalogue says CC0",
    licence_url="https://fusc.grand-challenge.org/",
    citation=Citation(
        authors="Wang, Mahbod, Ellinger, Galdran, Gopalakrishnan, Niezgoda, Yu",
        year=2024,
        title="FUSeg: The Foot Ulcer Segmentation Challenge",
        venue="Information 15(3), 140",
        link="https://doi.org/10.3390/info15030140",
    ),
    url="https://github.com/uwm-bigdata/wound-segmentation",
    steps=(
        (
            "download the repository; the dataset is data/Foot Ulcer Segmentation "
            "Challenge with train/ and validation/, each with images/ and labels/"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="folders: 810 train, 200 val; 200 test images without masks",
        parts={"train": 810, "val": 200},
        patterns={"train": r"(^|/)train", "val": r"(^|/)val"},
    ),
    notes=(
        "1210 images of 889 patients without a key",
        "24 masks are empty (19 train, 5 val)",
        "zero-padded to squares",
        "images occur twice with different masks across the parts",
    ),
    sources=(
        "https://doi.org/10.3390/info15030140",
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/projects/medical/2d_image/histopathology/fusc2021/README.md"
        ),
    ),
    unverified=(
        "widths",
        "heights",
        "licence",
        "url",
    ),
)
