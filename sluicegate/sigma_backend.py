"""The pySigma backend: detections of Sigma rules as filters of rows (``detectors.row_filter``)."""

from __future__ import annotations

import ipaddress
from typing import Any, ClassVar

from sigma.conditions import ConditionFieldEqualsValueExpression, ConditionNOT
from sigma.conversion.base import TextQueryBackend
from sigma.conversion.state import ConversionState
from sigma.exceptions import SigmaFeatureNotSupportedByBackendError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import FieldMappingTransformation
from sigma.types import (
    CompareOperators,
    SigmaCIDRExpression,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SpecialChars,
)

from schemas.events import ADDRESS, KINDS, WORD
from sluicegate.sigma_fields import APPLICATIONS, CONNECTION_STATES, VERDICTS, SigmaSource

_FLAGS = {SigmaRegularExpressionFlag.MULTILINE: "m", SigmaRegularExpressionFlag.DOTALL: "s"}
Equals = ConditionFieldEqualsValueExpression


class Unsupported(SigmaFeatureNotSupportedByBackendError):
    """Something that a filter of rows cannot say; the text says what."""


def pipeline(source: SigmaSource) -> ProcessingPipeline:
    """Return the pipeline that renames a log source's fields to our columns."""
    names: dict[str | None, str | list[str]] = dict(source.fields.items())
    return ProcessingPipeline(name="sluicegate", items=[ProcessingItem(FieldMappingTransformation(names))])


class RowFilterBackend(TextQueryBackend):
    """Gives the text of a filter for rows of one kind."""

    name: ClassVar[str] = "Sluicegate row filters"
    formats: ClassVar[dict[str, str]] = {"default": "text of a filter"}
    group_expression: ClassVar[str | None] = "({expr})"
    or_token: ClassVar[str] = "or"  # noqa: S105  # a word of the query language
    and_token: ClassVar[str] = "and"  # noqa: S105  # likewise
    not_token: ClassVar[str] = "not"  # noqa: S105  # likewise
    compare_op_expression: ClassVar[str | None] = "{field} {operator} {value}"
    compare_operators: ClassVar[dict[CompareOperators, str] | None] = {
        CompareOperators.LT: "<", CompareOperators.LTE: "<=", CompareOperators.GT: ">", CompareOperators.GTE: ">=",
    }  # fmt: skip

    def __init__(self, source: SigmaSource) -> None:
        super().__init__(pipeline(source))
        self._columns = {column.name: column for column in KINDS[source.kind]}
        self._source = source

    def _known(self, field: str) -> str:
        if field not in self._columns and field != "conn_state":
            fields = ", ".join(self._source.fields)
            problem = f"field {field} has no counterpart in {self._source.kind} rows; those that have: {fields}"
            raise Unsupported(problem)
        return field

    def convert_condition_field_eq_val(self, cond: Equals, state: ConversionState) -> Any:
        """Refuse a field that we do not have before anything else is said of it."""
        self._known(cond.field)
        return super().convert_condition_field_eq_val(cond, state)

    def convert_condition_field_eq_val_str(self, cond: Equals, state: ConversionState) -> str:
        """Return the comparison of a text, an address or a named number."""
        value = cond.value
        assert isinstance(value, SigmaString)  # noqa: S101  # pySigma dispatches by this type
        if cond.field == "conn_state":
            return self._state(cond, str(value))
        column = self._columns[cond.field]
        if cond.field == "app":
            value = _application(value)
        if column.dtype == WORD:
            return _text(cond.field, value)
        plain = value.to_plain()
        if column.dtype == ADDRESS:
            return f"{cond.field} in {_network(plain)!r}"
        if value.contains_special():
            problem = f"field {cond.field} is a number here: {plain!r} with a wildcard does not fit it"
            raise Unsupported(problem)
        if cond.field == "verdict":
            plain = VERDICTS.get(plain.lower(), plain)
        return f"{cond.field} == {plain if plain.isdecimal() else repr(plain)}"

    def _state(self, cond: Equals, value: str) -> str:
        if value not in CONNECTION_STATES or cond.parent_condition_chain_contains(ConditionNOT):
            problem = f"conn_state {value!r}: only {', '.join(CONNECTION_STATES)}, and not negated, are known here"
            raise Unsupported(problem)
        return CONNECTION_STATES[value]

    def convert_condition_field_eq_val_num(self, cond: Equals, state: ConversionState) -> str:
        """Return the comparison of a number."""
        assert isinstance(cond.value, SigmaNumber)  # noqa: S101  # pySigma dispatches by this type
        return f"{cond.field} == {cond.value}"

    def convert_condition_field_eq_val_cidr(self, cond: Equals, state: ConversionState) -> str:
        """Return the comparison with a range of addresses."""
        assert isinstance(cond.value, SigmaCIDRExpression)  # noqa: S101  # pySigma dispatches by this type
        return f"{cond.field} in {str(cond.value.network)!r}"

    def convert_condition_field_eq_val_re(self, cond: Equals, state: ConversionState) -> str:
        """Return the search of a pattern; names are kept in lower case, so their case tells nothing."""
        value = cond.value
        assert isinstance(value, SigmaRegularExpression)  # noqa: S101  # pySigma dispatches by this type
        flags = "".join(sorted(letter for flag, letter in _FLAGS.items() if flag in value.flags))
        exact = cond.field != "qname" and SigmaRegularExpressionFlag.IGNORECASE not in value.flags
        prefix = f"(?{flags}{'-i' if exact else ''})" if flags or exact else ""
        return f"matches({cond.field}, {prefix + value.to_plain()!r})"

    def convert_condition_field_eq_val_null(self, cond: Equals, state: ConversionState) -> str:
        """Return that a text is empty."""
        if self._columns[cond.field].dtype != WORD:
            problem = f"field {cond.field} is never null here"
            raise Unsupported(problem)
        return f'{cond.field} == ""'

    def convert_condition_field_exists(self, cond: Equals, state: ConversionState) -> str:
        """Refuse: every row has every field."""
        problem = f"field {cond.field}: that a field exists means nothing here, every row has every field"
        raise Unsupported(problem)

    convert_condition_field_not_exists = convert_condition_field_exists

    def convert_condition_val(self, cond: Any, state: ConversionState) -> Any:
        """Refuse: rows have no text to search."""
        problem = "keywords without a field: rows have no text to search"
        raise Unsupported(problem)


