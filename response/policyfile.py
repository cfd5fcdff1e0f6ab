"""The decision matrix as a YAML file: kinds to categories; a category to severity, deadline, ladder and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.finding import Severity
from schemas.response import ActionName, Mode

Category = Literal["ddos", "intrusion", "data_leak", "misconfiguration", "other"]
Name = Annotated[str, Field(min_length=1, max_length=253)]
DEFAULT_POLICY_FILE = Path(__file__).with_name("default_policy.yaml")
# A policy of every namespace of a large cluster is far smaller; beyond this the file is not a policy.
MAX_FILE_BYTES = 1 << 20


class PolicyFileError(ValueError):
    """A policy file that cannot be used; the message is one line naming file, place and remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CategoryRule(_Part):
    """One row of the matrix."""

    severity: Severity = Field(description="Floor of the response's severity; a graver alert keeps its own.")
    deadline_s: int = Field(ge=0, le=86400, description="Seconds after detection by which it should be contained.")
    ttl_s: int = Field(ge=60, le=604800, description="Seconds after which what was applied expires.")
    actions: tuple[ActionName, ...] = Field(description="Ladder: tried in order until one is proven.")
    mode: Mode | None = Field(None, description="Stricter mode for this category; absent: the file's mode.")


class NamespaceRule(_Part):
    """Mode of one namespace, freer or stricter than the file's."""

    mode: Mode


class DecisionPolicy(_Part):
    """The whole file."""

    version: Literal[1]
    mode: Mode = Field("dry-run", description="Default mode: nothing is changed until an operator says so.")
    minimum_confidence: float = Field(
        0.5, ge=0, le=1, description="Below it alerts are only observed: an even bet is no ground to cut anyone off."
    )
    namespaces: dict[Name, NamespaceRule] = Field(default_factory=dict)
    categories: dict[Category, CategoryRule]
    kinds: dict[Name, Category]

    def rule(self, category: Category) -> CategoryRule:
        """The row of a category; a category without a row has that of `other`."""
        return self.categories.get(category) or self.categories["other"]


def parse_policy(text: str, name: str) -> DecisionPolicy:
    """The policy in a YAML text; `name` is what errors call it. Raises PolicyFileError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        message = f"{name}:{place} not YAML: {getattr(error, 'problem', None) or 'unreadable'}"
        raise PolicyFileError(message) from None
    if not isinstance(document, dict):
        message = f"{name}: a mapping with version, categories and kinds is expected; see default_policy.yaml"
        raise PolicyFileError(message)
    try:
        policy = DecisionPolicy.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{name}: {place}: {first['msg']}"
        raise PolicyFileError(message) from None
    if "other" not in policy.categories:
        message = f"{name}: categories.other is missing: alerts of unlisted kinds need a row"
        raise PolicyFileError(message)
    return policy


def load_policy(path: Path = DEFAULT_POLICY_FILE) -> DecisionPolicy:
    """The policy in a file; without a path the one that ships. Raises PolicyFileError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise PolicyFileError(message) from None
    except UnicodeDecodeError:
        message = f"{path}: not a text file"
        raise PolicyFileError(message) from None
    if len(data) > MAX_FILE_BYTES:
        message = f"{path}: more than {MAX_FILE_BYTES} bytes, not a policy file"
        raise PolicyFileError(message)
    return parse_policy(text, str(path))
