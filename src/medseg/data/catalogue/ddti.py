"""DDTI."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="ddti",
    title="DDTI",
    modality="ultrasound",
    organ="thyroid",
    summary="thyroid nodules",
    labels=binary("nodule"),
    images=637,
    widths=(245, 560),
    heights=(280, 360),
    licence="none named",
    licence_url="http://cimalab.intec.co/applications/thyroid/",
    citation=Citation(
        authors="Pedraza, Vargas, Narváez, Durán, Muñoz, Romero",
        year=2015,
        title="An open access thyroid ultrasound image database",
        venue="SPIE 9287, 92870W",
        link="https://doi.org/10.1117/12.2073532",
    ),
    url="http://cimalab.intec.co/applications/thyroid/",
    steps=(
        (
            "the site publishes XML outlines; the copies papers use hold masks: the "
            "dataset is the folder 1_or_data with image/ and mask/"
        ),
    ),
    layout="folders",
    notes=(
        "several images of one patient without a key",
        "used as unseen set for models trained on TN3K",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/DDTI.md"),
    ),
    unverified=(
        "widths",
        "heights",
        "licence",
    ),
)
