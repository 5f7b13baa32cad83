"""Threads that read: each job's end is told on the loop, whatever it raised, and closing waits for nobody."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator

import pytest

from tick_gateway.history import threads as module
from tick_gateway.history.threads import ReadingThreads

SECONDS = 30.0  # how long a thread may take on a busy machine


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What holds up a job as a disk does that does not answer; it does in the end."""
    gate = threading.Event()
    yield gate
    gate.set()


def join(threads: ReadingThreads) -> None:
    for thread in threads._threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_a_job_is_done_on_a_thread_and_told_on_the_loop() -> None:
    told: list[tuple[str, int]] = []

    async def life() -> None:
        threads, done = ReadingThreads(1, "reads"), asyncio.Event()
        threads.start()

        def finish(problem: Exception | None) -> None:
            assert problem is None and asyncio.get_running_loop() is loop
            told.append(("done", threading.get_ident()))
            done.set()

        loop = asyncio.get_running_loop()
        threads(lambda: told.append((threading.current_thread().name, 0)), finish)
        await asyncio.wait_for(done.wait(), SECONDS)
        threads.close()
        join(threads)

    asyncio.run(life())
    assert told == [("reads-0", 0), ("done", threading.get_ident())]


def test_what_a_job_raises_is_told_and_the_thread_goes_on() -> None:
    async def life() -> None:
        threads = ReadingThreads(1)
        threads.start()
        told: asyncio.Queue[Exception | None] = asyncio.Queue()

        def fail() -> None:
            raise OSError("the disk")

        for job in (fail, lambda: None, fail):
            threads(job, told.put_nowait)
        found = [await asyncio.wait_for(told.get(), SECONDS) for _ in range(3)]
        assert [type(problem) for problem in found] == [OSError, type(None), OSError]
        threads.close()
        join(threads)

    asyncio.run(life())


def test_a_coroutine_gets_what_a_call_gives_or_raises() -> None:
    async def life() -> None:
        threads = ReadingThreads(2)
        threads.start()
        assert await asyncio.gather(*(threads.run(divmod, number, 3) for number in range(9))) == [
            divmod(number, 3) for number in range(9)
        ]
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 1, 0)
        threads.close()
        join(threads)

    asyncio.run(life())


def test_a_coroutine_that_waits_no_more(gate: threading.Event) -> None:
    async def life() -> None:
        threads = ReadingThreads(1)
        threads.start()
        begun = threading.Event()

        def slow() -> None:
            begun.set()
            gate.wait(SECONDS)

        waiting = asyncio.create_task(threads.run(slow))
        await asyncio.to_thread(begun.wait, SECONDS)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        gate.set()
        assert await threads.run(lambda: 7) == 7 and faults == [], "its end was told to nobody"
        threads.close()
        join(threads)

    asyncio.run(life())


def test_many_jobs_wait_for_the_same_threads(gate: threading.Event) -> None:
    async def life() -> None:
        threads = ReadingThreads(2)
        threads.start()
        at_once = threading.Semaphore(0)

        def slow() -> str:
            at_once.release()
            gate.wait(SECONDS)
            return threading.current_thread().name

        waiting = [asyncio.create_task(threads.run(slow)) for _ in range(6)]
        for _ in range(2):
            assert await asyncio.to_thread(at_once.acquire, True, SECONDS)
        assert not at_once.acquire(blocking=False), "there are two"
        gate.set()
        assert set(await asyncio.gather(*waiting)) <= {"tick-gateway-read-0", "tick-gateway-read-1"}
        threads.close()
        join(threads)

    asyncio.run(life())


def test_closing_forgets_what_waits_and_leaves_behind_what_hangs(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 0.01)
    done: list[str] = []

    async def life() -> ReadingThreads:
        threads = ReadingThreads(1)
        threads.start()
        begun = threading.Event()

        def hang() -> None:
            begun.set()
            gate.wait(SECONDS)
            done.append("hung")

        threads(hang, lambda problem: done.append("told"))
        threads(lambda: done.append("waited"), lambda problem: done.append("told"))
        await asyncio.to_thread(begun.wait, SECONDS)
        threads.close()
        assert done == []
        with pytest.raises(RuntimeError, match="closed"):
            threads(lambda: None, lambda problem: None)
        with pytest.raises(RuntimeError, match="closed"):
            await threads.run(int)
        return threads

    threads = asyncio.run(life())
    gate.set()
    join(threads)
    assert done == ["hung"], "the loop is gone, and nothing else was begun"


def test_an_idle_thread_holds_nothing_of_its_last_job() -> None:
    class Large:
        def read(self) -> None:
            return None

    async def life() -> None:
        threads = ReadingThreads(1)
        threads.start()
        large, gone = Large(), threading.Event()
        alive = weakref.ref(large, lambda _: gone.set())
        await threads.run(large.read)
        del large
        # It lets go of it behind the call that told of its end.
        assert await asyncio.to_thread(gone.wait, SECONDS) and alive() is None
        threads.close()
        join(threads)

    asyncio.run(life())
