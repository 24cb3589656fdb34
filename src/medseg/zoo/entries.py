"""What the models that come with medseg are for, and under which licence.

The licence of a model follows from that of its images. Where the images ask for the same licence
again (CC BY-SA), the weights have it, and no image is passed on, in the model or with the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from medseg.data.catalogue import load_entry
from medseg.errors import ModelError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model.

    Attributes:
        name: to use it by.
        title: of its card and its page.
        purpose: which images it takes and what it outlines.
        dataset: its images' name in the catalogue, which knows whom to cite.
        licence: of the weights, as an SPDX identifier.
        with_images: whether images of the dataset may be passed on with it.
        changes: what was done to the published images before training, as their licence asks.
    """

    name: str
    title: str
    purpose: str
    dataset: str
    licence: str
    with_images: bool = True
    changes: str

    @property
    def attribution(self) -> str:
        """Whom to name wherever the model is passed on."""
        data = load_entry(self.dataset)
        cited = data.citation
        return (
            f"{data.title} ({data.url}), {data.licence}: {cited.authors} ({cited.year}), "
            f"{cited.title}, {cited.venue}, {cited.link}. {self.changes}"
        )


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            name="nuclei",
            title="Cell nuclei in microscopy",
            purpose="cell nuclei in fluorescence, histology and bright-field images",
            dataset="dsb2018",
            licence="CC0-1.0",
            changes="Reduced to at most 384 pixels a side; nuclei merged into one mask.",
        ),
        Entry(
            name="polyp",
            title="Polyps in colonoscopy",
            purpose="polyps in colour images of a colonoscopy",
            dataset="hyperkvasir",
            licence="CC-BY-4.0",
            changes="Squeezed to 256 x 256 pixels; masks thresholded.",
        ),
        Entry(
            name="fetal-head",
            title="Fetal head in ultrasound",
            purpose="the fetal head in ultrasound images of its standard plane",
            dataset="hc18",
            licence="CC-BY-4.0",
            changes="Half of the images, reduced to at most 352 pixels a side; outlines filled.",
        ),
        Entry(
            name="brain-tumor",
            title="Brain tumours in MRI slices",
            purpose="meningioma, glioma and pituitary tumour in contrast-enhanced T1 slices",
            dataset="brain-tumor",
            licence="CC-BY-4.0",
            changes="Every sixth slice, reduced to at most 352 pixels a side.",
        ),
        Entry(
            name="hippocampus",
            title="Hippocampus in MRI slices",
            purpose="anterior and posterior hippocampus in slices of cropped T1 volumes",
            dataset="msd-task04-hippocampus",
            licence="CC-BY-SA-4.0",
            with_images=False,
            changes="150 of 260 volumes, slice by slice.",
        ),
    )
}


def load(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        ModelError: there is none.
    """
    if name not in ENTRIES:
        raise ModelError(name, "no such model comes with medseg", nearest(name, ENTRIES))
    return ENTRIES[name]
