"""Domain names as malware families compute them, each family after the published description of its arithmetic.

What counts is which letters follow which, how long labels are and where they end, so constants that only choose
today's list (campaign numbers, dates) are drawn from the seed. Families that put words of a list together are none of
these.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from itertools import islice

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ALNUM = _LETTERS + "0123456789"
_VOWELS, _CONSONANTS = "aeiouy", "bcdfghjklmnpqrstvwxz"
_M32 = 0xFFFFFFFF

Generator = Callable[[int], Iterator[str]]


def _park_miller(state: int) -> int:
    """Return the next number of the minimal standard generator (16807 modulo 2^31 - 1)."""
    return 16807 * state % 0x7FFFFFFF


def _lcg(state: int) -> int:
    """Return the next number of Microsoft's rand, before its shift."""
    return (214013 * state + 2531011) & _M32


def _rotated(value: int, left: int) -> int:
    return (value << left | value >> (32 - left)) & _M32


def ramnit(seed: int) -> Iterator[str]:
    """Minimal standard generator: 8 to 19 letters."""
    state = seed * 7919 + 1
    while True:
        state = _park_miller(state)
        length = state % 12 + 8
        label = ""
        for _ in range(length):
            state = _park_miller(state)
            label += _LETTERS[state % 25]
        yield label + ".com"


def dircrypt(seed: int) -> Iterator[str]:
    """Minimal standard generator: 8 to 20 letters."""
    state = seed * 104729 + 3
    while True:
        state = _park_miller(state)
        length = state % 13 + 8
        label = ""
        for _ in range(length):
            state = _park_miller(state)
            label += _LETTERS[state % 26]
        yield label + ".com"


def fobber(seed: int) -> Iterator[str]:
    """Linear congruential: 17 letters below net, or 10 below com."""
    state, length, top = seed * 31 + 0x20000, *((17, "net") if seed % 2 else (10, "com"))
    while True:
        label = ""
        for _ in range(length):
            state = (1664525 * state + 1013904223) & _M32
            label += _LETTERS[(state >> 8) % 26]
        yield f"{label}.{top}"


def corebot(seed: int) -> Iterator[str]:
    """Linear congruential: 12 to 23 letters and digits below a provider of changing addresses."""
    state = seed * 65537 + 1
    while True:
        state = (1664525 * state + 1013904223) & _M32
        length = 12 + (state >> 4) % 12
        label = ""
        for _ in range(length):
            state = (1664525 * state + 1013904223) & _M32
            label += "abcdefghijklmnopqrstuvwxyz012345678"[(state >> 4) % 35]
        yield label + ".ddns.net"


def cryptolocker(seed: int) -> Iterator[str]:
    """Shifts of a key and the date: 12 to 15 letters up to y."""
    for number in range(1, 1 << 30):
        day, month, year, key = seed % 28 + 1, seed % 12 + 1, 2013 + seed % 9, seed * 1000 + number
        key = (key * 0x10001 + number) & _M32
        label = ""
        for _ in range(12 + key % 4):
            day = (day >> 15 ^ 16 * (day & 0x1FFF ^ 4 * (key ^ day))) & _M32
            year = ((year & 0xFFFFFFF0) << 17 ^ (year ^ 7 * year & _M32) >> 11) & _M32
            month = (14 * (month & 0xFFFFFFFE) ^ (month ^ 4 * month & _M32) >> 8) & _M32
            key = (key >> 6 ^ ((day + 8 * key) << 8) & 0x3FFFF00) & _M32
            label += _LETTERS[(day ^ month ^ year ^ _rotated(key, 7)) % 25]
        yield label + (".com", ".net", ".biz", ".ru", ".org", ".co.uk", ".info")[number % 7]


