"""The commands put together, and the one place where errors become exit statuses."""

from __future__ import annotations

import errno
from typing import Annotated, Any

import rich  # noqa: F401 - a missing library is found here, not in the middle of a command
import typer
from typer.core import TyperGroup

import edgegrain
from codec_contract.errors import EdgegrainError
from edgegrain.cli import (
    align,
    batch,
    bundles,
    compress,
    convert,
    demo,
    device_kit,
    doctor,
    evaluate,
    export,
    info,
    metrics,
    models,
    pictures,
    prior,
    restore,
    retouch,
    serve,
    train,
)

FAILED, INTERRUPTED = 1, 130


class ReportingGroup(TyperGroup):
    """Turns errors into one line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EdgegrainError as error:
            message = str(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output left; typer ends quietly on this
                raise
            message = str(error)
        except KeyboardInterrupt:
            typer.echo("interrupted; every file is either whole or not there", err=True)
            raise typer.Exit(INTERRUPTED) from None
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        raise typer.Exit(FAILED)


application = typer.Typer(
    name="edgegrain",
    cls=ReportingGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgegrain {edgegrain.__version__}")
        raise typer.Exit


@application.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Pictures to a few hundred bytes, and back.

    \b
    Examples:
      edgegrain demo
      edgegrain compress me.jpg
      edgegrain restore me.grain
      edgegrain compress holiday/ --out payloads/

    \b
    Exit status:
      0    all is well
      1    something failed; a line on stderr says what and what to do
      2    wrong usage
      130  interrupted
    """


application.command("compress")(compress.compress)
application.command("restore")(restore.restore)
application.command("retouch")(retouch.retouch)
application.command("batch")(batch.batch)
application.command("serve")(serve.serve)
application.command("info")(info.info)
application.command("bundles")(bundles.bundles)
application.command("export", add_help_option=False, context_settings=export.PASS_ON)(export.export)
application.command("convert")(convert.convert)
application.command("evaluate")(evaluate.evaluate)
application.command("train")(train.train)
application.command("models")(models.models)
application.command("device-kit")(device_kit.device_kit)
application.command("doctor")(doctor.doctor)
application.command("demo")(demo.demo)
application.add_typer(align.align, name="align")
application.add_typer(prior.prior, name="prior")
application.add_typer(pictures.pictures, name="pictures")
application.add_typer(metrics.metrics, name="metrics")
