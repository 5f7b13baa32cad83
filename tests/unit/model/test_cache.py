"""The byte-bounded cache, against a list of entries in the order of their use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.model.cache import ByteBoundedCache

OVERHEAD = 2


def cost(key: str, value: bytes) -> int:
    return len(key) + len(value) + OVERHEAD


KEYS = st.sampled_from(["a", "b", "c", "dd", "eeeee"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=12)),
        st.tuples(st.sampled_from(["get", "pop", "in"]), KEYS, st.just(b"")),
    )
)


class Model:
    """What a cache has to be: entries in the order of their use, oldest first."""

    def __init__(self, max_bytes: int, least: int) -> None:
        self.max_bytes = max_bytes
        self.least = least
        self.entries: list[tuple[str, bytes]] = []

    @property
    def size(self) -> int:
        return sum(cost(*entry) for entry in self.entries)

    def pop(self, key: str) -> bytes | None:
        found = dict(self.entries).get(key)
        self.entries = [entry for entry in self.entries if entry[0] != key]
        return found

    def get(self, key: str) -> bytes | None:
        found = self.pop(key)
        if found is not None:
            self.entries.append((key, found))
        return found

    def put(self, key: str, value: bytes) -> None:
        self.pop(key)
        self.entries.append((key, value))
        while self.size > self.max_bytes and len(self.entries) > self.least:
            del self.entries[0]


@given(STEPS, st.integers(0, 40), st.integers(0, 2))
def test_it_does_as_a_plain_list_does(steps: list[tuple[str, str, bytes]], max_bytes: int, least: int) -> None:
    model = Model(max_bytes, least)
    cache = ByteBoundedCache(max_bytes, cost, least=least)
    for step, key, value in steps:
        match step:
            case "put":
                model.put(key, value)
                cache.put(key, value)
            case "get":
                assert cache.get(key) == model.get(key)
            case "pop":
                assert cache.pop(key) == model.pop(key)
            case _:
                assert (key in cache) == (key in dict(model.entries))
        assert list(cache.values()) == [value for _, value in model.entries]
        assert (cache.bytes, len(cache)) == (model.size, len(model.entries))
        assert cache.bytes <= max_bytes or len(cache) <= least


def test_what_is_used_stays_longer() -> None:
    cache = ByteBoundedCache(3 * cost("a", b"1"), cost)
    for key in "abc":
        cache.put(key, b"1")
    assert cache.get("a") == b"1" and "b" in cache
    cache.put("d", b"1")
    assert [key in cache for key in "abcd"] == [True, False, True, True]


def test_one_that_is_larger_than_the_bound_stays_only_where_one_has_to() -> None:
    for least in (0, 1):
        cache = ByteBoundedCache(10, cost, least=least)
        cache.put("a", b"1")
        cache.put("b", b"x" * 100)
        assert list(cache.values()) == [b"x" * 100] * least
        cache.put("c", b"1")
        assert list(cache.values()) == [b"1"]


def test_the_cost_of_an_entry_is_that_of_when_it_was_put_in() -> None:
    cache: ByteBoundedCache[str, bytearray] = ByteBoundedCache(100, lambda _, value: len(value))
    grows = bytearray(10)
    cache.put("a", grows)
    grows += bytes(50)
    assert cache.bytes == 10
    cache.pop("a")
    assert cache.bytes == 0
