"""PROMISE12."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="promise12",
    title="PROMISE12",
    modality="MRI",
    organ="prostate",
    summary="the prostate in T2 MRI of several centres",
    labels=binary("prostate", 1),
    images=50,
    unit="volumes",
    patients=50,
    licence="research, LICENSE.TXT in the archive",
    licence_url="https://zenodo.org/records/8026660",
    citation=Citation(
        authors="Litjens, Toth, van de Ven, Hoeks, Kerkstra et al.",
        year=2014,
        title="Evaluation of prostate segmentation algorithms for MRI: The PROMISE12 challenge",
        venue="Medical Image Analysis 18(2), 359-373",
        link="https://www.sciencedirect.com/science/article/pii/S1361841513001734",
    ),
    url="https://zenodo.org/records/8026660",
    steps=(
        (
            "download the training data and unpack it: Case00.mhd with "
            "Case00_segmentation.mhd and their .raw files in one folder"
        ),
    ),
    layout="folders",
    notes=(
        ("50 training volumes have masks; those of the test part are kept by the organisers"),
        (
            "four centres and vendors, with and without endorectal coil; the file names "
            "do not say which"
        ),
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/PROMISE12.md"),
    ),
    unverified=(
        "patients",
        "licence",
        "notes",
    ),
)
