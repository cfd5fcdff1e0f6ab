"""How much a name looks like words: which letter follows which, in five languages.

The table is counted over the word lists of Debian 12 (packages wamerican, wfrench, wspanish, wngerman and witalian):
each word in lower case, accents taken off, from three letters up, cut at an apostrophe; the share of each pair of
neighbouring letters is averaged over the lists. An entry is ten times the binary logarithm of how much likelier a
letter is after another than in random letters, with 0.0005 added to each share.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.index import I64
from detectors.names import bytes_of

# From so many letters on a name says enough; shorter ones are abbreviations.
_SHORTEST = 7
# Tenths of bits below which a name is likelier random letters than words.
_WORDS = -20
# What each change between letters and digits costs after the first; words end in a number at most once.
_CHANGE = 30

# Row: the letter before, column: the letter after, both from a to z.
_TABLE = """
    -49 -1 5 5 -38 -14 -3 -21 7 -30 -30 12 6 18 -48 -6 -35 17 13 14 -2 -2 -40 -43 -26 -19
    21 7 -45 -32 25 -40 -25 -37 15 -37 -41 13 -41 -39 14 -50 -61 15 -6 -22 6 -43 -39 -62 -32 -33
    21 -60 -1 -58 12 -62 -61 26 14 -63 -1 -7 -59 -52 22 -60 -36 1 -36 -3 1 -62 -63 -63 -32 -59
    19 -36 -47 -18 33 -43 -27 -39 22 -42 -53 -18 -34 -33 19 -48 -58 0 -12 -39 2 -39 -38 -63 -31 -52
    -9 -11 -2 -2 -14 -18 -8 -24 -3 -34 -35 4 3 22 -24 -14 -38 27 18 3 -19 -17 -31 -21 -38 -7
    18 -35 -55 -50 20 13 -24 -42 23 -59 -42 9 -44 -39 15 -44 -61 13 -13 1 8 -57 -41 -63 -33 -32
    16 -36 -61 -49 29 -45 0 -5 13 -57 -37 5 -29 2 8 -51 -61 14 2 -15 11 -57 -44 -63 -31 -46
    21 -27 -52 -42 28 -37 -30 -42 19 -57 -33 0 -12 -6 14 -45 -59 3 -5 5 2 -50 -15 -63 -15 -37
    9 -15 10 -4 14 -8 1 -48 -44 -41 -33 6 1 21 10 -14 -26 -1 16 10 -29 -6 -57 -46 -60 -12
    31 -63 -63 -63 23 -58 -63 -63 7 -63 -57 -63 -61 -63 25 -60 -63 -58 -54 -63 23 -63 -60 -63 -63 -60
    15 -18 -44 -37 27 -26 -25 -18 13 -52 -25 8 -28 -3 14 -31 -55 5 7 13 5 -38 -25 -63 -16 -30
    22 -22 -21 -14 23 -26 -22 -41 22 -54 -31 19 -18 -25 13 -25 -48 -47 -10 0 0 -26 -48 -61 -9 -30
    22 5 -44 -44 25 -42 -41 -47 18 -63 -48 -35 8 -30 22 12 -60 -47 -15 -27 0 -54 -47 -63 -35 -49
    13 -30 4 15 15 -12 12 -31 8 -36 -19 -30 -36 0 8 -41 -33 -31 12 23 -14 -20 -38 -59 -41 -16
    -23 -9 0 -7 -29 -17 -3 -27 -12 -34 -30 12 5 28 -15 -2 -30 21 9 3 5 -12 -21 -34 -27 -27
    21 -49 -44 -54 22 -16 -58 -3 16 -61 -55 7 -50 -46 16 5 -63 20 -14 -6 4 -62 -55 -63 -35 -60
    -49 -58 -63 -63 -63 -63 -63 -63 -44 -63 -63 -50 -62 -62 -58 -63 -59 -63 -60 -63 47 -63 -60 -63 -63 -63
    24 -13 -11 -8 26 -24 -12 -32 19 -49 -23 -18 -10 -8 15 -24 -40 -3 -1 2 -4 -25 -36 -60 -28 -29
    12 -21 13 -38 19 -21 -22 -11 14 -56 -27 -19 -11 -30 4 2 -28 -38 18 23 -1 -26 -31 -63 -30 -40
    20 -36 -34 -53 30 -40 -38 -10 22 -60 -48 -22 -38 -41 12 -46 -62 14 -6 2 0 -48 -35 -63 -22 -21
    4 -1 4 -4 11 -3 -4 -23 6 -33 -32 11 4 16 -21 -5 -43 17 14 9 -55 -25 -46 -31 -44 -23
    28 -61 -61 -59 31 -59 -60 -60 24 -63 -61 -51 -62 -60 19 -59 -63 -18 -40 -56 -18 -17 -62 -63 -46 -62
    26 -26 -45 -24 28 -39 -46 -2 24 -52 -33 -14 -38 -4 14 -36 -63 -9 -8 -34 0 -63 -48 -63 -35 -54
    13 -46 13 -55 17 -31 -44 -3 23 -63 -34 -43 -37 -48 2 21 -39 -54 -35 21 -3 -32 -38 -26 -6 -40
    20 -11 3 -2 16 -26 -13 -27 3 -48 -28 5 6 7 9 8 -55 0 15 -4 -2 -45 -16 -31 -51 -33
    26 -28 -30 -51 22 -40 -27 -38 20 -61 -42 -23 -30 -27 12 -38 -43 -48 -36 -8 19 -43 -11 -63 -32 16
"""
PAIRS: I64 = np.array(_TABLE.split(), np.int64).reshape(26, 26)


def looks_generated(labels: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Tell which labels are likelier made of random letters and digits than of words.

    Args:
        labels: lower case, without dots. Punycode says nothing and is never taken as generated.
    """
    raw, _, lengths = bytes_of(labels)
    count = len(labels)
    owner = np.repeat(np.arange(count), lengths)
    letter = raw.astype(np.int64) - ord("a")
    known = (letter >= 0) & (letter < len(PAIRS))
    digit = (raw >= ord("0")) & (raw <= ord("9"))
    together = owner[1:] == owner[:-1]
    pair = together & known[1:] & known[:-1]
    likely = PAIRS[letter[:-1][pair], letter[1:][pair]]
    score = _total(owner[1:][pair], likely, count)
    changes = _total(owner[1:], (together & (digit[1:] != digit[:-1])).astype(np.int64), count)
    score -= _CHANGE * np.maximum(0, changes - 1)
    plain = ~pc.starts_with(labels, "xn--").to_numpy(zero_copy_only=False)
    generated: npt.NDArray[np.bool_] = (score < _WORDS) & (lengths >= _SHORTEST) & plain
    return generated


def _total(owner: I64, values: I64, count: int) -> I64:
    # Sums of small integers are exact in doubles.
    return np.bincount(owner, weights=values, minlength=count).astype(np.int64)
