"""HyperKvasir, segmented images."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="hyperkvasir",
    title="HyperKvasir, segmented images",
    modality="endoscopy",
    organ="colon",
    summary="polyps: the images of Kvasir-SEG under the terms of HyperKvasir",
    labels=binary("polyp"),
    images=1000,
    widths=(332, 1920),
    heights=(487, 1072),
    licence="CC BY 4.0",
    licence_url="https://datasets.simula.no/hyper-kvasir/",
    citation=Citation(
        authors="Borgli, Thambawita, Smedsrud, Hicks, Jha et al.",
        year=2020,
        title=(
            "HyperKvasir, a comprehensive multi-class image and video dataset for "
            "gastrointestinal endoscopy"
        ),
        venue="Scientific Data 7, 283",
        link="https://doi.org/10.1038/s41597-020-00622-y",
    ),
    url="https://datasets.simula.no/hyper-kvasir/",
    steps=(
        (
            "download hyper-kvasir-segmented-images.zip and unpack it; the dataset is the"
            " folder with images/ and masks/"
        ),
    ),
    layout="folders",
    notes=(
        ("the images are those of kvasir-seg: the same flaws, and never an independent test of it"),
    ),
    sources=("https://pmc.ncbi.nlm.nih.gov/articles/PMC7455694",),
    unverified=(
        "images",
        "widths",
        "heights",
        "licence",
        "url",
    ),
)
