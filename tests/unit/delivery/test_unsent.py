"""Large bodies that are compressed, or that their clients have yet to take: each once, and bounded."""

from __future__ import annotations

from tick_gateway.delivery.unsent import Sending, Unsent


def test_a_body_is_held_once_and_as_long_as_somebody_takes_it() -> None:
    unsent, cut = Unsent(100), list[int]()
    first, second = Sending(lambda: cut.append(1), 0.0), Sending(lambda: cut.append(2), 0.0)
    unsent.add("a", b"x" * 80, first)
    unsent.add("a", b"x" * 80, second)
    assert (unsent.bytes, unsent.find("a")) == (80, b"x" * 80)
    unsent.remove("a", first)
    assert unsent.find("a") is not None
    unsent.remove("a", second)
    assert (unsent.bytes, unsent.find("a"), cut) == (0, None, [])


def test_those_that_are_taken_slowest_make_room() -> None:
    unsent, cut = Unsent(300), list[str]()
    sendings = {name: Sending(lambda name=name: cut.append(name), 0.0) for name in "abc"}  # type: ignore[misc]
    for name, sending in sendings.items():
        unsent.add(name, b"x" * 100, sending)
    sendings["a"].taken, sendings["c"].taken = 90, 50
    unsent.add("d", b"x" * 150, Sending(lambda: cut.append("d"), 10.0))
    assert (cut, unsent.bytes, unsent.find("b")) == (["b", "c"], 250, None)
    unsent.remove("b", sendings["b"])  # its connection is over now
    assert unsent.bytes == 250


def test_one_body_is_held_whatever_its_size_and_who_has_just_begun_is_not_slow() -> None:
    unsent, cut = Unsent(100), list[str]()
    slow = Sending(lambda: cut.append("slow"), 0.0, taken=1)
    unsent.add("slow", b"x" * 50, slow)
    unsent.add("new", b"x" * 50, Sending(lambda: cut.append("new"), 9.5))
    unsent.add("next", b"x" * 40, Sending(lambda: cut.append("next"), 10.0))
    assert (cut, unsent.bytes) == (["slow"], 90)
    unsent.add("large", b"x" * 1000, Sending(lambda: cut.append("large"), 10.0))
    assert (cut, unsent.bytes) == (["slow", "new", "next"], 1000)
