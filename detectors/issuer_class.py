"""Issuers of certificates, by who stands behind them: names of intermediates change, their authority hardly."""

from __future__ import annotations

import re

# Common names of intermediates that public programmes issue from, as they appear in certificates. Generations
# are numbered, so digits are folded before the comparison.
_PUBLIC = {
    "letsencrypt": r"(r|e|x|y[re]?)#|let's encrypt.*|\(staging\).*",
    "google": r"gts ca.*|w[re]#|google internet authority.*|gtsr#",
    "digicert": r"(digicert|rapidssl|geotrust|thawte|encryption everywhere|symantec|verisign).*",
    "sectigo": r"(sectigo|comodo|usertrust|zerossl|gandi|ssl\.com|trustasia).*",
    "globalsign": r"(globalsign|alphassl).*",
    "amazon": r"amazon.*",
    "microsoft": r"microsoft.*",
    "entrust": r"(entrust|affirmtrust).*",
    "godaddy": r"(go daddy|godaddy|starfield).*",
    "other": r"(certum|buypass|quovadis|identrust|trustid|harica|actalis|apple public|cloudflare inc).*",
}
_FOLDED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PUBLIC.items()}
_DIGITS = re.compile(r"[0-9]+")
_RANDOM = re.compile(r"(?<![a-z])(?:[0-9]*[a-f]+[0-9]+[0-9a-f]{4,})(?![a-z])", re.IGNORECASE)


def issuer_class(name: str) -> str:
    """Return ``public:<family>``, or ``private:<name>`` with generations and random parts folded away."""
    folded = _DIGITS.sub("#", _RANDOM.sub("#", name.strip().lower()))
    for family, pattern in _FOLDED.items():
        if pattern.fullmatch(folded):
            return f"public:{family}"
    return f"private:{folded}"


def is_public(kind: str) -> bool:
    """Tell whether a class is that of a public authority."""
    return kind.startswith("public:")
