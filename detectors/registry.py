"""Finding detectors: a file in ``rules`` or ``models`` that defines the class with its name as id."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import detectors.models
import detectors.rules
from detectors.base import Detector, DetectorConfig


@cache
def detector_classes() -> dict[str, type[Detector]]:
    """Return every built-in detector by id, ordered by id."""
    found: dict[str, type[Detector]] = {}
    for package in (detectors.rules, detectors.models):
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            for _, member in inspect.getmembers(module, inspect.isclass):
                if not issubclass(member, Detector) or member.__module__ != module.__name__:
                    continue
                if not inspect.isabstract(member) and member.meta.id == info.name:
                    found[info.name] = member
    return dict(sorted(found.items()))


def build_detectors(configs: Mapping[str, Mapping[str, Any]] | None = None, seed: int = 0) -> list[Detector]:
    """Return the enabled built-in detectors with their configuration.

    Args:
        configs: fields to override by detector id.
        seed: for those whose configuration has a seed that is not set.

    Raises:
        ValueError: an id that no detector has, or a field that does not fit (pydantic's error is one).
    """
    classes = detector_classes()
    configs = configs or {}
    unknown = sorted(set(configs) - set(classes))
    if unknown:
        problem = f"no detector is called {unknown[0]!r}; known: {', '.join(classes)}"
        raise ValueError(problem)
    out = []
    for name, cls in classes.items():
        fields = dict(configs.get(name, {}))
        if "seed" in cls.Config.model_fields:
            fields.setdefault("seed", seed)
        config: DetectorConfig = cls.Config(**fields)
        if config.enabled:
            out.append(cls(config))
    return out
