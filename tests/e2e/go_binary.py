"""Programs of the cluster that tests run for real, built from their Go modules once and kept in the cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / ".cache" / "bin"
GO_MINIMUM = (1, 26)
# Without its version a server tells clients one that they cannot parse.
_VERSION = "k8s.io/component-base/version"
KUBERNETES = f"-s -w -X {_VERSION}.gitVersion=v1.36.3 -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36"


class ClusterUnavailableError(Exception):
    """There is no way to get a part of a cluster here; the text says what is missing."""


@dataclass(frozen=True)
class GoProgram:
    """A package to build: `module` is the folder of its go.mod, `minutes` how long that takes on two idle cores."""

    name: str
    module: Path
    package: str
    minutes: int
    flags: str = "-s -w"

    @property
    def binary(self) -> Path:
        """Where it is once it is built."""
        return FOLDER / self.name

    def built(self) -> Path:
        """The binary, built if it is missing or older than its sources.

        Raises:
            ClusterUnavailableError: Go is missing or too old.
        """
        package = self.module / self.package
        folders = {self.module, package} if package.is_dir() else {self.module}
        sources = [path for folder in folders for path in folder.iterdir() if path.is_file()]
        if self.binary.exists() and all(self.binary.stat().st_mtime >= path.stat().st_mtime for path in sources):
            return self.binary
        go = _go(self.name)
        print(f"building {self.name} into {FOLDER} (about {self.minutes} min the first time)", file=sys.stderr)
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [go, "build", "-o", str(self.binary), "-ldflags", self.flags, self.package]
        subprocess.run(command, cwd=self.module, check=True)
        # Go leaves a binary alone that would come out the same; it is as new as its sources all the same.
        self.binary.touch()
        return self.binary


def _go(what: str) -> str:
    go = shutil.which("go")
    if go is None:
        message = f"Go is not installed: Go 1.26 is needed to build {what}"
        raise ClusterUnavailableError(message)
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(int(part) for part in version.removeprefix("go").split(".")[:2]) < GO_MINIMUM:
        message = f"{version} is too old: Go 1.26 is needed to build {what}"
        raise ClusterUnavailableError(message)
    return go
