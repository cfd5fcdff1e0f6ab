"""Columns of domain names: hashes, registered zones, lengths and entropy, without a loop per name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.hashing import U64, mix
from detectors.index import I64, positions

# The registered zone is the last two labels, or three where the last but one is a generic second level
# under a country code. A list of public suffixes would be exact; it is data that ages, and a zone cut one
# label too short only merges neighbours. What does not end in something that can be a top-level domain
# (letters, or an IDNA label) belongs to no zone: tunnels that are asked directly need none.
ZONE = r"(?P<zone>[^.]+\.(?:(?:co|com|net|org|gov|edu|ac|or|ne|go)\.[a-z]{2}|[a-z]{2,18}|xn--[a-z0-9-]+))$"

# Under these everybody may have a name, so what stands in front of them is registered too: the larger providers of
# names for changing addresses.
_DYNAMIC = (
    "ddns.net", "mooo.com", "duckdns.org", "dyndns.org", "dyndns.com", "no-ip.org", "no-ip.com", "no-ip.biz",
    "hopto.org", "zapto.org", "sytes.net", "servebeer.com", "serveftp.com", "myftp.org", "redirectme.net", "dynu.net",
    "chickenkiller.com", "yi.org", "dynserv.com", "3utilities.com", "bounceme.net",
)  # fmt: skip
_LABEL = ZONE.replace(
    r"(?P<zone>[^.]+\.(?:", r"(?P<label>[^.]+)\.(?:(?:" + "|".join(map(re.escape, _DYNAMIC)) + ")|"
).replace("))$", ")$")

ZONE_BYTES = 96
_POWERS = np.cumprod(np.full(1024, 0x100000001B3, np.uint64))  # FNV prime, as the base of a polynomial


def hash_strings(values: pa.Array) -> U64:
    """Return one u64 per string: a polynomial in its bytes, mixed with its length. Shape (n,)."""
    raw, starts, lengths = bytes_of(values)
    result = np.zeros(len(values), np.uint64)
    full = positions(lengths > 0)
    if len(full):
        inside = np.arange(len(raw)) - np.repeat(starts, lengths)
        terms = (raw.astype(np.uint64) + np.uint64(1)) * _POWERS[inside % len(_POWERS)]
        result[full] = np.add.reduceat(terms, starts[full])
    return mix(result ^ mix(lengths.astype(np.uint64)))


def bytes_of(values: pa.Array) -> tuple[npt.NDArray[np.uint8], I64, I64]:
    """Return the bytes of all strings one after the other, and where each begins and how long it is."""
    joined = values.cast(pa.binary())
    offsets = np.frombuffer(joined.buffers()[1], np.int32, len(joined) + 1, 4 * joined.offset).astype(np.int64)
    data = joined.buffers()[2]
    raw = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    return raw, offsets[:-1] - offsets[0], np.diff(offsets)


@dataclass(frozen=True)
class NameTable:
    """What detectors ask of each distinct name; all arrays have one entry per name."""

    hashes: U64
    zones: npt.NDArray[Any]  # distinct zones, bytes of at most ZONE_BYTES
    zone_hashes: U64  # per distinct zone
    zone: I64  # number of each name's zone
    below: I64  # bytes of the name in front of its zone, dots not counted
    information: I64  # Shannon entropy of those bytes times their count, in bits: how much they can carry


def read_names(values: pa.Array) -> NameTable:
    """Describe distinct names (lower case, no final dot)."""
    zones = pc.struct_field(pc.extract_regex(values, ZONE), "zone")
    zones = pc.fill_null(zones, "")
    encoded = zones.dictionary_encode()
    distinct = encoded.dictionary
    sub_length = pc.subtract(pc.binary_length(values), pc.binary_length(zones))
    raw, starts, lengths = bytes_of(values)
    inside = np.arange(len(raw)) - np.repeat(starts, lengths)
    owner = np.repeat(np.arange(len(values)), lengths)
    counted = (inside < np.repeat(sub_length.to_numpy(zero_copy_only=False), lengths)) & (raw != ord("."))
    below = np.bincount(owner[counted], minlength=len(values)).astype(np.int64)
    return NameTable(
        hashes=hash_strings(values),
        zones=np.array([z.encode()[-ZONE_BYTES:] for z in distinct.to_pylist()], f"S{ZONE_BYTES}"),
        zone_hashes=hash_strings(distinct),
        zone=encoded.indices.to_numpy().astype(np.int64),
        below=below,
        information=_information(owner[counted], raw[counted], below),
    )


def _information(owner: I64, raw: npt.NDArray[np.uint8], lengths: I64) -> I64:
    # sum over characters c of n_c * log2(n / n_c), which is entropy times length; rounded to whole bits so
    # that sums over names do not depend on order.
    cells, count = np.unique(owner * 256 + raw, return_counts=True)
    whole = lengths[cells // 256]
    bits = count * (np.log2(whole) - np.log2(count))
    return np.rint(np.bincount(cells // 256, weights=bits, minlength=len(lengths))).astype(np.int64)


def registered_labels(values: pa.Array) -> pa.DictionaryArray:
    """Return of each name the label that somebody registered, such as ``example``; empty where there is none."""
    labels = pc.struct_field(pc.extract_regex(values, _LABEL), "label")
    return pc.fill_null(labels, "").dictionary_encode()


def hash_one(text: str) -> int:
    """Return what ``hash_strings`` gives for one text."""
    return int(hash_strings(pa.array([text]))[0])
