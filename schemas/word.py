"""The base of every JSON word, and how it becomes bytes."""

from __future__ import annotations

import datetime
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

MAX_WORD_BYTES = 1 << 20


class WordError(ValueError):
    """Bytes that are not the word they should be; the text names the field."""


class Word(BaseModel):
    """A frozen, typed JSON object. Unknown fields are ignored: newer writers may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """Return JSON with sorted keys: equal words are equal bytes."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read the word.

        Raises:
            WordError: not JSON, too long, or a field that does not fit.
        """
        if len(value) > MAX_WORD_BYTES:
            problem = f"{cls.__name__}: {len(value)} bytes, more than {MAX_WORD_BYTES}"
            raise WordError(problem)
        try:
            return cls.model_validate(orjson.loads(value))
        except orjson.JSONDecodeError as error:
            problem = f"{cls.__name__}: not JSON: {error}"
            raise WordError(problem) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problem = f"{cls.__name__}.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
            raise WordError(problem) from None


def iso_time(seconds: float) -> str:
    """Return UTC text with milliseconds for seconds since the epoch."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> float:
    """Return seconds since the epoch for what ``iso_time`` wrote.

    Raises:
        ValueError: not an ISO 8601 time.
    """
    return datetime.datetime.fromisoformat(text).timestamp()


def json_schema(word: type[Word]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a word as it is written."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **word.model_json_schema(mode="serialization"),
    }
