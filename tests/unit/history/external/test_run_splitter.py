"""Runs in the files of another program: where ``t`` falls, another one begins."""

from __future__ import annotations

from pathlib import Path

from tests.support.backend import line_of, run_of
from tick_gateway.history.external.run_splitter import RunSplitter
from tick_gateway.history.external.source_file import LineBatch, SourceFile

MAX_TICK = 4096
FILE = SourceFile(Path("a.jsonl"), MAX_TICK)


def batch(*lines: bytes, begin: int = 0, refuted: frozenset[int] = frozenset()) -> LineBatch:
    return LineBatch(begin, [*lines], 0, 0, (0, 0), refuted)


def sorted_(splitter: RunSplitter, found: LineBatch) -> list[tuple[str, list[int]]]:
    return [(one.run.id, one.ts) for one in splitter.sort(FILE, found, (0, 100))]


def test_a_falling_t_begins_a_run_that_is_named_by_its_first_tick() -> None:
    splitter = RunSplitter(MAX_TICK)
    first, second = line_of(0, 1), line_of(0, 2)
    found = sorted_(splitter, batch(first, line_of(1), line_of(5), second, line_of(1, 9)))
    assert found == [(run_of("a", first), [0, 1, 5]), (run_of("a", second), [0, 1])]
    assert sorted_(splitter, batch(line_of(2))) == [(run_of("a", second), [2])], "the run goes on in the next batch"


def test_runs_that_begin_alike_are_told_apart_by_a_number() -> None:
    splitter, first = RunSplitter(MAX_TICK), line_of(0)
    names = [name for name, _ in sorted_(splitter, batch(first, line_of(1), first, line_of(1), first))]
    # The newest tick once more is the same tick: the third run is not begun by it.
    assert names == [run_of("a", first), f"{run_of('a', first)}-2", f"{run_of('a', first)}-3"]


def test_the_newest_tick_again_is_no_new_one_and_other_bytes_are_skipped() -> None:
    splitter = RunSplitter(MAX_TICK)
    found = sorted_(splitter, batch(line_of(0), line_of(1), line_of(1), line_of(1, 7), line_of(2)))
    assert [ts for _, ts in found] == [[0, 1, 2]]
    assert splitter.skipped == 1


def test_lines_that_are_no_ticks_are_skipped_and_white_space_is_nothing() -> None:
    splitter = RunSplitter(MAX_TICK)
    found = sorted_(splitter, batch(line_of(0), b"", b"  ", b"nonsense", b"x" * (MAX_TICK + 9), line_of(1)))
    assert [ts for _, ts in found] == [[0, 1]]
    assert splitter.skipped == 2


def test_where_lines_lie_and_when_they_count_as_received() -> None:
    splitter = RunSplitter(MAX_TICK)
    lines = [line_of(0), line_of(1)]
    (one,) = splitter.sort(FILE, batch(*lines, begin=1000), (500, 600))
    assert (one.begin, one.ends) == (1000, [1000 + len(lines[0]) + 1, 1000 + len(lines[0]) + len(lines[1]) + 2])
    assert one.ats == (500, 600)


def test_what_a_checksum_refutes_is_left_out_and_parts_what_is_beside_it() -> None:
    splitter = RunSplitter(MAX_TICK)
    found = splitter.sort(FILE, batch(line_of(0), line_of(1), line_of(2), refuted=frozenset({1})), (0, 0))
    assert [(one.ts, one.apart) for one in found] == [([0], False), ([2], True)]


def test_it_goes_on_where_a_note_says() -> None:
    splitter, again = RunSplitter(MAX_TICK), RunSplitter(MAX_TICK)
    ((name, _),) = sorted_(splitter, batch(line_of(0), line_of(1)))
    again.recall(splitter.note())
    assert sorted_(again, batch(line_of(1), line_of(2))) == [(name, [2])], "the newest is known by its CRC"
    assert again.note() == splitter.note() | {"tip": 2, "crc": again.note()["crc"]}


def test_a_run_that_may_not_be_published_to_goes_on_under_the_next_name() -> None:
    splitter = RunSplitter(MAX_TICK)
    (one,) = splitter.sort(FILE, batch(line_of(0)), (0, 0))
    before = one.run.id
    splitter.go_on(one.run)
    assert sorted_(splitter, batch(line_of(1))) == [(f"{before}-2", [1])]
