"""Calico's selector expressions: `app == 'web' && has(tier) || !(env in {'dev', 'test'})`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

Labels = Mapping[str, str]
Matches = Callable[[Labels], bool]

MAX_LENGTH = 4096
MAX_DEPTH = 50
_TOKEN = re.compile(
    r"\s*(?:(?P<op>&&|\|\||==|!=|!|\(|\)|\{|\}|,)|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<word>[-A-Za-z0-9_./]+))"
)
_REMEMBERED = 4096


class SelectorError(ValueError):
    """A text that is no selector expression; the message is one line."""


class Selector:
    """An expression that can be asked; `keys` are the labels that it looks at."""

    def __init__(self, text: str) -> None:
        """Raises SelectorError."""
        if len(text) > MAX_LENGTH:
            message = f"a selector of more than {MAX_LENGTH} characters"
            raise SelectorError(message)
        self.keys: set[str] = set()
        self.names_global = False
        self._tokens = list(_tokens(text))
        self._at = self._depth = 0
        self.matches: Matches = self._either() if self._tokens else lambda labels: True
        if self._at != len(self._tokens):
            message = f"selector goes on after its end at {self._tokens[self._at][1]!r}"
            raise SelectorError(message)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, *wanted: str) -> tuple[str, str]:
        kind, text = self._peek()
        if wanted and kind not in wanted and not (kind in ("op", "word") and text in wanted):
            message = f"selector has {text!r} where {' or '.join(wanted)} was expected"
            raise SelectorError(message)
        self._at += 1
        return kind, text

    def _either(self) -> Matches:
        return self._joined("||", self._both, any)

    def _both(self) -> Matches:
        return self._joined("&&", self._single, all)

    def _joined(self, operator: str, part: Callable[[], Matches], how: Callable[[Iterator[bool]], bool]) -> Matches:
        parts = [part()]
        while self._peek() == ("op", operator):
            self._take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else lambda labels: how(item(labels) for item in parts)

    def _single(self) -> Matches:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            message = f"a selector nested deeper than {MAX_DEPTH}"
            raise SelectorError(message)
        try:
            if self._peek() == ("op", "!"):
                self._take()
                inner = self._single()
                return lambda labels: not inner(labels)
            if self._peek() == ("op", "("):
                self._take()
                whole = self._either()
                self._take(")")
                return whole
            return self._term()
        finally:
            self._depth -= 1

    def _term(self) -> Matches:
        _, key = self._take("word")
        if self._peek() == ("op", "("):
            return self._call(key)
        self.keys.add(key)
        _, operator = self._take("==", "!=", "in", "not", "contains", "starts", "ends")
        if operator in ("==", "!="):
            value = self._text()
            return lambda labels: (labels.get(key) == value) == (operator == "==")
        if operator in ("in", "not"):
            if operator == "not":
                self._take("in")
            values = self._set()
            return lambda labels: (labels.get(key) in values) == (operator == "in")
        if operator in ("starts", "ends"):
            self._take("with")
        part = self._text()
        tests: dict[str, Callable[[str], bool]] = {
            "contains": lambda value: part in value,
            "starts": lambda value: value.startswith(part),
            "ends": lambda value: value.endswith(part),
        }
        test = tests[operator]
        return lambda labels: key in labels and test(labels[key])

    def _call(self, name: str) -> Matches:
        self._take("(")
        if name == "has":
            _, key = self._take("word")
            self._take(")")
            self.keys.add(key)
            return lambda labels: key in labels
        self._take(")")
        if name == "all":
            return lambda labels: True
        if name == "global":
            self.names_global = True
            return lambda labels: False
        message = f"selector calls the unknown function {name!r}"
        raise SelectorError(message)

    def _text(self) -> str:
        return self._take("text")[1]

    def _set(self) -> frozenset[str]:
        self._take("{")
        values: list[str] = []
        while self._peek() != ("op", "}"):
            if values:
                self._take(",")
            values.append(self._text())
        self._take("}")
        return frozenset(values)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            message = f"selector cannot be read at {text[at : at + 20]!r}"
            raise SelectorError(message)
        at = found.end()
        if found["op"] is not None:
            yield "op", found["op"]
        elif found["word"] is not None:
            yield "word", found["word"]
        else:
            yield "text", found["single"] if found["single"] is not None else found["double"]


@lru_cache(maxsize=_REMEMBERED)
def selector(text: str) -> Selector:
    """The expression in a text; the empty one matches everything. Raises SelectorError."""
    return Selector(text)