def necurs(seed: int) -> Iterator[str]:
    """Sums of squares: 7 to 21 letters up to y."""
    tops = ("com", "net", "ru", "biz", "tw", "cc", "me", "eu", "in", "pro", "bit", "ac", "cx", "mn", "de", "nf")
    value = seed * 0x9E3779B1 & _M32
    for number in range(1 << 30):
        value = (value * 6364136223846793005 + number * 1442695040888963407 + 1) & 0xFFFFFFFFFFFFFFFF
        label, state = "", value >> 24
        for _ in range(7 + state % 15):
            state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
            label += _LETTERS[(state >> 40) % 25]
        yield f"{label}.{tops[(value >> 12) % len(tops)]}"


def locky(seed: int) -> Iterator[str]:
    """Rotations and a product: 5 to 18 letters up to y."""
    for number in range(1 << 30):
        state = (_rotated(0xB11924E1 * (seed + 0x1BF5) & _M32, 25) + 0x27100001 * (number + 1)) & _M32
        label = ""
        for place in range(5 + _rotated(state, 11) % 14):
            state = (_rotated(0xB11924E1 * state & _M32, 25) ^ place + 0x27100001) & _M32
            label += _LETTERS[(state >> 3) % 25]
        yield label + (".ru", ".info", ".biz", ".click", ".su", ".work", ".pl", ".org", ".pw", ".xyz")[number % 10]


def ranbyus(seed: int) -> Iterator[str]:
    """Shifts of day, month, year: 14 letters up to y."""
    day, month, year, key = seed % 28 + 1, seed % 12 + 1, 2015 + seed % 6, (seed * 0x0F0D5BFA + 0xF0D5BF) & _M32
    while True:
        label = ""
        for _ in range(14):
            day = (day >> 15 ^ 16 * (day & 0x1FFF ^ 4 * (key ^ day))) & _M32
            year = (16 * (year & 0xFFFFFFF0) & _M32 ^ (year ^ 7 * year & _M32) >> 11) & _M32
            month = (14 * (month & 0xFFFFFFFE) & _M32 ^ (month ^ 4 * month & _M32) >> 8) & _M32
            key = (key >> 6 ^ ((day + 8 * key) << 8) & 0x3FFFF00) & _M32
            label += _LETTERS[((day ^ month ^ year) + 97 + key) % 25]
        yield label + (".in", ".me", ".cc", ".su", ".tw", ".net", ".com", ".pw", ".org")[key % 9]


def tinba(seed: int) -> Iterator[str]:
    """A domain makes the next one: 12 letters up to y."""
    state = hashlib.md5(f"tinba{seed}".encode(), usedforsecurity=False).digest()
    while True:
        state = hashlib.md5(state, usedforsecurity=False).digest()
        yield "".join(_LETTERS[byte % 25] for byte in state[:12]) + ".com"


def murofet(seed: int) -> Iterator[str]:
    """Digest of date and number, two letters a byte: 20 to 32 letters."""
    for number in range(1 << 30):
        digest = hashlib.md5(f"{seed}:{number // 2}:{number % 2}".encode(), usedforsecurity=False).digest()
        label = "".join(_LETTERS[n] for byte in digest for n in ((byte & 0x1F), (byte >> 3)) if n < 26)
        yield label[:32] + (".biz", ".info", ".org", ".net", ".com", ".ru")[number % 6]


def new_goz(seed: int) -> Iterator[str]:
    """Digest in base 36: 20 to 28 letters and digits."""
    for number in range(1 << 30):
        digest = hashlib.md5(f"{seed}-{number}".encode(), usedforsecurity=False).digest()
        label = "".join(_base36(int.from_bytes(digest[at : at + 4], "little")) for at in range(0, 16, 4))
        yield label + (".com", ".net", ".org", ".biz")[number % 4]


def _base36(value: int) -> str:
    text = ""
    while value:
        value, digit = divmod(value, 36)
        text += _ALNUM[(digit + 26) % 36]
    return text


def bamital(seed: int) -> Iterator[str]:
    """A digest as it is: 32 hexadecimal digits."""
    for number in range(1 << 30):
        yield hashlib.md5(f"{number}{seed}".encode(), usedforsecurity=False).hexdigest() + (".co.cc", ".info")[seed % 2]


