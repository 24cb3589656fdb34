"""PICCOLO."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="piccolo",
    title="PICCOLO",
    modality="endoscopy",
    organ="colon",
    summary="polyps in white light and narrow band",
    labels=binary("polyp"),
    images=3433,
    patients=40,
    licence="on request, research",
    licence_url="https://www.biobancovasco.org",
    citation=Citation(
        authors="Sánchez-Peralta, Pagador, Picón, Calderón, Polo et al.",
        year=2020,
        title=(
            "PICCOLO White-Light and Narrow-Band Imaging Colonoscopic Dataset: A "
            "Performance Comparative of Models and Datasets"
        ),
        venue="Applied Sciences 10(23), 8501",
        link="https://doi.org/10.3390/app10238501",
    ),
    url="https://doi.org/10.3390/app10238501",
    steps=(
        (
            "ask the Basque Biobank for it; train/, validation/ and test/ with polyps/ "
            "and masks/: rename polyps/ to images/"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="folders, by patient: 2203 train, 897 val, 333 test",
        parts={"train": 2203, "val": 897, "test": 333},
    ),
    notes=("one of the few polyp sets that is divided by patient",),
    sources=(
        "https://doi.org/10.3390/app10238501",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/piccolo.py"
        ),
    ),
    unverified=(
        "licence",
        "licence_url",
        "steps",
    ),
)
