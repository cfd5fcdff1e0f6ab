"""Ed25519 signatures of words: who said it, is it fresh, was it said before.

Private keys are read from files only; neither they nor what they sign is ever logged. Public keys are one YAML file:
key id to person and key. Time is an argument; the memory of what was said is bounded and holds verified words only, so
that nobody without a key can fill it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from response.guard import Refusal
from schemas.signed import SignedWord
from schemas.word import from_iso

# Long enough for clocks that are apart and a broker that was away a moment, short enough to remember all of it.
FRESH_S = 300.0
MAX_REMEMBERED = 10_000
# A PEM key of Ed25519 has about 120 bytes, a line of the keys file not many more.
_MAX_PRIVATE_BYTES = 4096
_MAX_KEYS_BYTES = 1 << 20
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

S = TypeVar("S", bound=SignedWord)


class KeyFileError(ValueError):
    """A file of keys that cannot be used; the message is one line with place and remedy, never the key."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and the id under which others know it."""

    key_id: str
    key: Ed25519PrivateKey

    def sign(self, word: S) -> S:
        """The word with this key's id and signature."""
        named = word.model_copy(update={"key_id": self.key_id, "signature": ""})
        return named.model_copy(update={"signature": self.key.sign(named.canonical()).hex()})


@dataclass(frozen=True, slots=True)
class Operator:
    """Whose key it is."""

    key_id: str
    person: str
    key: Ed25519PublicKey


class Verifier:
    """Checks signed words against known keys; not for use by several threads at once."""

    def __init__(
        self, operators: Mapping[str, Operator], fresh_s: float = FRESH_S, capacity: int = MAX_REMEMBERED
    ) -> None:
        """Know some keys by id; words older or newer than ``fresh_s`` seconds are stale."""
        self._operators = dict(operators)
        self._fresh_s = fresh_s
        self._capacity = capacity
        self._said: dict[str, float] = {}  # word id to the time from which the word is stale anyway

    def verify(self, word: SignedWord, now: float) -> Operator | Refusal:
        """Who said a word, or why it is not believed; `now` is s since epoch.

        Refusals: unsigned, unknown_key, bad_signature, stale, replayed, and busy where more verified words came within
        the window than can be remembered.
        """
        operator = self._signed_by(word)
        if isinstance(operator, Refusal):
            return operator
        try:
            issued = from_iso(word.issued_at)
        except ValueError:
            return Refusal("stale", "issued_at is not a time in UTC, so nobody can tell whether the word is fresh")
        if abs(now - issued) > self._fresh_s:
            message = f"issued {now - issued:.0f} s before it was read; at most {self._fresh_s:.0f} s either way"
            return Refusal("stale", message)
        if self._said.get(word.id, 0.0) >= now:
            return Refusal("replayed", "a word of this id was accepted already")
        if len(self._said) >= self._capacity:
            self._said = {key: until for key, until in self._said.items() if until >= now}
            if len(self._said) >= self._capacity:
                message = f"{self._capacity} words came within {2 * self._fresh_s:.0f} s; wait, then sign it again"
                return Refusal("busy", message)
        self._said[word.id] = issued + self._fresh_s
        return operator

    def remember(self, word_id: str, issued: float) -> None:
        """Take note of a word that an earlier process accepted, issued at some s since epoch."""
        if len(self._said) < self._capacity:
            self._said[word_id] = issued + self._fresh_s

    def _signed_by(self, word: SignedWord) -> Operator | Refusal:
        if not word.signature or not word.key_id:
            return Refusal("unsigned", "the word carries no key id or no signature")
        operator = self._operators.get(word.key_id)
        if operator is None:
            return Refusal("unknown_key", f"no key {word.key_id!r} in the file of public keys")
        try:
            operator.key.verify(bytes.fromhex(word.signature), word.canonical())
        except (InvalidSignature, ValueError):
            return Refusal("bad_signature", f"the signature is not that of key {word.key_id!r} over this word")
        return operator


class _KeyLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    person: Annotated[str, Field(min_length=1, max_length=128)]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def new_keys(key_id: str, person: str) -> tuple[bytes, str]:
    """A fresh pair: the private key as PEM (PKCS 8), and the lines to add to the file of public keys.

    Raises:
        KeyFileError: the key id holds other characters than letters, digits, dots, dashes and underscores.
    """
    if not _KEY_ID.fullmatch(key_id):
        message = f"key id {key_id[:64]!r}: 1 to 64 of letters, digits, '.', '_' and '-' are expected"
        raise KeyFileError(message)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes_raw().hex()
    return private, yaml.safe_dump({key_id: {"person": person, "public_key": public}}, allow_unicode=True)


def write_private_key(path: Path, pem: bytes) -> None:
    """Write a key that only its owner may read; an existing file is never replaced.

    Raises:
        KeyFileError: the file exists or cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except OSError as error:
        message = f"{path}: cannot write the private key: {error.strerror}"
        raise KeyFileError(message) from None


def load_signer(path: Path, key_id: str) -> Signer:
    """The signer whose private key (PEM, PKCS 8, not encrypted) is in a file that only its owner can read.

    Raises:
        KeyFileError: the file cannot be read, is open to others, or holds no such key.
    """
    pem = _read(path, _MAX_PRIVATE_BYTES, "the private key")
    status = path.stat()
    # A Secret that Kubernetes mounts belongs to root, and this process reads it as its group.
    if status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o037):
        message = f"{path}: others than its owner may read this private key; chmod 600 it"
        raise KeyFileError(message)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        message = f"{path}: not a PEM private key without password; sluicegate keys new makes one"
        raise KeyFileError(message) from None
    if not isinstance(key, Ed25519PrivateKey):
        message = f"{path}: a private key of another kind than Ed25519; sluicegate keys new makes one"
        raise KeyFileError(message)
    return Signer(key_id, key)


def load_operators(path: Path) -> dict[str, Operator]:
    """Everyone whose commands are believed, by key id, from a YAML file.

    Raises:
        KeyFileError: the file cannot be read, or a line of it is no public key.
    """
    try:
        document = yaml.safe_load(_read(path, _MAX_KEYS_BYTES, "the public keys").decode())
    except (yaml.YAMLError, UnicodeDecodeError):
        message = f"{path}: not YAML"
        raise KeyFileError(message) from None
    if not isinstance(document, dict):
        message = f"{path}: key ids with person and public_key are expected; sluicegate keys new prints them"
        raise KeyFileError(message)
    return {str(key_id): _operator(path, str(key_id), line) for key_id, line in document.items()}


def _operator(path: Path, key_id: str, line: object) -> Operator:
    if not _KEY_ID.fullmatch(key_id):
        message = f"{path}: key id {key_id[:64]!r}: 1 to 64 of letters, digits, '.', '_' and '-' are expected"
        raise KeyFileError(message)
    try:
        read = _KeyLine.model_validate(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([key_id, *(str(part) for part in first["loc"])])
        message = f"{path}: {place}: {first['msg']}"
        raise KeyFileError(message) from None
    return Operator(key_id, read.person, Ed25519PublicKey.from_public_bytes(bytes.fromhex(read.public_key)))


def _read(path: Path, limit: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        message = f"{path}: cannot read {what}: {error.strerror}"
        raise KeyFileError(message) from None
    if len(content) > limit:
        message = f"{path}: more than {limit} bytes, not {what}"
        raise KeyFileError(message)
    return content
