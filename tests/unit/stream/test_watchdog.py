from stream.watchdog import LagWatchdog


def test_lag_without_progress_stalls_only_after_the_time() -> None:
    watchdog = LagWatchdog(60)
    assert watchdog.observe("detect", {0: 5}, {0: 9}, now=100) == {0: 4}
    watchdog.observe("detect", {0: 5}, {0: 12}, now=160)
    assert watchdog.stalled(160) == {}
    assert watchdog.stalled(161) == {"detect": "detect partition 0: 7 messages behind, none fed for 61 s"}


def test_progress_however_slow_is_not_a_stall() -> None:
    watchdog = LagWatchdog(60)
    for step in range(10):
        watchdog.observe("detect", {0: step}, {0: 1000}, now=step * 50.0)
    assert watchdog.stalled(10 * 50.0) == {}


def test_idle_without_lag_is_not_a_stall_and_the_time_starts_with_the_lag() -> None:
    watchdog = LagWatchdog(60)
    for now in range(0, 1000, 10):
        watchdog.observe("detect", {0: 5}, {0: 5}, float(now))
    assert watchdog.stalled(1000) == {}
    watchdog.observe("detect", {0: 5}, {0: 6}, 1000.0)
    assert watchdog.stalled(1050) == {}
    watchdog.observe("detect", {0: 5}, {0: 6}, 1050.0)
    assert set(watchdog.stalled(1061)) == {"detect"}


def test_one_stalled_partition_is_enough_and_others_do_not_hide_it() -> None:
    watchdog = LagWatchdog(60)
    for now in (0.0, 100.0):
        watchdog.observe("detect", {0: int(now), 1: 3}, {0: 1000, 1: 4}, now)
        watchdog.observe("decide", {0: int(now)}, {0: 1000}, now)
    assert list(watchdog.stalled(100)) == ["detect"]


def test_a_partition_that_left_is_forgotten() -> None:
    watchdog = LagWatchdog(60)
    watchdog.observe("detect", {0: 5}, {0: 9}, 0.0)
    watchdog.observe("detect", {}, {}, 50.0)
    watchdog.observe("detect", {0: 5}, {0: 9}, 100.0)
    assert watchdog.stalled(120) == {}


def test_an_end_that_is_unknown_counts_as_reached() -> None:
    assert LagWatchdog(60).observe("detect", {0: 5}, {}, 0.0) == {0: 0}


def test_a_checkpoint_overdue_for_too_long_is_a_stall_and_one_that_came_is_not() -> None:
    watchdog = LagWatchdog(60)
    watchdog.observe_checkpoints("detect", {2: 10.0}, now=100)
    assert watchdog.stalled(150) == {}
    assert watchdog.stalled(151) == {"detect": "detect partition 2: checkpoint overdue for 61 s"}
    watchdog.observe_checkpoints("correlate", {}, now=151)
    assert set(watchdog.stalled(151)) == {"detect"}
    watchdog.observe_checkpoints("detect", {}, now=152)
    assert watchdog.stalled(500) == {}


def test_no_time_runs_while_the_broker_does_not_answer() -> None:
    watchdog = LagWatchdog(60)
    for now in (0.0, 50.0):
        watchdog.observe("detect", {0: 5}, {0: 9}, now)
    watchdog.observe_checkpoints("detect", {0: 40.0}, now=50)
    watchdog.unreachable(55)
    watchdog.unreachable(300)
    assert watchdog.stalled(301) == {}
    watchdog.observe("detect", {0: 5}, {0: 9}, 310)
    watchdog.observe_checkpoints("detect", {0: 300.0}, now=310)
    assert watchdog.stalled(360) == {}
    assert "none fed for 61 s" in watchdog.stalled(361)["detect"]


def test_records_that_no_broker_takes_are_a_stall_while_brokers_answer() -> None:
    watchdog = LagWatchdog(60)
    watchdog.observe_outbox(61, now=100)
    assert watchdog.stalled(100) == {"outbox": "outbox: no broker has taken the oldest record for 61 s"}
    watchdog.unreachable(100)
    assert watchdog.stalled(160) == {}
    assert set(watchdog.stalled(161)) == {"outbox"}
    watchdog.observe_outbox(0, now=161)
    assert watchdog.stalled(161) == {}
