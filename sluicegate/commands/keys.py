"""``sluicegate keys``: make the keys that sign operators' commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    key_id: Annotated[str, typer.Argument(help="Name of the key, unique among all operators.")],
    file: Annotated[Path, typer.Argument(help="Where the private key goes; must not exist.")],
    person: Annotated[str, typer.Option(help="Whose key it is, as the audit will say.")],
) -> None:
    """Write a new Ed25519 private key and print the lines for the file of public keys.

    The file of public keys (response.commands.public_keys_file) is what the responder believes; the private
    key never leaves its file.
    """
    from response.signing import new_keys, write_private_key

    private, lines = new_keys(key_id, person)
    write_private_key(file, private)
    typer.echo(lines, nl=False)
