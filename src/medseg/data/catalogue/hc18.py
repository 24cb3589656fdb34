"""HC18."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="hc18",
    title="HC18",
    modality="ultrasound",
    organ="fetal head",
    summary="the fetal head in the standard plane",
    labels=binary("head"),
    images=999,
    widths=(800, 800),
    heights=(540, 540),
    licence="CC BY 4.0",
    licence_url="https://doi.org/10.5281/zenodo.1322001",
    citation=Citation(
        authors="van den Heuvel, de Bruijn, de Korte, van Ginneken",
        year=2018,
        title="Automated measurement of fetal head circumference using 2D ultrasound images",
        venue="PLOS ONE 13(8), e0200412",
        link="https://doi.org/10.1371/journal.pone.0200412",
    ),
    url="https://doi.org/10.5281/zenodo.1322001",
    steps=(
        "download training_set.zip and unpack it: 000_HC.png with 000_HC_Annotation.png",
        (
            "the annotations are outlines one pixel wide: fill them first "
            "(scipy.ndimage.binary_fill_holes); outlines that leave the image must be "
            "closed at its border"
        ),
    ),
    layout="folders",
    group_pattern=r"(\d+)_\d*HC",
    notes=(
        "999 training images have masks, 335 test images none",
        (
            "806 pregnancies: 392_HC, 392_2HC ... are one examination, very alike; the "
            "number keeps them together"
        ),
        "no trimester is given",
    ),
    sources=(
        "https://hc18.grand-challenge.org/Home/",
        "https://huggingface.co/datasets/Angelou0516/HC18",
    ),
)
