"""COVID-19 chest X-ray segmentations (General Blockchain)."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="covid-cxr-lungs",
    title="COVID-19 chest X-ray segmentations (General Blockchain)",
    modality="X-ray",
    organ="lung",
    summary=(
        "lungs in chest X-rays of the collection of Cohen et al.; the file also outlines "
        "pathology and tubes"
    ),
    labels=binary("lung"),
    images=100,
    licence="masks CC BY 4.0; each image its own, see metadata.csv",
    licence_url="https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset",
    citation=Citation(
        authors="General Blockchain Inc.",
        year=2020,
        title="COVID-19 Chest X-ray Segmentations Dataset",
        venue="GitHub",
        link="https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset",
    ),
    url="https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset",
    steps=(
        "download the repository: images and a COCO file",
        (
            "the classes overlap: keep left and right lung only, or write masks of both "
            "lungs into masks/ beside images/"
        ),
    ),
    layout="folders",
    notes=(
        "the outline of the left lung runs partly behind the heart",
        (
            "several films of one patient: metadata.csv of the image source has the "
            "patient; add it as patients.csv"
        ),
        "cite Cohen et al. 2020 (https://arxiv.org/abs/2006.11988) for the images",
    ),
    sources=("https://github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset",),
    unverified=("notes",),
)
