"""The settings: one table, read from flags, then variables, then defaults."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import tick_gateway
from tests.support.environments import KUBERNETES
from tick_gateway import Gateway
from tick_gateway.errors import SettingError
from tick_gateway.settings import (
    ENV_PREFIX,
    TABLE,
    SettingKeywords,
    Settings,
    keyword_settings,
    name_as_given,
    parse_settings,
)

DEFAULTS = Settings()


def refused(flags: dict[str, str | None], environment: dict[str, str] | None = None) -> SettingError:
    with pytest.raises(SettingError) as refusal:
        parse_settings(flags, environment or {})
    assert str(refusal.value).startswith(f"{refusal.value.name}: ")
    return refusal.value


def test_nothing_said_is_the_defaults() -> None:
    assert parse_settings({}, {}) == DEFAULTS
    assert parse_settings({row.name: None for row in TABLE}, {"PATH": "/bin", "TICK": "1"}) == DEFAULTS


def test_a_name_is_a_flag_a_variable_and_a_keyword() -> None:
    rows = {row.name: row for row in TABLE}
    assert (rows["ring_bytes"].flag, rows["ring_bytes"].variable) == ("--ring-bytes", "TICK_GATEWAY_RING_BYTES")
    assert Settings(ring_bytes=5000).ring_bytes == 5000
    assert all(row.help and row.unit in ("count", "bytes", "seconds", "text", "switch") for row in TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_is_read_from_a_flag_and_from_a_variable_and_the_flag_outranks(row: Any) -> None:
    texts = {"count": ("7", "8"), "bytes": ("70000", "80000"), "seconds": ("0.5", "0.25"), "text": ("a", "b")}
    texts["switch"] = ("off", "on") if row.default else ("on", "off")
    words = {"nan": ("null", "refuse"), "fsync": ("never", "block"), "flush": ("fixed", "adaptive")}
    one, two = words.get(row.name, texts[row.unit])
    value: Any = {"count": int, "bytes": int, "seconds": float, "text": str, "switch": "on".__eq__}[row.unit]
    assert getattr(parse_settings({row.name: one}, {}), row.name) == value(one)
    assert getattr(parse_settings({}, {row.variable: one}), row.name) == value(one)
    both = parse_settings({row.name: one}, {row.variable: two})
    assert getattr(both, row.name) == value(one)
    assert both == Settings(**{row.name: value(one)}), "nothing else changes"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_an_error_names_where_the_value_came_from(row: Any) -> None:
    if row.unit != "text":
        assert refused({row.name: "many"}).name == row.flag
        assert refused({}, {row.variable: "many"}).name == row.variable


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("64k", 65536),
        ("64K", 65536),
        ("2kB", 2048),
        ("2KiB", 2048),
        ("3M", 3 << 20),
        ("3 MiB", 3 << 20),
        ("1g", 1 << 30),
        ("1Gb", 1 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_settings({"ring_bytes": text}, {}).ring_bytes == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0.5", 0.5), ("20ms", 0.02), ("90s", 90), ("1.5m", 90), ("12 h", 43200), ("7d", 604800)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_settings({"retain_age": text}, {}).retain_age == seconds


def test_a_time_that_does_not_parse_says_what_is_accepted() -> None:
    assert "20ms, 90s, 15m, 12h or 7d" in str(refused({"retain_age": "a week"}))


@pytest.mark.parametrize(("name", "text"), [("ring", "0"), ("port", "70000"), ("fsync", "often"), ("nan", "skip")])
def test_what_is_not_accepted_is_named_as_it_was_given(name: str, text: str) -> None:
    (row,) = [row for row in TABLE if row.name == name]
    assert refused({name: text}).name == row.flag
    assert refused({}, {row.variable: text}).name == row.variable
    assert refused({name: text}, {row.variable: text}).name == row.flag
    with pytest.raises(SettingError, match=f"^{name}: "):
        Settings(**{name: int(text) if text.isdecimal() else text})  # type: ignore[arg-type]


def test_a_flag_that_names_no_directory_is_no_way_to_have_no_history() -> None:
    assert "memory alone" in str(refused({"data": ""}))
    assert refused({"data": ""}).name == "--data"
    assert parse_settings({}, {"TICK_GATEWAY_DATA": ""}).data == ""


def test_what_has_no_effect_without_data() -> None:
    set_ = {"retain_bytes": "5", "fsync": "block", "history_queue": "1M", "ring": "7"}
    assert parse_settings(set_, {}).idle == ["fsync", "retain_bytes", "history_queue"]
    assert parse_settings({"data": "history", **set_}, {}).idle == []
    assert DEFAULTS.idle == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("ring_bytes", text) for text in ("", "k", "-1", "1.5M", "1T", "1 b", "1kk", "64 k b", "٣k", "9" * 16)]
    + [("ring", text) for text in ("", "-", "+1", "1.0", "1e3", "1k", " 1", "٣", "9" * 16)]
    + [("drain_timeout", text) for text in ("", "-1", ".5", "1.", "1e3", "inf", "nan", "5S", "5w", "s", "1h30m", "٣")],
)
def test_what_does_not_parse_says_what_would(name: str, text: str) -> None:
    error = refused({name: text})
    assert "is not a" in str(error)
    assert len(str(error)) < 200


BOUNDS: dict[str, tuple[Any, Any, Any, Any]] = {
    # name: the last value below, the lowest, the highest, the first above; None: no such bound
    "port": (-1, 0, 65535, 65536),
    "ring": (0, 1, None, None),
    "ring_bytes": (1023, 1024, None, None),
    "inbox": (0, 1, None, None),
    "inbox_bytes": (1023, 1024, None, None),
    "max_tick": (15, 16, None, None),
    "max_body": (15, 16, None, None),
    "publish_timeout": (-0.1, 0, 3600, 3600.1),
    "flush_interval": (-0.1, 0, 10, 10.1),
    "encoded_bytes": (-1, 0, None, None),
    "compression": (-1, 0, 9, 10),
    "compression_section": (0, 1, 100_000, 100_001),
    "max_views": (0, 1, None, None),
    "max_connections": (0, 1, None, None),
    "fsync_interval": (0, 0.001, 3600, 3600.1),
    "block_bytes": (1023, 1024, 64 << 20, (64 << 20) + 1),
    "block_age": (0, 0.1, None, None),
    "segment_bytes": (1023, 1024, None, None),
    "segment_age": (-0.1, 0, None, None),
    "retain_bytes": (-1, 0, None, None),
    "retain_age": (-0.1, 0, None, None),
    "history_level": (0, 1, 19, 20),
    "history_cache": (-1, 0, None, None),
    "history_queue": (1023, 1024, None, None),
    "drain_timeout": (-0.1, 0, 600, 600.1),
    "backlog": (0, 1, 65535, 65536),
}


def test_every_number_has_its_bounds_here() -> None:
    assert set(BOUNDS) == {row.name for row in TABLE if row.unit not in ("text", "switch")}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name: str) -> None:
    below, lowest, highest, above = BOUNDS[name]
    for value in (lowest, highest):
        if value is not None:
            assert getattr(Settings(**{name: value}), name) == value
    for value in (below, above):
        if value is not None:
            with pytest.raises(SettingError, match=f"{name}: .*out of range; accepted: (at least|from) {lowest}"):
                Settings(**{name: value})


@pytest.mark.parametrize("value", ["", "Null", "skip"])
def test_nan_is_refuse_or_null(value: str) -> None:
    with pytest.raises(SettingError, match="accepted: refuse, null"):
        Settings(nan=value)
    assert (Settings(nan="null").nan_policy, DEFAULTS.nan_policy) == ("null", "refuse")


@pytest.mark.parametrize("value", ["", "Fixed", "slow"])
def test_flush_is_one_of_two(value: str) -> None:
    with pytest.raises(SettingError, match="accepted: adaptive, fixed"):
        Settings(flush=value)
    assert (Settings(flush="fixed").flush, DEFAULTS.flush) == ("fixed", "adaptive")


@pytest.mark.parametrize("value", ["", "always", "Block"])
def test_fsync_is_one_of_three(value: str) -> None:
    with pytest.raises(SettingError, match="accepted: never, interval, block"):
        Settings(fsync=value)


def test_a_variable_of_ours_that_names_no_setting_is_an_error() -> None:
    error = refused({}, {f"{ENV_PREFIX}RING_SIZE": "1"})
    assert error.name == "TICK_GATEWAY_RING_SIZE"
    assert "TICK_GATEWAY_RING_BYTES" in str(error), "it says what is accepted"


@pytest.mark.parametrize("text", ["", "yes", "1", "true", "onn"])
def test_a_switch_is_on_or_off(text: str) -> None:
    assert str(refused({"publish_network": text})).endswith("is not a switch; accepted: on, off")
    assert parse_settings({"publish_network": "OFF"}, {}).publish_network is False


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", True), ("publish_timeout", True), ("publish_timeout", math.nan), ("retain_age", math.inf), ("data", b"x"),
     ("publish_network", 1), ("publish_network", "off"), ("host", None), ("ring", 1.0)],
)  # fmt: skip
def test_values_of_another_type(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"^{name}: .* is not (a|True)"):
        Settings(**{name: value})


# ---- variables that are not ours ----

# What Kubernetes 1.30 gave a container beside a service tick-gateway with the ports http and 9090/UDP.
OF_ANOTHER_SERVICE = {name.replace("GATEWAY_", "GATEWAY_BACKUP_2_", 1): text for name, text in KUBERNETES.items()}
DOCKER_LINK = {
    "TICK_GATEWAY_NAME": "/web/tick-gateway",
    "TICK_GATEWAY_PORT": "tcp://172.17.0.5:8000",
    "TICK_GATEWAY_ENV_PYTHON_VERSION": "3.13",
}


@pytest.mark.parametrize("theirs", [KUBERNETES, OF_ANOTHER_SERVICE, DOCKER_LINK])
def test_variables_of_an_orchestrator_are_no_settings(theirs: dict[str, str]) -> None:
    assert parse_settings({}, theirs) == DEFAULTS
    assert parse_settings({}, {**theirs, "TICK_GATEWAY_RING": "5"}) == Settings(ring=5)
    assert keyword_settings({"port": 9}, theirs) == (Settings(port=9), [])
    assert name_as_given("port", {}, theirs) == "--port"
    for typo in ("TICK_GATEWAY_PROT", "TICK_GATEWAY_SERVICE", "TICK_GATEWAY_PORTS", "TICK_GATEWAY_PORT_80"):
        assert refused({}, {**theirs, typo: "1"}).name == typo
    assert refused({}, {"TICK_GATEWAY_PORT": "10.96.14.2:8000"}).name == "TICK_GATEWAY_PORT"


# ---- in Python ----


def test_one_rule_in_python_as_on_the_command_line() -> None:
    variables = {"TICK_GATEWAY_RING": "5", "TICK_GATEWAY_DATA": "there", "TICK_GATEWAY_PUBLISH_NETWORK": "off"}
    assert keyword_settings({}, variables)[0] == parse_settings({}, variables)
    assert keyword_settings({"ring": 7}, variables)[0] == parse_settings({"ring": "7"}, variables)
    assert keyword_settings({"ring": 7}, variables)[0] == Settings(ring=7, data="there", publish_network=False)
    assert keyword_settings({"data": ""}, variables)[0].data == ""
    for keywords, environment, name in (
        ({"ring": 0}, {}, "ring"),
        ({}, {"TICK_GATEWAY_RING": "0"}, "TICK_GATEWAY_RING"),
        ({}, {"TICK_GATEWAY_RING": "many"}, "TICK_GATEWAY_RING"),
        ({"ring": 0}, {"TICK_GATEWAY_RING": "many"}, "ring"),
        ({"rings": 5}, {}, "rings"),
        ({}, {"TICK_GATEWAY_RINGS": "5"}, "TICK_GATEWAY_RINGS"),
    ):
        with pytest.raises(SettingError) as refusal:
            keyword_settings(keywords, environment)
        assert refusal.value.name == name
    _, idle = keyword_settings({"retain_age": 5.0}, {"TICK_GATEWAY_FSYNC": "block"})
    assert idle == ["TICK_GATEWAY_FSYNC", "retain_age"]


def test_a_gateway_reads_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {**KUBERNETES, "TICK_GATEWAY_RING": "5"}.items():
        monkeypatch.setenv(name, text)
    assert (Gateway().settings, Gateway(ring=7).settings) == (Settings(ring=5), Settings(ring=7))
    assert Gateway.of(DEFAULTS).settings == DEFAULTS
    monkeypatch.setenv("TICK_GATEWAY_RONG", "5")
    with pytest.raises(SettingError, match="^TICK_GATEWAY_RONG: no such setting"):
        Gateway.in_thread(port=0)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("prot", "port"), ("ring_byte", "ring_bytes"), ("Port", "port"), ("publish_tokn", "publish_token"), ("zzz", "")],
)
def test_a_name_with_a_typing_mistake_gets_the_likely_one(typed: str, meant: str) -> None:
    keywords: dict[str, Any] = {typed: 1}
    with pytest.raises(SettingError) as refusal:
        Gateway(**keywords)
    assert str(refusal.value).endswith(f"; did you mean {meant}?") if meant else "mean" not in str(refusal.value)


def test_a_variable_with_a_typing_mistake_gets_the_likely_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICK_GATEWAY_PROT", "1")
    with pytest.raises(SettingError, match=r"; did you mean TICK_GATEWAY_PORT\?$"):
        Gateway()


def test_the_keywords_of_the_type_checker_are_the_table() -> None:
    hints = get_type_hints(SettingKeywords)
    assert list(hints) == [row.name for row in TABLE], "SettingKeywords has to have what Settings has"
    kinds = get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        words = field.metadata["words"]
        assert get_args(hints[field.name]) == words if words else hints[field.name] == kinds[field.name], field.name


def test_a_type_checker_knows_the_settings() -> None:
    """An ignored error that is none is an error to mypy, which reads this file too."""
    with pytest.raises(SettingError, match="prot: no such setting; accepted: host, port"):
        Gateway(prot=1)  # type: ignore[call-arg]
    with pytest.raises(SettingError):
        Gateway.in_thread(prot=1)  # type: ignore[call-arg]
    with pytest.raises(SettingError):
        Gateway(port="8000")  # type: ignore[arg-type]
    with pytest.raises(SettingError):
        Gateway(nan="zero")  # type: ignore[arg-type]
    assert Gateway(port=1, nan="null", publish_timeout=1).settings.nan == "null"


def test_a_directory_may_be_a_path(tmp_path: Path) -> None:
    gateway = Gateway(data=tmp_path / "history", port=0, host="127.0.0.1")
    assert gateway.settings.data == str(tmp_path / "history")
    with gateway:
        gateway.publish({"t": 1}, run="A")
    assert (tmp_path / "history" / "A").is_dir()
    assert Settings(data=Path()).data == "."


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        DEFAULTS.ring = 5  # type: ignore[misc]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_value_of_another_type_says_its_type(row: Any) -> None:
    with pytest.raises(SettingError, match=rf"^{row.name}: None is not [^:]*(: [^:]*)?: it is of type NoneType"):
        keyword_settings({row.name: None}, {})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("port", "8000", "'8000' is not a whole number: it is of type str; accepted: from 0 to 65535"),
        ("ring", "1k", "'1k' is not a whole number: it is of type str; accepted: at least 1"),
        ("nan", 1, "1 is not a string: it is of type int; accepted: refuse, null"),
        ("data", 5, "5 is not a string or a path: it is of type int"),
        ("publish_network", "on", "'on' is not True or False: it is of type str"),
        ("retain_age", math.inf, "inf is not a number of seconds: it is not finite; accepted: at least 0"),
    ],
)
def test_a_value_of_another_type_says_what_is_accepted(name: str, value: Any, told: str) -> None:
    with pytest.raises(SettingError) as refused:
        keyword_settings({name: value}, {})
    assert str(refused.value) == f"{name}: {told}"


def test_the_home_directory_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    known = [
        keyword_settings({"data": "~/x"}, {})[0],
        keyword_settings({"data": Path("~/x")}, {})[0],
        keyword_settings({}, {"TICK_GATEWAY_DATA": "~/x"})[0],
        parse_settings({"data": "~/x"}, {}),
        parse_settings({}, {"TICK_GATEWAY_DATA": "~/x"}),
    ]
    assert {Path(settings.data) for settings in known} == {tmp_path / "x"}
    assert parse_settings({"data": "x/~"}, {}).data == "x/~"
    assert parse_settings({"data": "./~"}, {}).data == "./~"
    with pytest.raises(SettingError, match=r"^--data: '~nobody-here/x' names .*is \./~nobody-here/x$"):
        parse_settings({"data": "~nobody-here/x"}, {})


def defaults_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The parameters and fields that have a default, with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = [*node.args.posonlyargs, *node.args.args][-len(node.args.defaults) or None :]
            pairs = [
                *zip(last, node.args.defaults, strict=False),
                *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
            ]
            yield from ((arg.arg, ast.unparse(value)) for arg, value in pairs if value is not None)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.value is not None:
                    yield part.target.id, ast.unparse(part.value)


def test_a_default_stands_once() -> None:
    """Whoever has a default that is a setting's takes it from ``DEFAULTS``."""
    names = {row.name for row in TABLE} - {"data", "backlog"}  # words for other things, too
    package = Path(tick_gateway.__file__).parent
    for path in package.rglob("*.py"):
        if path.name != "settings.py":
            tree = ast.parse(path.read_text("utf-8"))
            own = {name for name, value in defaults_of(tree) if name in names and not value.startswith("DEFAULTS.")}
            assert own == set(), f"{path.relative_to(package)} has defaults of its own"
