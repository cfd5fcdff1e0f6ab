"""Names seen lately and what detectors ask of each, read once."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.index import I64, positions
from detectors.letter_pairs import looks_generated
from detectors.mixing import U64
from detectors.name_guesses import read_guesses
from detectors.names import DYNAMIC_ZONES, ZONE_BYTES, hash_strings, long_labels, read_names, registered_labels

Array = npt.NDArray[Any]

_MOST = 1 << 16  # names kept, about 20 MB; a busy cluster asks for some thousands


class NameBook:
    """Numbers names, their zones and their registered labels, and keeps what is known of each by number.

    A memory of pure functions of texts, no state: when it is full it begins anew, and everything comes out the same.
    Numbers hold until the next call of ``numbers``; they depend on the past and must never show in a result.

    Attributes:
        name_hashes: u64, by number of a name, as are the next five. Arrays may be longer than what they hold.
        zone: number of its zone, int64.
        label: number of its registered label, int64.
        information: bits that it can carry in front of its zone, int64.
        guess: as what it looks guessed (`detectors.name_guesses`), int64.
        scope_hashes: hash of what a guess is counted within, u64.
        zone_hashes: u64, by number of a zone.
        label_hashes: u64, by number of a label.
        generated: whether it looks generated, bool, by number of a label.
        long: whether it runs on, bool, by number of a label.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._numbers: dict[str, int] = {}
        self._zones: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._zone_texts: list[str] = []
        self.name_hashes: U64 = np.zeros(0, np.uint64)
        self.zone, self.label, self.information, self.guess = (np.zeros(0, np.int64) for _ in range(4))
        self.scope_hashes: U64 = np.zeros(0, np.uint64)
        self.zone_hashes: U64 = np.zeros(0, np.uint64)
        self.label_hashes: U64 = np.zeros(0, np.uint64)
        self.generated, self.long, self._dynamic = np.zeros((3, 0), np.bool_)
        self._zone_label: I64 = np.zeros(0, np.int64)  # of names in the zone, unless it is a dynamic one

    def __len__(self) -> int:
        return len(self._numbers)

    def numbers(self, names: pa.StringArray) -> I64:
        """Return the number of each name (lower case, no final dot), int64."""
        if len(self) > self._most:
            self._begin()
        texts = names.to_pylist()
        known, before = self._numbers, len(self)
        number = np.array(list(map(known.get, texts, repeat(-1))), np.int64)
        fresh = positions(number < 0)
        if len(fresh):
            new = dict.fromkeys(texts[at] for at in fresh.tolist())
            known.update(zip(new, range(before, before + len(new)), strict=True))
            number[fresh] = [known[texts[at]] for at in fresh.tolist()]
            self._read(pa.array(new, pa.string()), before)
        return number

    def zone_bytes(self, numbers: I64) -> Array:
        """Return zones by number, the last ``ZONE_BYTES`` bytes of each."""
        texts = self._zone_texts
        return np.array([texts[n].encode()[-ZONE_BYTES:] for n in numbers.tolist()], f"S{ZONE_BYTES}")

    def in_a_zone(self, numbers: I64) -> npt.NDArray[np.bool_]:
        """Tell which zones are any, by number."""
        some: npt.NDArray[np.bool_] = numbers != self._zones.get("", -1)
        return some

    def _read(self, names: pa.StringArray, before: int) -> None:
        table = read_names(names)
        zones, fresh, first = _numbered(self._zones, table.zones.to_pylist())
        if len(fresh):
            self._read_zones(table.zones.take(pa.array(fresh)), first)
        zone = zones[table.zone]
        self.zone = _written(self.zone, before, zone)
        self.label = _written(self.label, before, self._zone_label[zone])
        self.name_hashes = _written(self.name_hashes, before, table.hashes)
        self.information = _written(self.information, before, table.information)
        guess, scope = read_guesses(names)
        self.guess, self.scope_hashes = _written(self.guess, before, guess), _written(self.scope_hashes, before, scope)
        dynamic = positions(self._dynamic[zone])
        if len(dynamic):
            self.label[before + dynamic] = self._label_numbers(names.take(pa.array(dynamic)))

    def _read_zones(self, zones: pa.StringArray, before: int) -> None:
        texts = zones.to_pylist()
        self._zone_texts += texts
        self.zone_hashes = _written(self.zone_hashes, before, hash_strings(zones))
        self._zone_label = _written(self._zone_label, before, self._label_numbers(zones))
        self._dynamic = _written(self._dynamic, before, np.array([text in DYNAMIC_ZONES for text in texts]))

    def _label_numbers(self, names: pa.StringArray) -> I64:
        labels = registered_labels(names)
        numbers, fresh, before = _numbered(self._labels, labels.dictionary.to_pylist())
        if len(fresh):
            new = labels.dictionary.take(pa.array(fresh))
            self.label_hashes = _written(self.label_hashes, before, hash_strings(new))
            self.generated = _written(self.generated, before, looks_generated(new))
            self.long = _written(self.long, before, long_labels(new))
        found: I64 = numbers[labels.indices.to_numpy()]
        return found


def _numbered(known: dict[str, int], texts: list[str]) -> tuple[I64, I64, int]:
    """Number different texts, new ones after those known.

    Returns:
        The numbers; the positions of the new ones; the number of the first new one.
    """
    before = len(known)
    numbers = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
    return numbers, positions(numbers >= before), before


def _written(values: Array, at: int, more: Array) -> Array:
    """Return an array with more values from a position on, the same one where they fit."""
    end = at + len(more)
    if end > len(values):
        values = np.concatenate([values, np.zeros(max(end, 2 * len(values)) - len(values), values.dtype)])
    values[at:end] = more
    return values
