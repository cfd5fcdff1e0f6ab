"""When a partition is quiet, and when that is only not known."""

from stream.quiet import QuietWatch


def test_a_partition_at_its_end_is_quiet_after_the_time_and_again() -> None:
    watch = QuietWatch(10)
    due = {now: watch.observe({0: 5, 1: 5}, {0: 5, 1: 9}, now) for now in range(0, 32, 2)}
    assert {now: found for now, found in due.items() if found} == {10: {0: 5}, 20: {0: 5}, 30: {0: 5}}


def test_a_record_that_comes_begins_anew_even_if_it_is_read_at_once() -> None:
    watch = QuietWatch(10)
    assert not watch.observe({0: 5}, {0: 5}, 0)
    assert not watch.observe({0: 6}, {0: 6}, 8)
    assert not watch.observe({0: 6}, {0: 6}, 17)
    assert watch.observe({0: 6}, {0: 6}, 18) == {0: 6}


def test_a_backlog_is_not_quiet_however_long_it_stands() -> None:
    watch = QuietWatch(10)
    assert not any(watch.observe({0: 5}, {0: 7}, now) for now in range(100))
    assert not watch.observe({0: 7}, {0: 7}, 100)


def test_a_partition_that_was_away_begins_anew() -> None:
    watch = QuietWatch(10)
    watch.observe({0: 5}, {0: 5}, 0)
    watch.observe({}, {}, 5)
    assert not watch.observe({0: 5}, {0: 5}, 12)


def test_a_partition_in_which_nothing_ever_was_is_quiet_at_every_look() -> None:
    watch = QuietWatch(10)
    assert [watch.observe({0: 0}, {0: 0}, now) for now in (0, 2, 4)] == [{0: 0}] * 3
    assert not watch.observe({0: 0}, {0: 1}, 6)
    assert not watch.observe({0: 1}, {0: 1}, 8)


def test_a_broker_that_does_not_answer_is_not_quiet() -> None:
    watch = QuietWatch(10)
    watch.observe({0: 5}, {0: 5}, 0)
    watch.forget()
    assert not watch.observe({0: 5}, {0: 5}, 60)
    assert watch.observe({0: 5}, {0: 5}, 70) == {0: 5}