def padcrypt(seed: int) -> Iterator[str]:
    """Digits of a digest as letters: 16 of a to f and some."""
    for number in range(1 << 30):
        digest = hashlib.sha256(f"{seed % 28 + 1}-{seed % 12 + 1}-{2016 + seed % 5}|{number}".encode()).hexdigest()
        label = "".join("abcdnfolmk"[int(c)] if c.isdigit() else c for c in digest[3:19])
        yield label + (".com", ".co.uk", ".de", ".org", ".net", ".eu", ".online")[number % 7]


def chinad(seed: int) -> Iterator[str]:
    """Digest taken letter by letter: 16 letters and digits."""
    for number in range(1 << 30):
        digest = hashlib.sha1(f"{seed}/{number}".encode(), usedforsecurity=False).digest()
        label = "".join(_ALNUM[byte % 36] for byte in digest[:16])
        yield label + (".com", ".org", ".net", ".biz", ".info", ".ru")[number % 6]


def emotet(seed: int) -> Iterator[str]:
    """A multiplied seed: 16 letters up to y below eu."""
    state = seed * 2654435761 & _M32
    while True:
        label = ""
        for _ in range(16):
            state = (state * 1103515245 + 12345) & _M32
            label += _LETTERS[(state >> 16) % 25]
        yield label + ".eu"


def ramdo(seed: int) -> Iterator[str]:
    """Exclusive or: 16 letters of every second one."""
    for number in range(1 << 30):
        state = (seed * 0xD5FFF + number * 0x1A2B3C4D) & _M32
        label = ""
        for place in range(16):
            state = (_rotated(state ^ (place + 1) * 0x9E3779B1 & _M32, 9) * 5 + 1) & _M32
            label += _LETTERS[2 * ((state >> 7) % 13)]
        yield label + ".org"


def rovnix(seed: int) -> Iterator[str]:
    """Two generators added up: 18 letters and digits."""
    state = seed * 40503 + 7
    while True:
        label = ""
        for _ in range(18):
            state = _lcg(state)
            label += _ALNUM[(state >> 16) % 36]
        yield label + (".com", ".net", ".biz", ".ru", ".in")[state % 5]


def qadars(seed: int) -> Iterator[str]:
    """Linear congruential: 12 letters and digits by turns."""
    state = seed * 89 + 1193
    while True:
        label = ""
        for place in range(12):
            state = (state * 1103515245 + 12345 + place) & 0x7FFFFFFF
            label += _ALNUM[(state >> 8) % 36]
        yield label + (".com", ".org", ".net", ".top")[(state >> 3) % 4]


def qakbot(seed: int) -> Iterator[str]:
    """Mersenne twister: 8 to 25 letters."""
    chance = random.Random(seed)
    while True:
        label = "".join(chance.choices(_LETTERS, k=chance.randint(8, 25)))
        yield label + chance.choice((".com", ".net", ".org", ".info", ".biz"))


def conficker(seed: int) -> Iterator[str]:
    """A multiplied date: 5 to 11 letters."""
    state = seed * 0xA5A5 + 17
    while True:
        state = _lcg(state)
        length = 5 + (state >> 16) % 7
        label = ""
        for _ in range(length):
            state = _lcg(state)
            label += _LETTERS[(state >> 16) % 26]
        yield label + (".com", ".net", ".org", ".info", ".biz", ".cc", ".ws", ".cn")[(state >> 20) % 8]


def nymaim(seed: int) -> Iterator[str]:
    """Exclusive or with shifts (xorshift): 5 to 12 letters."""
    digest = hashlib.md5(str(seed).encode(), usedforsecurity=False).digest()
    x, y, z, w = (int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4))

    def following() -> int:
        nonlocal x, y, z, w
        mixed = (x ^ x << 11) & _M32
        x, y, z, w = y, z, w, (w ^ w >> 19 ^ mixed ^ mixed >> 8) & _M32
        return w

    while True:
        yield "".join(_LETTERS[following() % 26] for _ in range(5 + following() % 8)) + ".com"


