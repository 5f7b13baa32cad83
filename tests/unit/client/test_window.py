"""What a publisher has on its way."""

from __future__ import annotations

from tick_gateway.client.window import PendingTick, PublishSummary, Window


def window_of(*ts: int, sent: int = 0) -> Window:
    window = Window()
    for t in ts:
        window.add(PendingTick(t, b"x" * (10 + t), t + 1))
    for _ in range(sent):
        assert window.next() is not None
    return window


def test_the_window_is_bounded_by_bytes_too() -> None:
    window = Window(max_ticks=100, max_bytes=10)
    window.add(PendingTick(0, b"x" * 20, 1))
    assert window.full and window.next() is not None
    assert window.acknowledged(0) == 1
    assert not window.full and not window.waiting and len(window) == 0


def test_it_is_bounded_by_ticks() -> None:
    window = Window(max_ticks=2)
    window.add(PendingTick(0, b"x", 1))
    assert not window.full
    window.add(PendingTick(1, b"x", 2))
    assert window.full


def test_an_acknowledgement_settles_what_was_sent_up_to_it() -> None:
    window = window_of(0, 1, 2, 3, sent=3)
    assert window.acknowledged(1) == 2
    assert window.acknowledged(9) == 1, "the last one was not sent yet"
    assert len(window) == 1 and not window.waiting


def test_a_new_connection_sends_again_what_is_left() -> None:
    window = window_of(0, 1, 2, sent=2)
    window.acknowledged(0)
    window.connected()
    again = [window.next(), window.next(), window.next()]
    assert [(one.t, one.message) if one else None for one in again] == [(1, 1), (2, 2), None]
    assert window.resent == 1


def test_a_refusal_names_a_message_or_else_a_t() -> None:
    window = window_of(0, 1, 2, sent=3)
    by_message = window.refused(None, 2)
    assert by_message is not None and by_message.t == 1
    by_t = window.refused(2, None)
    assert by_t is not None and by_t.t == 2
    assert window.refused(7, None) is None and len(window) == 1


def test_the_largest_sent_is_taken_out() -> None:
    window = window_of(0, 1, 2, sent=2)
    largest = window.largest_sent()
    assert largest is not None and largest.t == 1
    assert window_of(0).largest_sent() is None


def test_a_summary_in_a_line() -> None:
    assert str(PublishSummary(1, runs=["a"])) == "1 tick published to a in 0.0 s, 0 refused"
    many = PublishSummary(5, 1, 2, ["a", "b", "c", "d"], 1.26)
    assert str(many) == "5 ticks published to a, b, c and 1 more in 1.3 s, 1 refused, 2 sent again"
