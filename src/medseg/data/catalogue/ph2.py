"""PH²."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="ph2",
    title="PH²",
    modality="dermoscopy",
    organ="skin",
    summary="pigmented lesions: naevi and melanomas",
    labels=binary("lesion"),
    images=200,
    widths=(768, 768),
    heights=(560, 560),
    licence="research and education",
    licence_url="https://www.fc.up.pt/addi/ph2%20database.html",
    citation=Citation(
        authors="Mendonça, Ferreira, Marques, Marçal, Rozeira",
        year=2013,
        title="PH2 - A dermoscopic image database for research and benchmarking",
        venue="IEEE EMBC 2013, 5437-5440",
        link="https://doi.org/10.1109/EMBC.2013.6610779",
    ),
    url="https://www.fc.up.pt/addi/ph2%20database.html",
    steps=(
        "download PH2Dataset.rar and unpack it",
        (
            "each case has its own folder; bring them together: mkdir images masks; cp "
            "*/IMD*/IMD*_Dermoscopic_Image/*.bmp images/; cp */IMD*/IMD*_lesion/*.bmp "
            "masks/"
        ),
        "the masks keep their suffix _lesion",
    ),
    layout="folders",
    notes=("no published split; commonly an unseen test set for models trained on ISIC",),
    sources=("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/PH2.md",),
    unverified=(
        "widths",
        "heights",
        "licence",
        "citation",
    ),
)
