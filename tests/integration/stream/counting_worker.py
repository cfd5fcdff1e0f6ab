"""A worker process with counting stages: `python -m …counting_worker BOOTSTRAP PREFIX CHECKPOINT_S AGENTS QUIET_S`."""

import sys

from stream.structured_logs import configure_logs
from stream.worker import run
from tests.integration.stream.counting import STAGES, make_settings

if __name__ == "__main__":
    configure_logs("info")
    sys.exit(
        run(
            make_settings(
                sys.argv[1], sys.argv[2], checkpoint_interval_s=float(sys.argv[3]), quiet_s=float(sys.argv[5])
            ),
            STAGES,
            sys.argv[4].split(","),
        )
    )
