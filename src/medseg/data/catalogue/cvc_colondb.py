"""CVC-ColonDB."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="cvc-colondb",
    title="CVC-ColonDB",
    modality="endoscopy",
    organ="colon",
    summary="polyps in frames of 15 colonoscopy sequences, one polyp each",
    labels=binary("polyp"),
    images=380,
    patients=15,
    widths=(574, 574),
    heights=(500, 500),
    licence="research, with citation",
    licence_url="http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
    citation=Citation(
        authors="Bernal, Sánchez, Vilariño",
        year=2012,
        title="Towards automatic polyp detection with a polyp appearance model",
        venue="Pattern Recognition 45(9), 3166-3182",
        link="http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
    ),
    url="http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
    steps=(
        (
            "ask for access there, or take CVC-ColonDB from PraNet's TestDataset (images/"
            " and masks/)"
        ),
        (
            "of the publishers' bmp files, put the originals into images/ and p1.bmp ... "
            "as 1.bmp ... into masks/"
        ),
    ),
    layout="folders",
    notes=(
        "the publishers describe 300 frames; the copy that papers test on has 380",
        "frames of 15 videos: neighbours are alike",
        ("no file says which frame belongs to which sequence: split by near-duplicate clusters"),
    ),
    sources=(
        "http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
        "https://github.com/DengPingFan/PraNet",
    ),
    unverified=(
        "licence",
        "widths",
        "heights",
    ),
)
