"""CVC-300 (EndoScene)."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="cvc-300",
    title="CVC-300 (EndoScene)",
    modality="endoscopy",
    organ="colon",
    summary="polyps; in the polyp benchmark, its 60 test images",
    labels=binary("polyp"),
    images=60,
    widths=(574, 574),
    heights=(500, 500),
    licence="research, with citation",
    licence_url="http://www.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/",
    citation=Citation(
        authors="Vázquez, Bernal, Sánchez, Fernández-Esparrach, López et al.",
        year=2017,
        title="A Benchmark for Endoluminal Scene Segmentation of Colonoscopy Images",
        venue="Journal of Healthcare Engineering 2017",
        link="https://doi.org/10.1155/2017/4037190",
    ),
    url="https://github.com/DengPingFan/PraNet",
    steps=("download PraNet's TestDataset and name its folder CVC-300 (images/ and masks/)",),
    layout="folders",
    split=PublishedSplit(
        rule="a test set: in the polyp benchmark all 60 images are test images",
        parts={"test": 60},
    ),
    notes=(
        (
            "CVC-300 also names the 300 frames of CVC-ColonDB, from which these 60 come: "
            "they overlap with cvc-colondb"
        ),
        (
            "as all of it is test, it can be evaluated on but not trained on without a "
            "split of your own"
        ),
    ),
    sources=("https://github.com/DengPingFan/PraNet",),
    unverified=(
        "widths",
        "heights",
        "licence",
        "licence_url",
        "citation",
    ),
)
