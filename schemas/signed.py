"""The base of words that only a known person may say: which key signed, when, and the signature."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import Field

from schemas.word import Word

# 64 bytes of Ed25519 in hex.
SIGNATURE_DIGITS = 128


class SignedWord(Word):
    """A word with a signature over all its other fields. An empty signature is none."""

    id: Annotated[str, Field(min_length=8, max_length=64)] = Field(
        description="unique; a repeat is refused as a replay"
    )
    issued_at: Annotated[str, Field(max_length=40)] = Field(description="ISO 8601, UTC")
    key_id: Annotated[str, Field(max_length=64)] = Field("", description="which operator key signed")
    signature: Annotated[str, Field(max_length=SIGNATURE_DIGITS)] = Field(
        "", description="Ed25519 over the other fields as JSON with sorted keys, hex"
    )

    def canonical(self) -> bytes:
        """What is signed: every field but the signature as JSON with sorted keys."""
        fields = self.model_dump(mode="json", by_alias=True, exclude={"signature"})
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
