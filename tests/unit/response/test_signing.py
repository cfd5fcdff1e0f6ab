"""Signed words: what is believed, and why the rest is not."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from response.guard import Refusal
from response.signing import (
    KeyFileError,
    Operator,
    Signer,
    Verifier,
    load_operators,
    load_signer,
    new_keys,
    write_private_key,
)
from schemas.command import Command
from schemas.word import iso_time

NOW = 1_790_000_000.0
_FIXED = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pair(place: Path, key_id: str = "ana-1", person: str = "Ana") -> tuple[Signer, dict[str, Operator]]:
    private, line = new_keys(key_id, person)
    write_private_key(place / f"{key_id}.pem", private)
    (place / "keys.yaml").write_text(line)
    return load_signer(place / f"{key_id}.pem", key_id), load_operators(place / "keys.yaml")


def command(number: int = 0, issued: float = NOW) -> Command:
    return Command(id=f"command-{number}", verb="revert", target="abc", issued_at=iso_time(issued))


def reason(answer: Operator | Refusal) -> str:
    return answer.reason if isinstance(answer, Refusal) else f"by {answer.person}"


def test_a_signed_word_names_its_person(tmp_path: Path) -> None:
    signer, operators = pair(tmp_path)
    word = signer.sign(command())
    assert word.key_id == "ana-1"
    assert reason(Verifier(operators).verify(Command.decode(word.encode()), NOW + 1)) == "by Ana"


def test_every_field_is_covered(tmp_path: Path) -> None:
    signer, operators = pair(tmp_path)
    word = signer.sign(command())
    other = {
        "id": "command-x",
        "verb": "approve",
        "target": "xyz",
        "seconds": 5,
        "reason": "because",
        "cluster": "east",
        "issued_at": iso_time(NOW + 1),
    }
    unsigned = {"type", "schema_version", "key_id", "signature"}
    assert set(other) == set(Command.model_fields) - unsigned, "a field that no case changes"
    for name, value in other.items():
        changed = word.model_copy(update={name: value})
        assert reason(Verifier(operators).verify(changed, NOW)) == "bad_signature", name


def test_what_is_not_believed(tmp_path: Path) -> None:
    signer, operators = pair(tmp_path)
    word = signer.sign(command())
    verifier = Verifier(operators)
    assert reason(verifier.verify(command(), NOW)) == "unsigned"
    assert reason(verifier.verify(word.model_copy(update={"key_id": "ben-1"}), NOW)) == "unknown_key"
    assert reason(verifier.verify(word.model_copy(update={"signature": "zz" * 64}), NOW)) == "bad_signature"
    assert reason(verifier.verify(word, NOW + 301)) == "stale"
    assert reason(verifier.verify(word, NOW - 301)) == "stale"
    badly = signer.sign(command().model_copy(update={"issued_at": "yesterday"}))
    assert reason(verifier.verify(badly, NOW)) == "stale"


def test_another_persons_key_does_not_sign_for_me(tmp_path: Path) -> None:
    _, operators = pair(tmp_path)
    (tmp_path / "other").mkdir()
    stranger, _ = pair(tmp_path / "other")
    assert reason(Verifier(operators).verify(stranger.sign(command()), NOW)) == "bad_signature"


def test_a_word_is_believed_once(tmp_path: Path) -> None:
    signer, operators = pair(tmp_path)
    verifier = Verifier(operators)
    word = signer.sign(command())
    assert reason(verifier.verify(word, NOW)) == "by Ana"
    for later in (0, 1, 299, 300):
        assert reason(verifier.verify(word, NOW + later)) == "replayed"
    restarted = Verifier(operators)
    restarted.remember(word.id, NOW)
    assert reason(restarted.verify(word, NOW + 1)) == "replayed"


def test_refused_words_are_not_remembered_and_cannot_fill_the_memory(tmp_path: Path) -> None:
    signer, operators = pair(tmp_path)
    verifier = Verifier(operators, capacity=2)
    for number in range(10):
        verifier.verify(command(number), NOW)
    assert reason(verifier.verify(signer.sign(command(1)), NOW)) == "by Ana"
    assert reason(verifier.verify(signer.sign(command(2)), NOW)) == "by Ana"
    assert reason(verifier.verify(signer.sign(command(3)), NOW)) == "busy"
    assert reason(verifier.verify(signer.sign(command(4, NOW + 301)), NOW + 301)) == "by Ana"


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 2000)), max_size=30))
def test_no_word_is_ever_believed_twice(said: list[tuple[int, float]]) -> None:
    signer = Signer("k", _FIXED)
    verifier = Verifier({"k": Operator("k", "Ana", _FIXED.public_key())}, capacity=3)
    believed: list[str] = []
    now = NOW
    for number, passed in said:
        now += passed
        word = signer.sign(command(number))
        if isinstance(verifier.verify(word, now), Operator):
            believed.append(word.id)
    assert len(believed) == len(set(believed))


def test_a_private_key_open_to_others_is_refused(tmp_path: Path) -> None:
    pair(tmp_path)
    file = tmp_path / "ana-1.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_signer(file, "ana-1")


def test_a_key_file_is_never_replaced(tmp_path: Path) -> None:
    pair(tmp_path)
    with pytest.raises(KeyFileError, match="File exists"):
        write_private_key(tmp_path / "ana-1.pem", b"other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "key ids with person"),
        ("a: {person: Ana}", "a.public_key: Field required"),
        ("a: {person: Ana, public_key: zz}", "a.public_key"),
        ("'../a': {person: Ana, public_key: '" + "0" * 64 + "'}", "letters, digits"),
        ("a: [", "not YAML"),
    ],
)
def test_a_keys_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(KeyFileError, match=said):
        load_operators(tmp_path / "keys.yaml")


def test_a_private_key_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot read the private key"):
        load_signer(tmp_path / "none.pem", "k")
    write_private_key(tmp_path / "text.pem", b"secret text")
    with pytest.raises(KeyFileError, match="not a PEM private key") as caught:
        load_signer(tmp_path / "text.pem", "k")
    assert "secret" not in str(caught.value)


def test_a_key_id_that_could_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="letters, digits"):
        new_keys("../etc", "Ana")
