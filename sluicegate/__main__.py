"""The process: arguments in, exit code out, never a traceback."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Sequence

from sluicegate import problems
from sluicegate.app import app
from sluicegate.terminal import complain, shortened

DEBUG_VARIABLE = "SLUICEGATE_DEBUG"


def main() -> None:
    """Run the command line and end the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show an arrow shows a question mark; the command still works.
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code.

    0 done; 1 what was asked for was not met; 2 wrong usage or input; 3 broker or cluster out of reach;
    70 a bug of ours; 130 interrupted.
    """
    if os.environ.get(DEBUG_VARIABLE) != "1":
        # Libraries narrate what they retry; a command says itself what came of it. Agents configure their own logs.
        logging.getLogger().addHandler(logging.NullHandler())
    try:
        result = app(list(arguments), prog_name="sluicegate", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # The reader has left (`| head`), which the argument parser turns into an exit of its own: what is still
        # in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        result = problems.INTERRUPTED
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        return _told(error)
    if result == problems.INTERRUPTED:
        complain("interrupted")
    return int(result or 0)


def _told(error: Exception) -> int:
    code = problems.exit_code(error)
    if code is not None:
        complain(problems.told(error))
        return code
    usage = getattr(error, "format_message", None)
    if callable(usage):
        return _told_usage(error, str(usage()))
    first = shortened((str(error).splitlines() or [""])[0], 200)
    complain(f"internal error: {type(error).__name__}: {first}; run again with {DEBUG_VARIABLE}=1 and report the trace")
    return problems.BUG


def _told_usage(error: Exception, text: str) -> int:
    """What the argument parser refuses, as one line that says where the help is."""
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "sluicegate")
    line = " ".join(text.split()).rstrip(".")
    if not line:  # no arguments were given: the help has been printed already
        return problems.BAD_INPUT
    complain(f"{line}; see {command} --help")
    return problems.BAD_INPUT


if __name__ == "__main__":
    main()
