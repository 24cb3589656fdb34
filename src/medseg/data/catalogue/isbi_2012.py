"""ISBI 2012 EM stack."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="isbi-2012",
    title="ISBI 2012 EM stack",
    modality="electron microscopy",
    organ="nervous system of Drosophila",
    summary="neurites (white) and the membranes between them (black)",
    labels=(
        Label("membrane", 0),
        Label("cell", 255),
    ),
    images=30,
    widths=(512, 512),
    heights=(512, 512),
    licence="non-commercial, with citation",
    licence_url="https://doi.org/10.3389/fnana.2015.00142",
    citation=Citation(
        authors="Arganda-Carreras, Turaga, Berger, Cireşan, Giusti et al.",
        year=2015,
        title="Crowdsourcing the creation of image segmentation algorithms for connectomics",
        venue="Frontiers in Neuroanatomy 9, 142",
        link="https://doi.org/10.3389/fnana.2015.00142",
    ),
    url="https://imagej.net/events/isbi-2012-segmentation-challenge",
    steps=(
        "download train-volume.tif and train-labels.tif",
        (
            "mkdir images masks; mv train-volume.tif images/stack.tif; mv "
            "train-labels.tif masks/stack.tif; the 30 pages are read as slices"
        ),
    ),
    layout="folders",
    notes=(
        "30 sections have masks, 30 more for testing have none",
        (
            "one stack: neighbouring sections are alike, and no split of it tests on an "
            "unseen animal; as one volume it is never divided"
        ),
        "sections are 50 nm apart, pixels 4 nm: nearly 2D",
    ),
    sources=(
        "https://doczz.net/doc/5132206/deep-neural-networks-segment-neuronal-membranes-in",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/electron_microscopy/isbi2012.py"
        ),
    ),
    unverified=(
        "labels",
        "licence",
        "url",
        "notes",
    ),
)
