"""The door: `peregrine` and `python -m peregrine`. Every way out has its exit status here."""

import sys
from typing import Any

from peregrine import signals

CTRL_C = 130


def main() -> None:
    """Run the command line and leave with the status that the outcome deserves."""
    signals.raise_on_sigterm()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(run(arguments, debug))


def run(arguments: list[str], debug: bool = False) -> int:
    """Run one command and return its exit status; `debug` lets exceptions through, with their traceback."""
    import typer

    from peregrine.cli.app import app
    from peregrine.errors import PeregrineError, machine_error

    # Newer versions of Typer bring a Click of their own, older ones use the installed one: this is the base in both.
    click_exception = typer.BadParameter.__mro__[2]
    try:
        status = app(arguments, prog_name="peregrine", standalone_mode=False)
        if status == CTRL_C:  # newer versions of Typer give this for a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _say("stopped by Ctrl-C", CTRL_C)
    except signals.Terminated:
        return _say("stopped by SIGTERM", 143)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, click_exception):
            return _say(_with_hint(error), 2)
        if isinstance(error, PeregrineError):
            return _say(str(error), error.exit_code)
        if isinstance(error, MemoryError):
            return _say("memory ran out; use a smaller --set batch_size=… or close other programs", 4)
        if isinstance(error, OSError):
            return _say(str(machine_error(error)), 4)
        return _say(f"a bug of ours: {type(error).__name__}: {error}; run again with --debug and report it", 70)


def _say(message: str, status: int) -> int:
    # One write: torchrun's ranks share an unbuffered stderr, where `print` would write the line's end apart.
    sys.stderr.write(f"peregrine: {' '.join(message.split())}\n")
    return status


def _with_hint(error: Any) -> str:
    """Click's message in our form, with the help page that answers it."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    return f"{message}; see `{context.command_path if context else 'peregrine'} --help`"


if __name__ == "__main__":
    main()
