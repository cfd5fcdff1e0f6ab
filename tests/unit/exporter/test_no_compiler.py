"""An exporter loads no compiler of loops: that alone would be a hundred megabytes on every node."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import sluicegate.__main__, sluicegate.commands.export, sluicegate.live_run
import exporter.sources.conntrack, exporter.sources.host, exporter.sources.packets
print(*sorted({"numba", "llvmlite", "scipy", "river"} & {name.split(".")[0] for name in sys.modules}))
"""


def test_what_exports_live_imports_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
