"""EndoVis 2017, robotic instrument segmentation."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="endovis-2017",
    title="EndoVis 2017, robotic instrument segmentation",
    modality="endoscopy",
    organ="surgical instruments",
    summary="da Vinci instruments in porcine procedures; the binary task",
    labels=binary("instrument"),
    images=1800,
    patients=8,
    widths=(1280, 1920),
    heights=(1024, 1080),
    licence="on registration, non-commercial",
    licence_url="https://endovissub2017-roboticinstrumentsegmentation.grand-challenge.org/",
    citation=Citation(
        authors="Allan, Shvets, Kurmann, Zhang, Duggal et al.",
        year=2019,
        title="2017 Robotic Instrument Segmentation Challenge",
        venue="arXiv",
        link="https://arxiv.org/abs/1902.06426",
    ),
    url="https://endovissub2017-roboticinstrumentsegmentation.grand-challenge.org/Data/",
    steps=(
        "register and download the eight training sequences (225 frames each)",
        (
            "each instrument has masks of its own: unite them into one mask a frame, 255 "
            "where there is an instrument; put left frames into images/ and masks into "
            "masks/, named instrument_dataset_1_frame000.png and so on"
        ),
        "crop to 1280 x 1024 from pixel (320, 28) to lose the black border",
    ),
    layout="folders",
    group_pattern=r"instrument_dataset_\d+",
    notes=(
        (
            "by sequence: the 8 training sequences; test is 8 x 75 following frames and "
            "two whole sequences of 300. Papers mostly cross-validate over the 8"
        ),
        (
            "the eight short test sequences follow directly on the training ones: leave "
            "the matching sequence out when testing on them"
        ),
        "frames are taken at 2 Hz: neighbours are alike",
    ),
    sources=(
        "https://endovissub2017-roboticinstrumentsegmentation.grand-challenge.org/Data/",
        (
            "https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/Robotic_Instrument_Segmentation.md"
        ),
    ),
    unverified=("licence",),
)
