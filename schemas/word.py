"""The base of every JSON word, and how it becomes bytes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

MAX_WORD_BYTES = 1 << 20
DRAFT = "https://json-schema.org/draft/2020-12/schema"

Read = TypeVar("Read")


class WordError(ValueError):
    """Bytes that are not the word they should be; the text names the field."""


class Word(BaseModel):
    """A frozen, typed JSON object. Unknown fields are ignored: newer writers may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """Return JSON with sorted keys: equal words are equal bytes."""
        return orjson.dumps(self.model_dump(mode="json", by_alias=True), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read the word.

        Raises:
            WordError: not JSON, too long, or a field that does not fit.
        """
        return read(cls.__name__, value, cls.model_validate)


def read(name: str, value: bytes, validate: Callable[[Any], Read]) -> Read:
    """Return what a validator makes of JSON bytes; ``name`` begins the error's text.

    Raises:
        WordError: not JSON, too long, or a field that does not fit.
    """
    if len(value) > MAX_WORD_BYTES:
        problem = f"{name}: {len(value)} bytes, more than {MAX_WORD_BYTES}"
        raise WordError(problem)
    try:
        return validate(orjson.loads(value))
    except orjson.JSONDecodeError as error:
        problem = f"{name}: not JSON: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"{'.'.join([name, *(str(p)[:80] for p in first['loc'])])}: {first['msg']}"
    raise WordError(problem)


def iso_time(seconds: float) -> str:
    """Return UTC text with milliseconds for seconds since the epoch."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> float:
    """Return seconds since the epoch for what ``iso_time`` wrote.

    Raises:
        ValueError: not an ISO 8601 time, or one without its zone, which every machine would read differently.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        problem = f"{text[:40]!r} names no time zone; write UTC as Z"
        raise ValueError(problem)
    return moment.timestamp()


def json_schema(word: type[Word], mode: Literal["serialization", "validation"] = "serialization") -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a word: as it is written, or (validation) as it is accepted."""
    return {"$schema": DRAFT, **word.model_json_schema(mode=mode)}
