"""`medseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, .medseg files, exported .onnx files, names of `medseg models list`."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen; other than this machine demands a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MEDSEG_TOKEN",
            show_envvar=True,
            help="What clients must send as 'Authorization: Bearer TOKEN'. In the variable, other "
            "users of this machine do not see it.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Images computed at a time, sharing the cores [all cores]."),
    ] = None,
    max_upload: Annotated[float, typer.Option(min=0.001, help="Megabytes of one upload.")] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Of one image.")] = 25,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for an upload, and again for its answer.")
    ] = 60,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; others get 429.")] = 64,
) -> None:
    """Answer HTTP requests with masks: an API, and a page for people.

    The graph inside a model computes it (`medseg export MODEL -o model.medseg`), without PyTorch;
    a model without one is computed by PyTorch. Images are held in memory only, and neither they
    nor their names are logged. Stopping answers what runs first.

    **Examples**

        medseg serve model.medseg

        medseg serve polyp nuclei

        curl -T photo.jpg -X POST http://127.0.0.1:8000/v1/predict -o mask.png
    """
    from medseg.cores import threads
    from medseg.errors import MedsegError
    from medseg.serve.limits import Limits
    from medseg.serve.server import serve as run

    if token is not None and (not token.isascii() or not token.isprintable() or " " in token
                              or not token):  # fmt: skip
        raise MedsegError(
            "--token", "it is empty or holds spaces or characters beyond ASCII",
            "Use e.g. the output of: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )  # fmt: skip
    limits = Limits(
        max_upload=round(max_upload * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        timeout=timeout,
        queue=queue,
        workers=workers or threads(),
    )
    run(models, host=host, port=port, token=token, limits=limits, say=typer.echo)
