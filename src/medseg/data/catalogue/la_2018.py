"""Left Atrium 2018 (Atrial Segmentation Challenge)."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="la-2018",
    title="Left Atrium 2018 (Atrial Segmentation Challenge)",
    modality="MRI",
    organ="heart",
    summary="the cavity of the left atrium in LGE-MRI",
    labels=binary("left atrium"),
    images=154,
    unit="volumes",
    licence="challenge terms, research",
    licence_url="https://www.cardiacatlas.org/atriaseg2018-challenge/",
    citation=Citation(
        authors="Xiong, Xia, Hu, Huang, Bian et al.",
        year=2021,
        title=(
            "A global benchmark of algorithms for segmenting the left atrium from late "
            "gadolinium-enhanced cardiac magnetic resonance imaging"
        ),
        venue="Medical Image Analysis 67, 101832",
        link="https://doi.org/10.1016/j.media.2020.101832",
    ),
    url="https://www.cardiacatlas.org/atriaseg2018-challenge/atria-seg-data/",
    steps=(
        ("register and download it: a folder for each patient with lgemri.nrrd and laendo.nrrd"),
        (
            "for f in */; do mv ${f}lgemri.nrrd ${f}${f%/}.nrrd; mv ${f}laendo.nrrd "
            "${f}${f%/}_mask.nrrd; done (lawall.nrrd and others can be deleted)"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "100 train, 54 test; the test masks were published later. Semi-supervised "
            "papers use 80 of the 100 to train and 20 to test, cropped around the heart"
        ),
        parts={"train": 100, "test": 54},
    ),
    notes=(
        "88 slices of 0.625 mm each",
        (
            "scans before and after ablation of one patient occur; the key is in the "
            "supporting files"
        ),
    ),
    sources=(
        "https://www.cardiacatlas.org/atriaseg2018-challenge/atria-seg-data/",
        "http://atriaseg2018.cardiacatlas.org/data/",
    ),
    unverified=(
        "licence",
        "citation",
        "notes",
    ),
)
