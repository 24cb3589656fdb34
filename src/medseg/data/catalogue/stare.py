"""STARE, vessels."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="stare",
    title="STARE, vessels",
    modality="fundus photography",
    organ="retina",
    summary="vessels in healthy and diseased eyes; two observers",
    labels=binary("vessel"),
    images=20,
    widths=(700, 700),
    heights=(605, 605),
    licence="research",
    licence_url="https://cecas.clemson.edu/~ahoover/stare/",
    citation=Citation(
        authors="Hoover, Kouznetsova, Goldbaum",
        year=2000,
        title=(
            "Locating Blood Vessels in Retinal Images by Piecewise Threshold Probing of a"
            " Matched Filter Response"
        ),
        venue="IEEE Transactions on Medical Imaging 19(3), 203-210",
        link="https://ieeexplore.ieee.org/document/845178",
    ),
    url="https://cecas.clemson.edu/~ahoover/stare/probing/index.html",
    steps=(
        (
            "download stare-images.tar and labels-ah.tar (first observer) and unpack them"
            " into images/ and masks/"
        ),
        (
            "unpack the files and make them PNG: gunzip images/*.gz masks/*.gz; mogrify "
            "-format png images/*.ppm masks/*.ppm (ImageMagick), then delete the .ppm"
        ),
        "take .ah out of the masks' names: im0001.ah.png becomes im0001.png",
    ),
    layout="folders",
    notes=(
        "no published split: leave-one-out and 10/10 are both common",
        "labels-vk (second observer) marks many more thin vessels; papers train on ah",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/STARE.md"),
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/docs/en/user_guides/2_dataset_prepare.md"
        ),
    ),
    unverified=("licence",),
)
