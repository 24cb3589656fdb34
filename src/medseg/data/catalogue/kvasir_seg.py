"""Kvasir-SEG."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="kvasir-seg",
    title="Kvasir-SEG",
    modality="endoscopy",
    organ="colon",
    summary="polyps, outlined by a physician and verified by a gastroenterologist",
    labels=binary("polyp"),
    images=1000,
    widths=(332, 1920),
    heights=(487, 1072),
    licence="research and education",
    licence_url="https://datasets.simula.no/kvasir-seg/",
    citation=Citation(
        authors="Jha, Smedsrud, Riegler, Halvorsen, de Lange, Johansen, Johansen",
        year=2020,
        title="Kvasir-SEG: A Segmented Polyp Dataset",
        venue="MultiMedia Modeling (MMM) 2020",
        link="https://doi.org/10.1007/978-3-030-37734-2_37",
    ),
    url="https://datasets.simula.no/kvasir-seg/",
    steps=(
        ("download kvasir-seg.zip and unpack it: images/ and masks/, both JPEG of the same names"),
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "none with the images; its MediaEval repository has lists (880 train, 120 "
            "val), PraNet uses 900 train and 100 test (see the dataset pranet)"
        ),
        parts={"train": 880, "val": 120},
    ),
    notes=(
        "masks are JPEG: their outlines are off by up to a pixel",
        "a few images are nearly identical: medseg data check lists them",
        (
            "the same images are HyperKvasir's segmented-images: never test on one what "
            "was trained on the other"
        ),
        "some images show a green inset of the endoscope's position",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/Kvasir-SEG.md"),
        "https://github.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/kvasir.py"
        ),
    ),
    unverified=(
        "licence",
        "widths",
        "heights",
    ),
)
