"""Columns of domain names: hashes, registered zones, lengths and entropy, without a loop per name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.hashing import mix
from detectors.index import I64
from detectors.kernels.strings import count_letters, hash_bytes
from detectors.mixing import U64

# The registered zone is the last two labels, or three where the last but one is a generic second level
# under a country code. A list of public suffixes would be exact; it is data that ages, and a zone cut one
# label too short only merges neighbours. What does not end in something that can be a top-level domain
# (letters, or an IDNA label) belongs to no zone: tunnels that are asked directly need none.
ZONE = r"(?P<zone>[^.]+\.(?:(?:co|com|net|org|gov|edu|ac|or|ne|go)\.[a-z]{2}|[a-z]{2,18}|xn--[a-z0-9-]+))$"

# Under these everybody may have a name, so what stands in front of them is registered too: the larger providers of
# names for changing addresses.
DYNAMIC_ZONES = (
    "ddns.net", "mooo.com", "duckdns.org", "dyndns.org", "dyndns.com", "no-ip.org", "no-ip.com", "no-ip.biz",
    "hopto.org", "zapto.org", "sytes.net", "servebeer.com", "serveftp.com", "myftp.org", "redirectme.net", "dynu.net",
    "chickenkiller.com", "yi.org", "dynserv.com", "3utilities.com", "bounceme.net",
)  # fmt: skip
_LABEL = ZONE.replace(
    r"(?P<zone>[^.]+\.(?:", r"(?P<label>[^.]+)\.(?:(?:" + "|".join(map(re.escape, DYNAMIC_ZONES)) + ")|"
).replace("))$", ")$")

# Names that people choose have about nine letters; words put together to be free for sure have more.
_LONG = 15
ZONE_BYTES = 96
_POWERS = np.cumprod(np.full(1024, 0x100000001B3, np.uint64))  # FNV prime, as the base of a polynomial


def hash_strings(values: pa.Array) -> U64:
    """Return one u64 per string: a polynomial in its bytes, mixed with its length. Shape (n,)."""
    raw, starts, lengths = bytes_of(values)
    return mix(hash_bytes(raw, starts, lengths, _POWERS) ^ mix(lengths.astype(np.uint64)))


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
    zones: pa.StringArray  # distinct zones
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
    # Bits are rounded to whole ones, so that sums over names do not depend on order.
    logs = np.log2(np.maximum(np.arange(int(lengths.max(initial=0)) + 1), 1))
    below, bits = count_letters(raw, starts, sub_length.to_numpy(zero_copy_only=False).astype(np.int64), logs)
    return NameTable(
        hashes=hash_strings(values),
        zones=distinct,
        zone=encoded.indices.to_numpy().astype(np.int64),
        below=below,
        information=np.rint(bits).astype(np.int64),
    )


def registered_labels(values: pa.Array) -> pa.DictionaryArray:
    """Return of each name the label that somebody registered, such as ``example``; empty where there is none."""
    labels = pc.struct_field(pc.extract_regex(values, _LABEL), "label")
    return pc.fill_null(labels, "").dictionary_encode()


def long_labels(values: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Tell which labels run on for 15 characters or more; hyphens are for readers, and punycode says nothing."""
    run_on: npt.NDArray[np.bool_] = np.asarray(
        pc.and_(pc.greater_equal(pc.binary_length(values), _LONG), pc.invert(pc.match_substring(values, "-")))
    )
    return run_on


@lru_cache(maxsize=1 << 16)
def hash_one(text: str) -> int:
    """Return what ``hash_strings`` gives for one text."""
    return int(hash_strings(pa.array([text]))[0])
