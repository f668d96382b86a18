"""The one error that a user's input can cause. Imports nothing of ours; everything may import it."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class InputError(ValueError):
    """Something the user gave cannot be used. The message names the file or key, what came, what was expected.

    Commands print the message alone and exit with 1, as they do for an OSError; any other exception is a
    defect of ours and keeps its traceback.
    """


def one_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def guard(command: Callable[P, R]) -> Callable[P, R]:
    """``command`` with an InputError or OSError (of a file, of a network) turned into one line on stderr and exit
    code 1."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:
            name = error.filename2 or error.filename
            print(f"error: {name}: {error.strerror}" if name else f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(1)

    return guarded
