"""Known errors, and the exit code each one ends the command with.

A known error's text is one line (or one line per mistake) that names the place and the remedy. Anything
else is a bug of ours and says so, without a traceback unless ``SLUICEGATE_DEBUG=1`` asks for it.
"""

from __future__ import annotations

import sys

OK = 0
NOT_MET = 1
BAD_INPUT = 2
UNREACHABLE = 3
BUG = 70
INTERRUPTED = 130

# By name: asking for an exception's class must not import the package that defines it.
_KNOWN: tuple[tuple[str, str, int], ...] = (
    ("exporter.sources.byte_source", "CaptureError", BAD_INPUT),
    ("schemas.framing", "DecodeError", BAD_INPUT),
    ("schemas.word", "WordError", BAD_INPUT),
    ("detectors.rule_file", "RuleError", BAD_INPUT),
    ("response.policyfile", "PolicyFileError", BAD_INPUT),
    ("schemas.policy.networkpolicy", "PolicyError", BAD_INPUT),
    ("stream.connection", "ConnectionProblem", UNREACHABLE),
    ("stream.topics_admin", "TopicMismatch", BAD_INPUT),
    ("stream.state_admin", "StateInUse", NOT_MET),
    ("stream.outbox", "SendFailed", UNREACHABLE),
    ("exporter.delivery", "DeliveryError", UNREACHABLE),
    ("exporter.live_source", "SourceError", UNREACHABLE),
    ("sluicegate.local_broker", "BrokerError", UNREACHABLE),
    ("response.signing", "KeyFileError", BAD_INPUT),
    ("response.node.kernel_tools", "ToolError", NOT_MET),
)
# A file that is not a kubeconfig is bad input; an API server that says no is a cluster out of reach.
_KUBECONFIG_REASON = "bad_kubeconfig"


class CommandProblem(Exception):
    """A command cannot go on; the text is what the user is told.

    Attributes:
        code: exit code of the process.
    """

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: BaseException) -> int | None:
    """Return the exit code of a known error, none for one that nobody foresaw."""
    if isinstance(error, CommandProblem):
        return error.code
    gateway = sys.modules.get("response.gateway")
    if gateway is not None and isinstance(error, gateway.ClusterError):
        return BAD_INPUT if error.reason == _KUBECONFIG_REASON else UNREACHABLE
    for module, name, code in _KNOWN:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and isinstance(error, known):
            return code
    return BAD_INPUT if isinstance(error, OSError) and error.filename is not None else None


def told(error: BaseException) -> str:
    """Return what the user is told about a known error."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or type(error).__name__}; check the path and its permissions"
    return str(error) or type(error).__name__
