"""Filters of rows: which flow or DNS rows a rule counts. Read once, evaluated over columns.

The text is parsed by Python's own parser in expression mode and checked node by node; it is never compiled
nor run. What passes becomes a small tree of numpy and pyarrow operations. Texts and addresses are judged
once per different value of a batch, not per row.
"""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.condition import MAX_DEPTH, ConditionError, parse_expression
from detectors.row_values import NUMBER_WORDS, TEXT_FUNCTIONS, any_network, any_text, network, number, text_test
from schemas.events import ADDRESS, KINDS, WORD, Capability, Column, FlowMark

MAX_LENGTH = 4096  # characters; a list of fifty domain names fits
MAX_VALUES = 256  # values in one list

RowKind = Literal["flow", "dns"]
Mask = npt.NDArray[np.bool_]
_Node = Callable[[pa.RecordBatch], Mask]

# Once-only events of a flow read as true or false: true in the one row that reports them.
_MARKS: Mapping[str, FlowMark] = {str(mark.name).lower(): mark for mark in FlowMark}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[npt.NDArray[np.generic], float], Mask]] = {
    ast.Gt: np.greater, ast.GtE: np.greater_equal, ast.Lt: np.less, ast.LtE: np.less_equal,
    ast.Eq: np.equal, ast.NotEq: np.not_equal,
}  # fmt: skip
_MIRRORED = {ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.LtE: ast.GtE}


@dataclass(frozen=True)
class RowFilter:
    """A checked filter of rows of one kind; ``needs`` are the capabilities of its columns."""

    text: str
    kind: RowKind
    columns: tuple[str, ...]
    needs: Capability
    _root: _Node

    def mask(self, batch: pa.RecordBatch) -> Mask:
        """Tell per row of a batch of this kind (``schemas.events``) whether it passes; bool, shape (rows,)."""
        return self._root(batch)


@functools.lru_cache(maxsize=1024)
def parse_filter(text: str, kind: RowKind) -> RowFilter:
    """Read a filter.

    Raises:
        ConditionError: it is too long, too deep, names no column of the kind, or holds what the language
            does not have.
    """
    if len(text) > MAX_LENGTH:
        problem = f"the filter has {len(text)} characters, more than {MAX_LENGTH}"
        raise ConditionError(problem)
    reader = _Reader(kind)
    root = reader.truth(parse_expression(text, "filter"), 0)
    needs = Capability(0)
    for name in reader.columns:
        needs |= reader.known[name].needs
    return RowFilter(text, kind, tuple(reader.columns), needs, root)


def known_fields(kind: RowKind) -> list[str]:
    """Return every name that a filter of a kind may use, sorted."""
    return sorted([*(c.name for c in KINDS[kind]), *(_MARKS if kind == "flow" else ())])


