"""Measure the detectors and write `docs/quality.md`: `python -m tests.quality [--devset DIR]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.quality import detection, page
from tests.quality.poisoning import RAMPS, play

ROOT = Path(__file__).parents[2]
CASES, HOUR, PAGE = ROOT / "tests" / "cases", Path(__file__).parent / "benign_hour", ROOT / "docs" / "quality.md"


def _poisoning() -> str:
    return page.poisoning([(ramp, {speed: play(ramp, speed) for speed in ramp.speeds}) for ramp in RAMPS])


def main() -> int:
    """Measure; 1 when a case of the project has a miss or a false alert, or scans and floods are told late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devset", type=Path, help="also grade the cases of another folder; printed, not written")
    options = parser.parse_args()
    results = [*detection.run(CASES), *detection.run(HOUR)]
    kinds = detection.by_kind(results)
    text = page.page([page.cases("Recorded cases", results, kinds), page.TIMES, page.hour(results), _poisoning()])
    PAGE.write_text(text)
    sys.stdout.write(text)
    if options.devset is not None:
        others = detection.run(options.devset)
        sys.stdout.write("\n" + page.cases(f"Development set {options.devset}", others, detection.by_kind(others)))
    if late := detection.late(kinds):
        sys.stderr.write(f"quality: told later than {detection.SOON_S:g} s after the limit: {', '.join(late)}\n")
    return int(bool(late) or any(kind.misses or kind.false_alerts for kind in kinds.values()))


if __name__ == "__main__":
    sys.exit(main())
