from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.inventory import InventoryObject
from schemas.timeline import FOREVER, Span, Timeline

TIMES = st.integers(0, 40)


def span(begin: int, end: int, uid: str) -> Span:
    return Span(begin, uid, end, InventoryObject(kind="Pod", uid=uid, name=f"{uid}-{begin}"))


def plain_reading(spans: dict[tuple[int, str], Span], time: int) -> InventoryObject | None:
    holding = [s for s in spans.values() if s.begin <= time < s.end]
    return max(holding, key=lambda s: (s.begin, s.uid)).item if holding else None


@given(
    steps=st.lists(
        st.tuples(st.booleans(), TIMES, st.just(FOREVER) | TIMES, st.sampled_from("abc")),
        max_size=30,
    ),
    times=st.lists(TIMES, min_size=1, max_size=5),
)
def test_any_mixture_of_steps_reads_like_a_search_through_all_spans(
    steps: list[tuple[bool, int, int, str]], times: list[int]
) -> None:
    timeline, told = Timeline(), dict[tuple[int, str], Span]()
    for keep, begin, end, uid in steps:
        timeline.remove(begin, uid)
        told.pop((begin, uid), None)
        if keep:
            told[begin, uid] = span(begin, end, uid)
            timeline.insert(told[begin, uid])
        assert [timeline.at(t) for t in times] == [plain_reading(told, t) for t in times]
        assert len(timeline) == len(told)


def test_an_address_that_is_free_is_seen_to_be_without_reading_its_history() -> None:
    class Counted(list[Span]):
        read = 0

        def __getitem__(self, place: Any) -> Any:
            Counted.read += not isinstance(place, slice)
            return super().__getitem__(place)

    timeline = Timeline()
    for begin in range(0, 20_000, 10):
        timeline.insert(span(begin, begin + 5, str(begin)))
    timeline.at(0)
    timeline._spans = Counted(timeline._spans)
    assert timeline.at(19_998) is None
    assert timeline.at(10_004) is not None
    assert Counted.read <= 4