def kraken(seed: int) -> Iterator[str]:
    """Linear congruential: 6 to 12 letters below providers of changing addresses."""
    state = seed * 1103 + 5
    while True:
        state = (state * 1103515245 + 12435) & _M32
        length = 6 + (state >> 16) % 7
        label = ""
        for _ in range(length):
            state = (state * 1103515245 + 12435) & _M32
            label += _LETTERS[(state >> 16) % 26]
        yield label + (".dyndns.org", ".yi.org", ".dynserv.com", ".mooo.com", ".com", ".net")[(state >> 10) % 6]


def pykspa(seed: int) -> Iterator[str]:
    """Letters with a vowel after every second consonant or so: 6 to 15."""
    state = seed * 0x1FF + 0x5678
    while True:
        state = (state * 214013 + 2531011) & _M32
        label, vowel = "", False
        for _ in range(6 + (state >> 16) % 10):
            state = _lcg(state)
            vowel = not vowel if (state >> 24) % 3 else vowel
            label += (_VOWELS[:5] if vowel else _CONSONANTS)[(state >> 16) % (5 if vowel else 20)]
        yield label + (".com", ".net", ".org", ".info", ".cc")[(state >> 12) % 5]


def symmi(seed: int) -> Iterator[str]:
    """Vowels and consonants by turns, with slips: 8 to 15 letters below ddns.net."""
    state = seed * 17 + 4
    while True:
        state = _lcg(state)
        length, label = 8 + (state >> 16) % 8, ""
        while len(label) < length:
            state = _lcg(state)
            label += ("aeiou" if (len(label) + (state >> 28) // 12) % 2 else _CONSONANTS)[(state >> 16) % 5]
        yield label + ".ddns.net"


def simda(seed: int) -> Iterator[str]:
    """Consonant, vowel, by turns: 7 letters, with the last a consonant."""
    chance = random.Random(seed)
    while True:
        length = chance.choice((5, 7, 7, 9, 11))
        label = "".join(chance.choice(_VOWELS if n % 2 else _CONSONANTS) for n in range(length))
        yield label + chance.choice((".com", ".info", ".eu", ".su"))


def pushdo(seed: int) -> Iterator[str]:
    """Syllables of consonant and vowel: 8 letters and more."""
    chance = random.Random(seed)
    while True:
        label = "".join(chance.choice(_CONSONANTS) + chance.choice("aeiou") for _ in range(chance.choice((3, 4, 4, 5))))
        yield label + chance.choice(("", *_CONSONANTS)) + chance.choice((".kz", ".ru", ".com"))


def vawtrak(seed: int) -> Iterator[str]:
    """Syllables that can be spoken: 7 to 12 letters."""
    state = seed * 3 + 0x41C64E6D
    syllables = [a + b for a in _CONSONANTS[:18] for b in "aeiou"]
    while True:
        state = (state * 1103515245 + 12345) & _M32
        length, label = 7 + (state >> 16) % 6, ""
        while len(label) < length:
            state = (state * 1103515245 + 12345) & _M32
            label += syllables[(state >> 16) % len(syllables)]
            if (state >> 28) > 8:
                label += "rnlstmd"[(state >> 25) % 7]
        yield label[:length] + (".com", ".ru", ".net", ".top")[(state >> 12) % 4]


_ALL: tuple[Generator, ...] = (
    bamital, chinad, conficker, corebot, cryptolocker, dircrypt, emotet, fobber, kraken, locky, murofet, necurs,
    new_goz, nymaim, padcrypt, pushdo, pykspa, qadars, qakbot, ramdo, ramnit, ranbyus, rovnix, simda, symmi, tinba,
    vawtrak,
)  # fmt: skip
FAMILIES: dict[str, Generator] = {family.__name__: family for family in _ALL}


def names(family: str, seed: int, count: int) -> list[str]:
    """Return the first names of a family's list of one day, which is what the seed stands for."""
    return list(islice(FAMILIES[family](seed), count))