class _Reader:
    """Turns parsed nodes into operations; what it does not know, it refuses."""

    def __init__(self, kind: RowKind) -> None:
        self._kind = kind
        self.known = {column.name: column for column in KINDS[kind]}
        self.columns: dict[str, None] = {}

    def truth(self, node: ast.expr, depth: int) -> _Node:
        """Read what is true or false of a row."""
        if depth > MAX_DEPTH:
            problem = f"the filter nests more than {MAX_DEPTH} operations"
            raise ConditionError(problem)
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.truth(value, depth + 1) for value in values]
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return lambda batch: functools.reduce(join, [part(batch) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.truth(operand, depth + 1)
                return lambda batch: np.logical_not(part(batch))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._comparison(left, op, right)
            case ast.Call(func=ast.Name(id=name), args=[ast.Name(id=field), *rest], keywords=[]) if rest:
                return self._function(name, field, rest)
            case ast.Name(id=name):
                return self._flag(name)
        raise _foreign(node)

    def _column(self, name: str) -> Column:
        column = self.known.get(name)
        if column is None:
            fields = known_fields(self._kind)
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            problem = f"{ascii(name)[1:-1][:64]} is no field of {self._kind} rows; {hint}known: {', '.join(fields)}"
            raise ConditionError(problem)
        self.columns[name] = None
        return column

    def _flag(self, name: str) -> _Node:
        if self._kind == "flow" and name in _MARKS:
            self._column("marks")
            bit = int(_MARKS[name])
            return lambda batch: (batch.column("marks").to_numpy() & bit) != 0
        column = self._column(name)
        if column.dtype != pa.bool_():
            problem = f"{name} is no yes or no: compare it, for example {name} == {_example(column)}"
            raise ConditionError(problem)
        return lambda batch: batch.column(name).to_numpy(zero_copy_only=False)

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> _Node:
        if not isinstance(left, ast.Name) and isinstance(right, ast.Name) and not isinstance(op, ast.In | ast.NotIn):
            left, right = right, left
            op = _MIRRORED.get(type(op), type(op))()
        if not isinstance(left, ast.Name):
            problem = f"{_shown(left)}: a comparison begins with a field"
            raise ConditionError(problem)
        column, values = self._column(left.id), _constants(right)
        negated = isinstance(op, ast.NotIn | ast.NotEq)
        if isinstance(op, ast.In | ast.NotIn | ast.Eq | ast.NotEq):
            test = self._membership(column, values)
            return (lambda batch: np.logical_not(test(batch))) if negated else test
        if type(op) not in _COMPARISONS or column.dtype in (ADDRESS, WORD, pa.bool_()) or len(values) != 1:
            problem = f"{left.id}: only == != in not in fit it, and > >= < <= fit one number"
            raise ConditionError(problem)
        compare, limit, name = _COMPARISONS[type(op)], number(column.name, values[0]), left.id
        return lambda batch: compare(batch.column(name).to_numpy(), limit)

    def _membership(self, column: Column, values: list[object]) -> _Node:
        name = column.name
        if column.dtype == ADDRESS:
            addresses = any_network([network(name, value) for value in values])
            return lambda batch: _per_value(batch.column(name), addresses)
        if column.dtype == WORD:
            texts = any_text(name, values)
            return lambda batch: _per_value(batch.column(name), texts)
        if column.dtype == pa.bool_():
            problem = f"{name} is yes or no: write {name} or not {name}"
            raise ConditionError(problem)
        numbers = np.array(sorted({number(name, value) for value in values}))
        return lambda batch: np.isin(batch.column(name).to_numpy(), numbers)

    def _function(self, function: str, name: str, arguments: list[ast.expr]) -> _Node:
        if function not in TEXT_FUNCTIONS:
            problem = f"{ascii(function)[1:-1][:40]} is no function here; known: {', '.join(TEXT_FUNCTIONS)}"
            raise ConditionError(problem)
        column = self._column(name)
        if column.dtype != WORD:
            problem = f"{function}({name}, ...): {name} is no text"
            raise ConditionError(problem)
        values = [value for argument in arguments for value in _constants(argument)]
        test = text_test(function, name, values)
        return lambda batch: _per_value(batch.column(name), test)


def _per_value(column: pa.DictionaryArray, test: Callable[[pa.Array], Mask]) -> Mask:
    """Judge each different value once and give every row the judgement of its value."""
    if not len(column.dictionary):
        return np.zeros(len(column), np.bool_)
    judged: Mask = test(column.dictionary)[column.indices.to_numpy()]
    return judged


def _constants(node: ast.expr) -> list[object]:
    parts = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    if not 1 <= len(parts) <= MAX_VALUES:
        problem = f"a list has 1 to {MAX_VALUES} values, not {len(parts)}"
        raise ConditionError(problem)
    values: list[object] = []
    for part in parts:
        match part:
            case ast.Constant(value=str() | int() | float() as value) if not isinstance(value, bool):
                values.append(value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                values.append(-value)
            case _:
                raise _foreign(part)
    return values


def _example(column: Column) -> str:
    if column.name in NUMBER_WORDS:
        return f'"{next(iter(NUMBER_WORDS[column.name]))}"'
    return '"10.0.0.0/8"' if column.dtype == ADDRESS else '"name"' if column.dtype == WORD else "1"


def _foreign(node: ast.expr) -> ConditionError:
    return ConditionError(
        f"{_shown(node)} is not part of the filter language: fields, numbers, texts in quotes, lists in brackets, "
        f"== != > >= < <= in, not in, {', '.join(TEXT_FUNCTIONS)}, and, or, not, parentheses"
    )


def _shown(node: ast.expr) -> str:
    return ascii(ast.unparse(node)[:60])
