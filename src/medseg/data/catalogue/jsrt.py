"""JSRT with SCR masks."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="jsrt",
    title="JSRT with SCR masks",
    modality="X-ray",
    organ="lung",
    summary="both lungs in chest radiographs with and without a nodule",
    labels=binary("lung"),
    images=247,
    widths=(2048, 2048),
    heights=(2048, 2048),
    licence="research, on registration",
    licence_url="http://db.jsrt.or.jp/eng.php",
    citation=Citation(
        authors="Shiraishi, Katsuragawa, Ikezoe, Matsumoto, Kobayashi et al.",
        year=2000,
        title=(
            "Development of a digital image database for chest radiographs with and "
            "without a lung nodule"
        ),
        venue="American Journal of Roentgenology 174, 71-74",
        link="https://doi.org/10.2214/ajr.174.1.1740071",
    ),
    url="http://db.jsrt.or.jp/eng.php",
    steps=(
        (
            "register and download the images (raw 16-bit, 2048 x 2048) and make them PNG"
            " or TIFF in images/"
        ),
        (
            "download the SCR masks (van Ginneken et al. 2006); list image and 'left "
            "lung|right lung' in a manifest.csv"
        ),
    ),
    layout="manifest",
    split=PublishedSplit(
        rule=(
            "the mini-JSRT copies have 199 train and 48 test; SCR's authors "
            "cross-validate odd against even numbers"
        ),
        parts={"train": 199, "test": 48},
    ),
    notes=("heart and clavicles are outlined, too",),
    sources=(
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/projects/medical/2d_image/x_ray/jsrt/README.md"
        ),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/jsrt.py"
        ),
    ),
    unverified=(
        "widths",
        "heights",
        "licence",
        "split",
    ),
)
