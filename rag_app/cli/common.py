"""What all commands share: common options, configuration, output, and errors at the edge."""

import atexit
import gc
import json
import logging
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rag_app.cli.terminal import json_text, many_lines, one_line
from rag_app.errors import RagAppError

if TYPE_CHECKING:
    from rag_app.config.sections import Config

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and SIGINT's number, as shells have it."""

_OPTIONS = "rag_app.options"


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option where all levels see it, so that it may stand before or after the command."""
    kept = context.meta.setdefault(_OPTIONS, {"assignments": ()})
    if parameter.name == "assignments":
        kept["assignments"] += tuple(value)
    elif value is not None and value is not False:
        kept[parameter.name] = value


def common_options(command: F) -> F:
    """Add --config, --profile, --collection, --set, --wait, --json and -v."""
    kept: dict[str, Any] = {"expose_value": False, "callback": _remember}
    # Decorators work from the last to the first: the help lists them in this order.
    for option in reversed(
        [
            click.option("--config", metavar="FILE", help="Configuration file.", **kept),
            click.option("--profile", metavar="NAME", help="Profile to switch on.", **kept),
            click.option(
                "--collection",
                metavar="NAME",
                help="Collection to use, as --set vector_store.collection=NAME.",
                **kept,
            ),
            click.option(
                "--set",
                "assignments",
                metavar="KEY=VALUE",
                multiple=True,
                help="Override a key, e.g. --set llm.temperature=0; may be repeated.",
                **kept,
            ),
            click.option(
                "--wait",
                type=click.FloatRange(min=0),
                metavar="SECONDS",
                help="Wait for another process that writes to the collection (Milvus Lite).",
                **kept,
            ),
            click.option("--json", "json", is_flag=True, help="Print the result as JSON.", **kept),
            click.option(
                "-v", "--verbose", is_flag=True, help="Say more on standard error.", **kept
            ),
        ]
    ):
        command = option(command)
    return command


def filter_option(command: F) -> F:
    """Add --filter to a command that searches."""
    return click.option(
        "--filter",
        metavar="FILTER",
        expose_value=False,
        callback=_remember,
        help="Search only documents like this, e.g. 'type = \"html\" and page <= 3'; in place of "
        'retrieval.filter, "" for none.',
    )(command)


def _option(name: str) -> Any:
    return click.get_current_context().meta.get(_OPTIONS, {}).get(name)


def wants_json() -> bool:
    """Whether --json was given."""
    return bool(_option("json"))


def is_verbose() -> bool:
    """Whether -v was given."""
    return bool(_option("verbose"))


def config_path() -> str | None:
    """Return the configuration file that --config names."""
    path: str | None = _option("config")
    return path


def about_config_file() -> str:
    """Say which configuration file is read, and where what is stored lies."""
    from rag_app.config.paths import find_config

    file = find_config(config_path())
    if not file.is_packaged:
        return f"{file.path}; relative paths in it are seen from its folder"
    return (
        f"{file.path}, which comes with rag_app: there is no config.toml here or above; relative "
        f"paths in it are seen from {file.base}"
    )


def load(more: Mapping[str, Any] | None = None) -> "Config":
    """Load the configuration that the common options ask for; `more` overrides it key by key."""
    from rag_app.config.loader import parse_assignment  # pydantic: 0.15 s
    from rag_app.load import load_config  # pydantic: 0.15 s

    assignments = [parse_assignment(text) for text in _option("assignments") or ()]
    overrides: dict[str, Any] = dict(assignments)
    if _option("wait") is not None:
        overrides["vector_store.lock_timeout"] = _option("wait")
    for option, key in (("collection", "vector_store.collection"), ("filter", "retrieval.filter")):
        if _option(option) is not None:
            overrides[key] = _option(option)
    overrides.update(more or {})
    config = load_config(_option("config"), _option("profile"), overrides)
    # Before LlamaIndex's imports: one of its readers sets logging up
    # itself, at INFO, unless it is set up already.
    handler = logging.StreamHandler()
    handler.setFormatter(_OnTerminal("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("rag_app").setLevel(logging.INFO if is_verbose() else logging.WARNING)
    return config


def given_options(config: "Config") -> list[str]:
    """Return the options that choose this configuration, for a command that another program starts.

    In another folder, that is: paths are written whole.
    """
    from rag_app.config.paths import find_config

    found = find_config(config_path())
    given = [] if found.is_packaged else ["--config", str(found.path.resolve())]
    for name in ("profile", "collection"):
        if _option(name) is not None:
            given += [f"--{name}", str(_option(name))]
    for text in _option("assignments") or ():
        key, _, value = text.partition("=")
        section, _, field = key.strip().partition(".")
        loaded = getattr(getattr(config, section, None), field, None)
        # Seen from the current folder here, as the configuration has done already.
        if isinstance(loaded, str) and Path(loaded).is_absolute():
            value = loaded
        given += ["--set", f"{key}={value}"]
    return given


@contextmanager
def quick_start() -> Iterator[None]:
    """Let the garbage collector rest while a command imports and builds what it needs.

    Nothing of LlamaIndex, pandas and the rest is garbage; to look for it again and again, and once
    more at the exit, took a fifth of the time of a one-shot `retrieve`.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        atexit.register(_end_quickly)


