"""The decorator of compiled loops, and where their machine code is kept.

Code is made for a generic processor of the architecture, so that an image built on one machine starts without
compiling on another. The folder's name contains a digest of all kernels: numba itself would not notice that a
kernel called from another file has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config

_FOLDER = Path(__file__).parent
F = TypeVar("F", bound=Callable[..., Any])


def _digest() -> str:
    digest = hashlib.sha256()
    # And the one function that is compiled from elsewhere.
    for path in (*sorted(_FOLDER.glob("*.py")), _FOLDER.parent / "mixing.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _code_folder() -> Path:
    """Return a folder to read machine code from and write it to.

    ``SLUICEGATE_KERNELS`` names it; otherwise it lies beside the sources. Where that cannot be written (a read-only
    image), what it holds is copied to a private temporary folder, since numba refuses one it cannot write to.
    """
    wanted = Path(os.environ.get("SLUICEGATE_KERNELS") or _FOLDER / "__pycache__") / f"kernels-{_digest()}"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        private = Path(tempfile.mkdtemp(prefix="sluicegate-kernels-"))
        if wanted.is_dir():
            shutil.copytree(wanted, private, dirs_exist_ok=True)
        return private


config.CACHE_DIR = str(_code_folder())
config.CPU_NAME = "generic"
config.CPU_FEATURES = ""


def compiled(function: F) -> F:
    """Compile at the first call with arrays of new types; integer division and indexing behave as numpy's."""
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))
