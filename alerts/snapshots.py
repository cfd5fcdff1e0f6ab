"""State as JSON bytes and back, exactly; a snapshot that does not fit is refused whole."""

from __future__ import annotations

from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

State = TypeVar("State", bound=BaseModel)


class SnapshotError(ValueError):
    """A snapshot that cannot be restored; the text says why. The state is as it was before."""


def dump(state: BaseModel) -> bytes:
    """Return the state as JSON, fields in their declared order."""
    return orjson.dumps(state.model_dump(mode="json"))


def load(model: type[State], value: bytes, what: str) -> State:
    """Return the state that ``dump`` wrote.

    Raises:
        SnapshotError: not JSON, or not this model (another version among others).
    """
    try:
        return model.model_validate(orjson.loads(value))
    except orjson.JSONDecodeError as error:
        problem = f"snapshot of {what}: not JSON: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"snapshot of {what}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
    raise SnapshotError(problem)
