"""ETIS-Larib Polyp DB."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="etis-larib",
    title="ETIS-Larib Polyp DB",
    modality="endoscopy",
    organ="colon",
    summary="small and flat polyps in 34 colonoscopy sequences",
    labels=binary("polyp"),
    images=196,
    widths=(1225, 1225),
    heights=(966, 966),
    licence="research, with citation",
    licence_url="https://polyp.grand-challenge.org/EtisLarib/",
    citation=Citation(
        authors="Silva, Histace, Romain, Dray, Granado",
        year=2014,
        title=(
            "Toward embedded detection of polyps in WCE images for early diagnosis of "
            "colorectal cancer"
        ),
        venue="International Journal of Computer Assisted Radiology and Surgery 9, 283-293",
        link="https://doi.org/10.1007/s11548-013-0926-3",
    ),
    url="https://polyp.grand-challenge.org/EtisLarib/",
    steps=(
        (
            "ask for access and download it, or take ETIS-LaribPolypDB from PraNet's "
            "TestDataset (images/ and masks/)"
        ),
    ),
    layout="folders",
    notes=(
        "frames of 34 sequences with 44 polyps: neighbours are alike",
        "used as an unseen test set in the polyp benchmark",
    ),
    sources=(
        "https://github.com/AlbertoUAH/polyps-image-segmentation/blob/main/data/README.md",
        "https://github.com/DengPingFan/PraNet",
    ),
    unverified=(
        "licence",
        "citation",
    ),
)
