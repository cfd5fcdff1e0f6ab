"""Programs of the system that read and write the kernel's network state, called without a shell."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence

# Not the caller's PATH: the agent has rights that nobody should lend to a program of his own.
_ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_TIMEOUT_S = 20.0
_MAX_TEXT = 300

# Runs argv with some standard input and returns its standard output. Raises ToolError.
Run = Callable[[Sequence[str], bytes], bytes]


class ToolError(Exception):
    """A program did not do it; `reason` is one word, the text one line with place and remedy."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def run_tool(argv: Sequence[str], stdin: bytes = b"") -> bytes:
    """Run a program to its end and return what it printed.

    Raises:
        ToolError: it is not installed, fails, or takes longer than 20 s.
    """
    name = argv[0]
    try:
        # The words of argv are constants of this package, or addresses and names of interfaces that were parsed; all
        # else that comes from outside goes through standard input.
        done = subprocess.run(  # noqa: S603
            list(argv), input=stdin, capture_output=True, timeout=_TIMEOUT_S, check=False, env=dict(_ENVIRONMENT)
        )
    except FileNotFoundError:
        message = f"{name} is not installed: install the package that has it (Debian: nftables, iproute2)"
        raise ToolError(message, "no_tool") from None
    except subprocess.TimeoutExpired:
        message = f"{name} did not end within {_TIMEOUT_S:.0f} s"
        raise ToolError(message, "slow_tool") from None
    if done.returncode != 0:
        text = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[:_MAX_TEXT]
        message = f"{' '.join(argv)}: {text or f'exit {done.returncode}'}{_remedy(text)}"
        raise ToolError(message, _reason(text))
    return done.stdout


def _reason(text: str) -> str:
    if "Operation not permitted" in text:
        return "forbidden"
    return "unsupported" if "not supported" in text else "tool_failed"


def _remedy(text: str) -> str:
    if "Operation not permitted" in text:
        return " (run as root, or give the container capabilities.add: [NET_ADMIN])"
    return ""
