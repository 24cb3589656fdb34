"""HRF (high-resolution fundus)."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="hrf",
    title="HRF (high-resolution fundus)",
    modality="fundus photography",
    organ="retina",
    summary="vessels in 15 healthy, 15 diabetic and 15 glaucomatous eyes",
    labels=binary("vessel"),
    images=45,
    widths=(3504, 3504),
    heights=(2336, 2336),
    licence="CC BY 4.0",
    licence_url="https://www5.cs.fau.de/research/data/fundus-images/",
    citation=Citation(
        authors="Budai, Bock, Maier, Hornegger, Michelson",
        year=2013,
        title="Robust Vessel Segmentation in Fundus Images",
        venue="International Journal of Biomedical Imaging 2013, 154860",
        link="https://www.hindawi.com/journals/ijbi/2013/154860/",
    ),
    url="https://www5.cs.fau.de/research/data/fundus-images/",
    steps=(
        (
            "download the archives of all images and unpack them: images/, manual1/ "
            "(vessels) and mask/ (field of view)"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "none by the publishers; a common one trains on the first 5 images of each "
            "group and tests on the other 30"
        ),
        parts={"train": 15, "test": 30},
        patterns={"train": r"(^|/)0[1-5]_", "test": r"(^|/)(0[6-9]|1\d)_"},
    ),
    notes=("large images and thin vessels: 256 px loses most of them; raise --image-size",),
    sources=("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/HRF.md",),
    unverified=(
        "split",
        "licence",
    ),
)