def _end_quickly() -> None:
    """Freeze all objects, which are then not looked through when Python ends."""
    # triton's, which torch brings, would be reported as leaks on the terminal.
    if "triton" not in sys.modules:
        gc.freeze()


def say(*lines: str) -> None:
    """Print lines to standard error: what is not the result. Nothing in them ends a line."""
    for line in lines:
        click.echo(one_line(line), err=True)


def echo(*lines: str, **style: Any) -> None:
    """Print lines of the result; `style` is that of `click.style`. Nothing in them ends a line."""
    for line in lines:
        click.secho(one_line(line), **style)


def echo_text(text: str, *, nl: bool = True) -> None:
    """Print a text with its line breaks and tabs."""
    click.echo(many_lines(text), nl=nl)


def print_json(result: Any) -> None:
    """Print the result, and nothing else, as JSON."""
    click.echo(json_text(json.dumps(result, ensure_ascii=False, indent=2)))


def say_error(error: RagAppError) -> None:
    """Print an error and its remedy. What a message brings along, a log's end, is set apart."""
    first, *more = error.message.split("\n")
    say(f"Error: {first}", *(f"  | {line}" for line in more))
    if error.remedy:
        say(f"  try: {error.remedy}")


def is_same_file(source: str, output: str) -> bool:
    """Whether a result would go where its questions come from, by whatever name or redirect.

    "-" is standard input, and output.
    """
    try:
        asked = os.fstat(sys.stdin.fileno()) if source == "-" else Path(source).stat()
        kept = os.fstat(sys.stdout.fileno()) if output == "-" else Path(output).stat()
    except (OSError, ValueError):  # not there yet, or no file at all
        return False
    # A terminal is the same file at both ends, and does no harm.
    return stat.S_ISREG(asked.st_mode) and os.path.samestat(asked, kept)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that draws a bar on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    # The total comes with the first step.
    with click.progressbar(length=1, label=one_line(label), file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield update


@contextmanager
def stop_on_interrupt() -> Iterator[Event]:
    """Turn the first Ctrl-C into a wish to stop; a second one interrupts at once."""
    stop = Event()

    def wish(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("", "stopping when what is embedded is written; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, wish)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _OnTerminal(logging.Formatter):
    """Log records are messages of libraries: they have names and texts in them, too."""

    def format(self, record: logging.LogRecord) -> str:
        return many_lines(super().format(record))


class RagAppGroup(click.Group):
    """A group that turns the library's errors into messages and exit codes, in one place."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except RagAppError as error:
            if is_verbose():
                logging.getLogger("rag_app").info("", exc_info=error)
            say_error(error)
            ctx.exit(error.exit_code)
        # click would make exit code 1 of it, as of a failure.
        except KeyboardInterrupt:
            say("interrupted")
            ctx.exit(INTERRUPTED)
        # click's own: it makes messages and exit codes of them.
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            where = "" if is_verbose() else "the same with -v, which shows where; "
            if is_verbose():
                say(*traceback.format_exc().splitlines())
            say_error(
                RagAppError(f"{type(error).__name__}: {error}", f"{where}this is a bug in rag_app")
            )
            ctx.exit(1)
