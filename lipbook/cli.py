"""The command line `lipbook`: build, list, re-run, refresh and check the book; certify networks.

Nothing heavy is imported here: help, lists and refusals answer at once. Exit codes: 0 done, 1 a run
failed or a check found faults, 2 misuse (nothing was started), 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import click

from lipbook import __version__
from lipbook.parameters import ParameterError, closest, resolve, shown
from lipbook.running.chapters import ChapterFile, find_chapter, list_chapters
from lipbook.running.checkout import find_root
from lipbook.running.errors import Misuse, RunFailed
from lipbook.running.inputs import folder_of, parse_assignments, read_file


class Commands(click.Group):
    """A group that names the closest command when one is misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which are near."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            names = self.list_commands(ctx)
            raise Misuse(
                f"`COMMAND` must be one of {', '.join(names)}. "
                f"Got {shown(args[0])}. {closest(args[0], names)}".rstrip()
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Begin with `lipbook chapters`; then, for one of them, "
    "`lipbook run CHAPTER -p NAME=VALUE`.",
)
@click.version_option(__version__, prog_name="lipbook")
@click.pass_context
def cli(context: click.Context) -> None:
    """Build the book, re-run its chapters with other parameters, check its outputs, and certify
    networks of your own."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    help="Folder that gets `_build/html`; the checkout itself if left out.",
)
def build(out: str | None) -> None:
    """Build the book's pages from the stored outputs.

    A warning, an unresolved reference or a missing citation fails the build. Prints the path of the
    first page.
    """
    from lipbook.running.build import build_book, check_builder

    root = find_root()
    check_builder()
    folder = None if out is None else folder_of("--out", out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise Misuse(f"`--out` must be a folder. Got {shown(out)}, which is a file.")
    click.echo(build_book(root, folder, strict=True, watch=status_line()))


@cli.command(
    epilog="Examples: `lipbook certify model.pt --domain=-1,1` for a network saved with "
    "torch.save(model.state_dict(), 'model.pt'); `lipbook certify model.onnx --domain=ball:2 "
    "--json` on the ball of radius 2 about 0, for a script."
)
@click.argument("file", metavar="FILE")
@click.option("--activation", metavar="NAME", help="Activation.  [default: the file's, or relu]")
@click.option(
    "--domain",
    metavar="SET",
    help="Set of inputs: LOW,HIGH for all coordinates (write --domain=-1,1), LOW:HIGH,LOW:HIGH,… "
    "one by one, ball:RADIUS, or ball:RADIUS@C1,C2,….  [default: the whole space]",
)
@click.option("--method", default="auto", metavar="NAME", show_default=True, help="Method.")
@click.option(
    "--rel-gap", default="1e-6", show_default=True, help="Stop at upper ≤ (1 + gap)·lower."
)
@click.option("--time-limit", default="60", show_default=True, help="Stop after so many seconds.")
@click.option("--seed", default="0", show_default=True, help="Of random starts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def certify(as_json: bool, **options: str) -> None:
    """Bracket the Lipschitz constant of a network in a file.

    FILE is an .npz, a torch state_dict, a .safetensors or an .onnx file of a perceptron; no code in
    it is run. Two-layer networks are solved exactly where a method closes the gap in time; deeper
    ones get bounds. Both bounds are proved, rounding errors included. Ctrl-C ends the search and
    prints the bracket so far.
    """
    from lipbook.certify.options import checked_request

    request = checked_request(**options)
    from lipbook.certify.report import for_people, for_scripts
    from lipbook.certify.work import certify as certified

    answer = certified(request, bracket_line())
    if as_json:
        click.echo(json.dumps(for_scripts(answer), ensure_ascii=False, allow_nan=False))
    else:
        click.echo(for_people(answer))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def chapters(as_json: bool) -> None:
    """List the chapters with their parameters.

    Each parameter is shown with its type, default, allowed values and meaning.
    """
    root = find_root()
    found = list_chapters(root)
    if as_json:
        rows = [chapter.to_dict(root) for chapter in found]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    click.echo("\n\n".join(listing(chapter) for chapter in found) or "_toc.yml lists no notebook.")


def listing(chapter: ChapterFile) -> str:
    """Return a chapter and its parameters for a reader."""
    lines = [click.style(chapter.name, bold=True), f"  {chapter.title}"]
    width = max((len(each.name) for each in chapter.parameters), default=0)
    for each in chapter.parameters:
        default = json.dumps(each.default, ensure_ascii=False)
        default = default.strip('"') if each.type == "str" else default
        lines.append(f"    {each.name.ljust(width)}  {each.help}")
        lines.append(f"    {' ' * width}  {each.allowed()}; default {default}")
    return "\n".join(lines)


@cli.command(
    epilog="Examples: `lipbook run constant-or-decaying -p width=128 -p activation=tanh` changes "
    "two parameters; `lipbook run constant-or-decaying -f mine.yaml -o runs/mine` reads them from "
    "a file of lines `name: value`. A list is written as JSON: -p 'widths=[8,16]'."
)
@click.argument("chapter", metavar="CHAPTER")
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set one parameter; may be repeated. Wins over -f.",
)
@click.option("-f", "--file", "file", metavar="PARAMS.yaml", help="Read parameters from YAML.")
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    help="Folder for notebook, page and record; absent, empty or from an earlier run of the "
    "chapter.  [default: runs/CHAPTER-<digest of the parameters>]",
)
@click.option("--page/--no-page", default=True, help="Whether to make the HTML page too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def run(
    chapter: str,
    assignments: tuple[str, ...],
    file: str | None,
    out: str | None,
    page: bool,
    as_json: bool,
) -> None:
    """Re-run a chapter with other parameters.

    CHAPTER is a name that `lipbook chapters` lists, or the path of its notebook. Its folder gets
    the executed notebook, the page as a self-contained site, and record.json with parameters,
    values and verdicts. Then what differs from the published run is printed.
    """
    root = find_root()
    found = find_chapter(root, chapter)
    given = {**read_file(file), **parse_assignments(found.parameters, assignments)}
    values = resolve(found.parameters, given)
    from lipbook.running.execute import default_out, run_chapter
    from lipbook.running.folders import check_out

    folder = default_out(found, values) if out is None else folder_of("-o", out)
    check_out(folder, found.name)
    if page:
        from lipbook.running.build import check_builder

        check_builder()
    say(f"Running {found.name} …")
    finished = run_chapter(
        found, given, folder, root, page, progress=sys.stderr.isatty(), watch=status_line()
    )
    if as_json:
        click.echo(json.dumps(finished.to_dict(), indent=2, ensure_ascii=False))
        return
    from lipbook.records import describe

    if finished.differences is None:
        click.echo("There is no published run to compare with.")
    else:
        click.echo(describe(finished.differences))
    click.echo(f"\n{finished.page or finished.notebook}")


@cli.command()
@click.argument("names", metavar="[CHAPTER]...", nargs=-1)
def refresh(names: tuple[str, ...]) -> None:
    """Re-execute chapters and store their outputs, records and digests.

    All chapters if none is named. A chapter that fails keeps what was stored.
    """
    root = find_root()
    found = [find_chapter(root, name) for name in names] if names else list_chapters(root)
    from lipbook.running.refresh import refresh as refresh_one

    failures = []
    for chapter in found:
        started = time.monotonic()
        try:
            changed = refresh_one(chapter.path, root, cell_counter(chapter.name))
        except RunFailed as failure:
            failures.append(str(failure))
            continue
        seconds = time.monotonic() - started
        say(f"{chapter.name}: {'stored' if changed else 'unchanged'} ({seconds:.1f} s)")
    if failures:
        raise RunFailed("\n".join(failures))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def check(as_json: bool) -> None:
    """Check that notebooks are clean and their stored outputs not stale.

    Takes seconds and runs no chapter. Exit code 1 if there is a fault.
    """
    root = find_root()
    from lipbook.running.check import check_book

    faults = check_book(root)
    if as_json:
        rows = [{"file": fault.file, "message": fault.message} for fault in faults]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif faults:
        click.echo("\n".join(map(str, faults)))
    else:
        click.echo("All chapters are clean and their stored outputs are up to date.")
    if faults:
        raise click.exceptions.Exit(1)


def say(line: str) -> None:
    """Print a line about progress on stderr, in place of a line that `status_line` keeps."""
    click.echo(f"\r\x1b[K{line}" if sys.stderr.isatty() else line, err=True)


def status_line() -> Callable[[str], None] | None:
    """Return a function that keeps the latest line of a long task in view, on a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(line: str) -> None:
        width = shutil.get_terminal_size().columns
        click.echo(f"\r\x1b[K{click.unstyle(line)[: width - 1]}", err=True, nl=False)

    click.get_current_context().call_on_close(lambda: click.echo("\r\x1b[K", err=True, nl=False))
    return show


def cell_counter(name: str) -> Callable[[int, int], None] | None:
    """Return a function that shows how many cells are done, on a terminal."""
    show = status_line()
    return None if show is None else lambda done, total: show(f"{name}: cell {done} of {total}")


def bracket_line() -> Callable[[float, float], None] | None:
    """Return a function that shows how far a bracket has narrowed, on a terminal."""
    show = status_line()
    return None if show is None else lambda low, high: show(f"between {low:.8g} and {high:.8g} …")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; every refusal is one line on stderr."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary folders go
    sys.exit(outcome(args))


def outcome(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = cli.main(args, prog_name="lipbook", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        say("lipbook: interrupted; nothing was changed.")
        return 130
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "lipbook"
        message = " ".join(error.format_message().split())
        say(f"lipbook: {message} See `{command} --help`.")
        return 2
    except (Misuse, ParameterError) as error:
        say(f"lipbook: {error}")
        return 2
    except RunFailed as error:
        say(f"lipbook: {error}")
        return 1
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
