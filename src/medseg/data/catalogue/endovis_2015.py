"""EndoVis 2015, instrument segmentation."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="endovis-2015",
    title="EndoVis 2015, instrument segmentation",
    modality="endoscopy",
    organ="surgical instruments",
    summary="instrument shafts and manipulators in laparoscopic and robotic videos",
    labels=(
        Label("background", 0),
        Label("shaft", 160),
        Label("manipulator", 70),
    ),
    images=None,
    licence="on registration, research",
    licence_url="https://endovissub-instrument.grand-challenge.org/",
    citation=Citation(
        authors="Bodenstedt, Allan, Agustinos, Du, Garcia-Peraza-Herrera et al.",
        year=2018,
        title=(
            "Comparative evaluation of instrument segmentation and tracking methods in "
            "minimally invasive surgery"
        ),
        venue="arXiv",
        link="https://arxiv.org/abs/1805.02475",
    ),
    url="https://endovissub-instrument.grand-challenge.org/",
    steps=(
        "register and download the rigid or the robotic training set",
        (
            "robotic masks come as video: extract frames of image and mask with equal "
            "names into images/ and masks/ (ffmpeg -i film.avi -r 25 frame_%04d.png)"
        ),
        "write the stored values into labels.json when they differ from those named here",
    ),
    layout="folders",
    notes=(
        "video frames: keep the frames of a sequence together (patients.csv)",
        "the robotic part's masks were computed from kinematics and are inexact",
        (
            "the name is also used for the polyp challenge of that year, whose training "
            "set is cvc-clinicdb"
        ),
    ),
    sources=(
        "https://huggingface.co/papers/1902.06426",
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/projects/medical/2d_image/endoscopy/endovis15/README.md"
        ),
    ),
    unverified=(
        "labels",
        "images",
        "licence",
        "licence_url",
        "citation",
        "url",
    ),
)