def _application(value: SigmaString) -> SigmaString:
    plain = value.to_plain().lower()
    if plain not in APPLICATIONS:
        problem = f"service {plain!r} is not told apart here; known: {', '.join(APPLICATIONS)}"
        raise Unsupported(problem)
    return SigmaString(APPLICATIONS[plain])


def _text(field: str, value: SigmaString) -> str:
    parts = list(value.s)
    plain = [part for part in parts if isinstance(part, str)]
    if any(not isinstance(part, str | SpecialChars) for part in parts):
        problem = f"field {field}: placeholders that another tool should fill in"
        raise Unsupported(problem)
    if not parts or plain == parts:
        return f"{field} == {''.join(plain)!r}"
    many = SpecialChars.WILDCARD_MULTI
    match parts:
        case [str() as text, last] if last == many:
            return f"startswith({field}, {text!r})"
        case [first, str() as text] if first == many:
            return f"endswith({field}, {text!r})"
        case [first, str() as text, last] if first == last == many:
            return f"contains({field}, {text!r})"
    if any("*" in part or "?" in part for part in plain):
        problem = f"field {field}: a text with wildcards and with * or ? as they are cannot be said here"
        raise Unsupported(problem)
    signs = {SpecialChars.WILDCARD_MULTI: "*", SpecialChars.WILDCARD_SINGLE: "?"}
    pattern = "".join(part if isinstance(part, str) else signs[part] for part in parts)  # type: ignore[index]
    return f"like({field}, {pattern!r})"


def _network(text: str) -> str:
    """Return an address or range as it is; ``10.1.*`` as the range that it means."""
    octets = text.removesuffix("*").removesuffix(".").split(".") if text.endswith(".*") else []
    written = ".".join([*octets, "0", "0", "0"][:4]) + f"/{8 * len(octets)}" if 1 <= len(octets) <= 3 else text
    try:
        return str(ipaddress.ip_network(written)) if octets else str(ipaddress.ip_address(written))
    except ValueError:
        problem = f"{text!r} is neither an address nor a range that ends in .*"
        raise Unsupported(problem) from None
