"""The command line: one module per verb; a verb imports what it needs when it runs."""

from __future__ import annotations

import io
import sys
from typing import Annotated, NoReturn

import typer

from medseg import __version__
from medseg.cli import (
    benchmark,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    info,
    models,
    predict,
    pretrain,
    serve,
    systems,
    train,
)
from medseg.errors import MedsegError

app = typer.Typer(
    name="medseg",
    help="From a folder of medical images and masks to a small, trusted segmentation model.",
    epilog="Start with: medseg demo. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


app.command("train")(train.train)
app.command("pretrain")(pretrain.pretrain)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("benchmark")(benchmark.benchmark)
app.command("compare")(compare.compare)
app.add_typer(data.app, name="data")
app.command("info")(info.info)
app.add_typer(models.app, name="models")
app.add_typer(systems.app, name="systems")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; errors a user can mend are printed without a traceback, exit code 2."""
    # File names may hold what the terminal's encoding, or any, cannot say.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MedsegError as error:
        _fail(str(error))
    except ImportError as error:
        from medseg.extras import lacking

        missing = lacking(error, " ".join(["medseg", *sys.argv[1:2]]))
        if missing is None:
            raise
        _fail(str(missing))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}. Check the path and its permissions")
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(2)
