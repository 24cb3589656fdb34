"""Shenzhen chest X-ray set, lung masks."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="shenzhen",
    title="Shenzhen chest X-ray set, lung masks",
    modality="X-ray",
    organ="lung",
    summary="lungs; masks by a third party for most of the 662 images",
    labels=binary("lung"),
    images=566,
    widths=(948, 3001),
    heights=(1130, 3001),
    licence="images public with citation; masks CC BY-NC-SA 4.0",
    licence_url="https://www.kaggle.com/datasets/yoctoman/shcxr-lung-mask",
    citation=Citation(
        authors="Jaeger, Candemir, Antani, Wáng, Lu, Thoma",
        year=2014,
        title=(
            "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases"
        ),
        venue="Quantitative Imaging in Medicine and Surgery 4(6), 475-477",
        link="https://www.ncbi.nlm.nih.gov/pmc/articles/PMC4256233/",
    ),
    url="https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip",
    steps=(
        "unpack the images: CXR_png/ becomes images/",
        "download the masks from the licence's page into masks/ (names end in _mask)",
    ),
    layout="folders",
    notes=(
        "cite Stirenko et al. 2018 (https://arxiv.org/abs/1803.01199) for the masks",
        "about a hundred images have no mask and stay unlabelled",
    ),
    sources=(
        (
            "https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/Shenzhen_chest_X-ray.md"
        ),
        (
            "https://github.com/FoolmanChen/Separate-Right-and-Left-Side-Lung-Masks-for-Shenzhen-Hospital-Chest-X-ray-Set"
        ),
        "http://ds.jsai.org.cn/2446.html",
    ),
    unverified=(
        "images",
        "licence",
        "widths",
        "heights",
    ),
)
