"""``sluicegate version``: which release this is and what it runs on."""

from __future__ import annotations

from typing import Annotated

import typer


def version(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Print the version of Sluicegate, of Python and of the libraries that matter to a bug report."""
    import platform

    words = {"sluicegate": _version("sluicegate"), "python": platform.python_version()}
    for name in ("faust-streaming", "aiokafka", "pyarrow", "numpy", "river", "lightkube"):
        words[name] = _version(name)
    if as_json:
        import orjson

        typer.echo(orjson.dumps(words).decode())
        return
    for name, text in words.items():
        typer.echo(f"{name} {text}")


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
