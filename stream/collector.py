"""How often Python's cycle collector looks at a process that holds much and makes little garbage in cycles."""

import gc

# The engine's memory is hundreds of thousands of long-lived objects, and what it makes per second is freed by
# reference counts. At the defaults (700, 10, 10) the collector took an eighth of the processor's time, for nothing.
_THRESHOLDS = (50_000, 20, 50)


def calm_collector() -> None:
    """Leave out what is there by now, modules above all, and look at the rest less often.

    For processes that keep one engine for good: engines are cycles, and of many made one after the other the memory
    would come back late.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
