"""The application ``edgegrain``: all commands, in groups."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import rich  # noqa: F401 - reports a missing library here, not in the middle of a command
import typer
from typer.core import TyperGroup

from codec_contract import __version__
from edgegrain.cli import batch, bundles, compress, demo, doctor, info, restore, serve
from edgegrain.cli.authoring import evaluate, export, fetch, papers, pictures, publish, train
from edgegrain.cli.options import Documented
from edgegrain.cli.output import errors_to_exit_codes

USE, SERVE, TRAIN, EXPORT, CHECK = "Use", "Serve", "Train and publish", "Export", "Check"
"""Headings of the list of commands."""


class CommandGroups(TyperGroup):
    """The commands, listed in their order, with their ``rich_help_panel`` as headings; errors become exit codes."""

    def invoke(self, ctx: Any) -> Any:
        with errors_to_exit_codes():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = formatter.width - 6 - max(map(len, self.commands), default=0)
        commands: Any = self.commands
        for heading, group in itertools.groupby(commands.items(), lambda item: item[1].rich_help_panel):
            with formatter.section(heading):
                formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in group])


application = typer.Typer(
    name="edgegrain",
    cls=CommandGroups,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgegrain {__version__}")
        raise typer.Exit


@application.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compress pictures to a few hundred bytes, and restore them.

    \b
    Examples:
      edgegrain demo
      edgegrain compress me.jpg
      edgegrain restore me.grain
      edgegrain compress holiday/ --out payloads/
      edgegrain COMMAND --help

    \b
    Exit codes:
      0    done
      1    the command failed; a line on stderr gives the reason
      2    wrong usage
      130  interrupted
    """


application.command("compress", cls=Documented, rich_help_panel=USE)(compress.compress)
application.command("restore", cls=Documented, rich_help_panel=USE)(restore.restore)
application.command("info", cls=Documented, rich_help_panel=USE)(info.info)
application.add_typer(bundles.bundles, name="bundles", rich_help_panel=USE)
application.command("retouch", cls=Documented, rich_help_panel=USE)(papers.retouch)
application.command("demo", cls=Documented, rich_help_panel=USE)(demo.demo)
application.command("faces", cls=Documented, rich_help_panel=USE)(compress.faces)

application.command("serve", cls=Documented, rich_help_panel=SERVE)(serve.serve)
application.command("batch", cls=Documented, rich_help_panel=SERVE)(batch.batch)

application.command("train", cls=Documented, rich_help_panel=TRAIN)(train.train)
application.add_typer(fetch.prior, name="prior", rich_help_panel=TRAIN)
application.add_typer(publish.publish, name="publish", rich_help_panel=TRAIN)
application.add_typer(pictures.pictures, name="pictures", rich_help_panel=TRAIN)
application.add_typer(fetch.metrics, name="metrics", rich_help_panel=TRAIN)

application.add_typer(export.export, name="export", rich_help_panel=EXPORT)
application.command("convert", cls=Documented, rich_help_panel=EXPORT)(papers.convert)
application.command("device-kit", cls=Documented, rich_help_panel=EXPORT)(export.device_kit)
application.command("device-report", cls=Documented, rich_help_panel=EXPORT)(export.device_report)

application.command("evaluate", cls=Documented, rich_help_panel=CHECK)(evaluate.evaluate)
application.command("models", rich_help_panel=CHECK)(papers.models)
application.command("doctor", cls=Documented, rich_help_panel=CHECK)(doctor.doctor)
