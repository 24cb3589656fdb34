"""Panoramic dental X-rays (Abdi), teeth."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="dental-panoramic",
    title="Panoramic dental X-rays (Abdi), teeth",
    modality="X-ray",
    organ="teeth",
    summary="teeth in panoramic radiographs; masks by a third party",
    labels=binary("tooth"),
    images=116,
    licence="unknown",
    licence_url="https://datasetninja.com/dental-panoramic-x-rays",
    citation=Citation(
        authors="Abdi, Kasaei, Mehdizadeh",
        year=2015,
        title="Automatic segmentation of mandible in panoramic x-ray",
        venue="Journal of Medical Imaging 2(4), 044003",
        link="https://doi.org/10.1117/1.JMI.2.4.044003",
    ),
    url="https://data.mendeley.com/datasets/hxt48yk462/1",
    steps=(
        (
            "download the images from there; they come with masks of the mandible, those "
            "of the teeth are by others (HIL ToothSeg, "
            "https://www.mdpi.com/1424-8220/21/9/3110)"
        ),
        "images/ and masks/ with equal names",
    ),
    layout="folders",
    notes=(
        "cases 002 and 032 are the same image with different masks",
        "the masks of 005 and 017 are empty",
    ),
    sources=("https://datasetninja.com/dental-panoramic-x-rays",),
    unverified=(
        "licence",
        "licence_url",
        "citation",
        "url",
        "notes",
    ),
)
