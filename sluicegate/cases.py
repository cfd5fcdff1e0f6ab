"""Case folders: a recorded input beside ``case.json``, which says what must and must not be found in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluicegate.problems import CommandProblem

# Files are recognised by their content; the word in the case is for people.
READABLE_FORMATS = (
    "pcap", "pcapng", "events", "zeek_conn_json", "zeek_conn_tsv", "zeek_dns_json", "zeek_dns_tsv", "cicflowmeter_csv",
    "netobserv_json", "hubble_json", "domain_list",
)  # fmt: skip
CASE_FILE = "case.json"
INVENTORY_FILE = "inventory.jsonl"
# A case file is a page of text; the limit keeps a mistaken path from being read into memory.
_MAX_BYTES = 1 << 20
_HASH_PIECE = 1 << 20


class Expectation(BaseModel):
    """One line of truth: an alert that must fire, must not, or may."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    expect: Literal["alert", "silence", "report"]
    kind: str = Field(description="word of the vocabulary; any: whatever kind")
    src: str = Field("", description="attacker; in parentheses: spoofed, graded by victim")
    dst: str = Field("", description="victim: address, range, or words")
    start_s: float | None = Field(None, description="s after the first packet")
    end_s: float | None = Field(None, description="s after the first packet")
    note: str = ""


class Case(BaseModel):
    """A case as its file describes it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[str, Field(min_length=1, max_length=200)]
    title: str = ""
    input: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\x00]+$")]
    format: str
    tier: str = ""
    first: str | None = Field(None, description="earliest time stamp, ISO 8601, UTC")
    span_s: float | None = None
    sha256: str = ""
    expect: tuple[Expectation, ...]


@dataclass(frozen=True)
class CaseFolder:
    """A case and where it lies."""

    folder: Path
    case: Case

    @property
    def input(self) -> Path:
        """The recorded input."""
        return self.folder / self.case.input

    @property
    def inventory(self) -> Path | None:
        """Who had which address, where the case says it."""
        path = self.folder / INVENTORY_FILE
        return path if path.is_file() else None

    def check_input(self) -> None:
        """Compare the input with what the case was written for.

        Raises:
            CommandProblem: it is missing or differs.
        """
        digest = hashlib.sha256()
        try:
            with self.input.open("rb") as file:
                while piece := file.read(_HASH_PIECE):
                    digest.update(piece)
        except OSError as error:
            message = f"{self.input}: cannot be read: {error.strerror}"
            raise CommandProblem(message) from None
        if self.case.sha256 and digest.hexdigest() != self.case.sha256:
            message = f"{self.input}: differs from the file that {CASE_FILE} describes (sha256)"
            raise CommandProblem(message)


def find_cases(root: Path) -> list[CaseFolder]:
    """Return all cases below a folder, by path.

    Raises:
        CommandProblem: no such folder, no case in it, or a case file that is not one.
    """
    if not root.is_dir():
        message = f"{root}: not a folder; give one that holds case folders"
        raise CommandProblem(message)
    found = [CaseFolder(path.parent, read_case(path)) for path in sorted(root.rglob(CASE_FILE))]
    if not found:
        message = f"{root}: no {CASE_FILE} below it"
        raise CommandProblem(message)
    return found


def read_case(path: Path) -> Case:
    """Read one case file.

    Raises:
        CommandProblem: it cannot be read or is not a case; names the field.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise CommandProblem(message) from None
    if len(raw) > _MAX_BYTES:
        message = f"{path}: more than {_MAX_BYTES} bytes, not a case file"
        raise CommandProblem(message)
    try:
        return Case.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError as error:
        message = f"{path}: not JSON: {error}"
        raise CommandProblem(message) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = f"{path}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
        raise CommandProblem(message) from None
