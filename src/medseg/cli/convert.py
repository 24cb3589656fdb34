"""``medseg data convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medseg.cli.options import Data, GroupPattern, Layout


def convert(
    data: Data,
    to: Annotated[
        Literal["images-masks", "manifest", "nnunet", "datalist", "coco"],
        typer.Option(help="Layout to write."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for the converted dataset.")
    ],
    layout: Layout = "auto",
    group_pattern: GroupPattern = None,
) -> None:
    """Write a dataset in another layout: same pixels, classes, patients and split.

    Files are copied where the layout allows their format, and otherwise written as PNG without a
    loss. What the layout has no place for is said at the end. The original is not touched.

    **Examples**

        medseg data convert photos/ --to nnunet -o nnUNet_raw/Dataset501_Photos

        medseg data convert scans/ --group-pattern 'patient\\d+' --to manifest -o scans_manifest

        medseg data convert kvasir_256.npz --to images-masks -o kvasir
    """
    from rich.console import Console

    from medseg.data.convert import convert_dataset
    from medseg.data.integrity import check_dataset
    from medseg.data.layouts import open_dataset
    from medseg.engine.progress import counting_bar
    from medseg.errors import plural

    dataset = open_dataset(data, layout=layout, group_pattern=group_pattern)
    with counting_bar(Console(stderr=True)) as bar:
        checking = bar.add_task("checking", total=len(dataset.cases))
        survey = check_dataset(
            dataset, progress=lambda done, total: bar.update(checking, completed=done)
        )
        writing = bar.add_task("writing", total=None)
        written = convert_dataset(
            survey,
            to,
            output,
            progress=lambda done, total: bar.update(writing, completed=done, total=total),
        )
    typer.echo(
        f"{output}: {plural(written.cases, 'case')}; {plural(written.copied, 'image file')} "
        f"copied, {written.encoded:,} written anew"
    )
    for note in written.notes:
        typer.echo(f"note: {note}")
