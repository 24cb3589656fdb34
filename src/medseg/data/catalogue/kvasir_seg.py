"""Kvasir-SEG."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="kvasir-seg",
    title="Kvasir-SEG",
    modality="endoscopy",
    organ="colon",
    summary="polyps, outlined by a physician, verified by a gastroenterologist",
    labels=binary("polyp"),
    images=1000,
    widths=(332, 1920),
    heights=(487, 1072),
    licence="research and education, with citation",
    licence_url="https://datasets.simula.no/kvasir-seg/",
    citation=Citation(
        authors="Jha, Smedsrud, Riegler, Halvorsen, de Lange, Johansen, Johansen",
        year=2020,
        title="Kvasir-SEG: A Segmented Polyp Dataset",
        venue="MultiMedia Modeling (MMM) 2020",
        link="https://doi.org/10.1007/978-3-030-37734-2_37",
    ),
    url="https://datasets.simula.no/kvasir-seg/",
    steps=("download kvasir-seg.zip and unpack it: images/ and masks/, JPEG both",),
    layout="folders",
)
