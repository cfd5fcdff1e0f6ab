"""The condition language of rules: read once, evaluated over columns.

A condition is parsed by Python's own parser in expression mode and then checked node by node against the
few kinds listed here; it is never compiled nor run. What passes is turned into a small tree of numpy
operations.
"""

from __future__ import annotations

import ast
import difflib
import functools
import math
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_LENGTH = 512  # characters; the longest sensible condition names every word once
MAX_DEPTH = 32  # nested operations

Values = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]
_Node = Callable[[Values], Any]


class ConditionError(ValueError):
    """A condition that is not one; the text names the place and the remedy."""


def _divide(left: Any, right: Any) -> Any:
    top, bottom = np.broadcast_arrays(np.asarray(left, np.float64), np.asarray(right, np.float64))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: _divide,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
}  # fmt: skip
_MIRRORED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE}


@dataclass(frozen=True)
class Condition:
    """A checked condition.

    ``words`` are the feature words in the order they appear; ``limits`` gives, for each word that is
    compared directly with a number it must exceed or reach, that number (the lowest where there are
    several); ``highest`` is the largest number in it, 0 where there is none.
    """

    text: str
    words: tuple[str, ...]
    limits: Mapping[str, float]
    highest: float
    uses_threshold: bool
    _root: _Node

    def evaluate(self, values: Values) -> Mask:
        """Tell where the condition holds.

        Args:
            values: one array per word, equally long, int64, float64 or bool.

        Returns:
            bool, of the same length. A quotient by zero is 0.
        """
        numbers = {n: v if v.dtype == np.bool_ else v.astype(np.float64) for n, v in values.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            result: Mask = np.asarray(self._root(numbers), np.bool_)
        return result


def parse_condition(text: str, numbers: Collection[str], truths: Collection[str], threshold: float | None) -> Condition:
    """Read a condition.

    Args:
        text: comparisons of numbers, joined with and, or, not.
        numbers: words that stand for a number.
        truths: words that are true or false by themselves.
        threshold: what ``threshold`` stands for, if anything.

    Raises:
        ConditionError: it is too long, too deep, or holds anything that the language does not have.
    """
    if len(text) > MAX_LENGTH:
        problem = f"the condition has {len(text)} characters, more than {MAX_LENGTH}"
        raise ConditionError(problem)
    reader = _Reader(text, frozenset(numbers), frozenset(truths), threshold)
    root = reader.truth(parse_expression(text, "condition"), 0)
    return Condition(text, tuple(reader.words), reader.limits, reader.highest, reader.used_threshold, root)


def parse_expression(text: str, what: str) -> ast.expr:
    """Return a text as a tree; nothing of it is compiled or run.

    Args:
        text: an expression.
        what: what it is called in errors.

    Raises:
        ConditionError: it is no expression.
    """
    # Line ends inside a folded YAML text mean nothing here, but would end the expression for the parser.
    flat = " ".join(text.split())
    if not flat:
        problem = f"the {what} is empty"
        raise ConditionError(problem)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns of things that the checks below refuse
            return ast.parse(flat, mode="eval").body
    except SyntaxError as error:
        place = f"near character {error.offset}" if error.offset else "at its end"
        problem = f"cannot read the {what} {place}: {error.msg}"
        raise ConditionError(problem) from None
    except (ValueError, MemoryError, RecursionError):
        problem = f"cannot read the {what}: it is no text of plain words, numbers and operators"
        raise ConditionError(problem) from None


class _Reader:
    """Turns parsed nodes into operations; what it does not know, it refuses."""

    def __init__(self, text: str, numbers: frozenset[str], truths: frozenset[str], threshold: float | None) -> None:
        self._text = text
        self._numbers = numbers
        self._truths = truths
        self._threshold = threshold
        self.words: dict[str, None] = {}
        self.limits: dict[str, float] = {}
        self.highest = 0.0
        self.used_threshold = False

    def truth(self, node: ast.expr, depth: int) -> _Node:
        """Read what must be true or false."""
        self._check_depth(depth)
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.truth(v, depth + 1) for v in values]
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return lambda v: functools.reduce(join, [part(v) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.truth(operand, depth + 1)
                return lambda v: np.logical_not(part(v))
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Name(id=name) if name in self._truths:
                self.words[name] = None
                return lambda v: v[name]
            case ast.Name(id=name) if name in self._numbers or name == "threshold":
                problem = f"{name} is a number: compare it, for example {name} > 10"
                raise ConditionError(problem)
            case ast.Name(id=name):
                raise self._unknown(name)
            case ast.Constant() | ast.BinOp() | ast.UnaryOp(op=ast.USub()):
                problem = f"{self._shown(node)} is a number: the condition must compare something"
                raise ConditionError(problem)
        raise self._foreign(node)

    def _comparison(self, node: ast.Compare, depth: int) -> _Node:
        for op in node.ops:
            if type(op) not in _COMPARISONS:
                problem = f"{self._shown(node)}: only > >= < <= == compare here"
                raise ConditionError(problem)
        sides = [node.left, *node.comparators]
        parts = [self.number(side, depth + 1) for side in sides]
        steps = [_COMPARISONS[type(op)] for op in node.ops]
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            self._note_limit(left, type(op), right)

        def compare(values: Values) -> Any:
            numbers = [part(values) for part in parts]
            links = [step(a, b) for step, a, b in zip(steps, numbers, numbers[1:], strict=False)]
            return functools.reduce(np.logical_and, links)

        if not any(_names(side) & self._numbers for side in sides):
            problem = f"{self._shown(node)} compares nothing that is measured"
            raise ConditionError(problem)
        return compare

    def number(self, node: ast.expr, depth: int) -> _Node:
        """Read what must be a number."""
        self._check_depth(depth)
        match node:
            case ast.Constant(value=bool()) | ast.Constant(value=str() | bytes() | complex() | None):
                raise self._foreign(node)
            case ast.Constant(value=int() | float() as value):
                constant = self._finite(value)
                return lambda _: constant
            case ast.Name(id="threshold"):
                limit = self._take_threshold()
                return lambda _: limit
            case ast.Name(id=name) if name in self._numbers:
                self.words[name] = None
                return lambda v: v[name]
            case ast.Name(id=name) if name in self._truths:
                problem = f"{name} is true or false and takes no comparison"
                raise ConditionError(problem)
            case ast.Name(id=name):
                raise self._unknown(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                part = self.number(operand, depth + 1)
                return lambda v: -part(v)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                first, second = self.number(left, depth + 1), self.number(right, depth + 1)
                apply = _ARITHMETIC[type(op)]
                return lambda v: apply(first(v), second(v))
        raise self._foreign(node)

    def _take_threshold(self) -> float:
        if self._threshold is None:
            problem = "the condition uses threshold, but the rule gives none: add threshold: NUMBER"
            raise ConditionError(problem)
        self.used_threshold = True
        self.highest = max(self.highest, self._threshold)
        return self._threshold

    def _finite(self, value: float) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            problem = "a number in the condition is too large"
            raise ConditionError(problem)
        self.highest = max(self.highest, number)
        return number

    def _note_limit(self, left: ast.expr, op: type[ast.cmpop], right: ast.expr) -> None:
        if op in _MIRRORED:
            left, op, right = right, _MIRRORED[op], left
        if op not in (ast.Gt, ast.GtE) or not isinstance(left, ast.Name) or left.id not in self._numbers:
            return
        if isinstance(right, ast.Constant):
            limit = float(right.value)  # type: ignore[arg-type]  # number() has refused all else by now
        elif isinstance(right, ast.Name) and right.id == "threshold" and self._threshold is not None:
            limit = self._threshold
        else:
            return
        self.limits[left.id] = min(limit, self.limits.get(left.id, limit))

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            problem = f"the condition nests more than {MAX_DEPTH} operations"
            raise ConditionError(problem)

    def _unknown(self, name: str) -> ConditionError:
        known = sorted(self._numbers | self._truths)
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        return ConditionError(f"unknown word {ascii(name)[1:-1][:64]}{hint} Known words: {', '.join(known)}")

    def _foreign(self, node: ast.expr) -> ConditionError:
        return ConditionError(
            f"{self._shown(node)} is not part of the language: words, numbers, threshold, + - * /, "
            "> >= < <= ==, and, or, not, parentheses"
        )

    def _shown(self, node: ast.expr) -> str:
        flat = " ".join(self._text.split())
        return ascii((ast.get_source_segment(flat, node) or type(node).__name__)[:60])


def _names(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
