"""What is likely to have been meant by a name that is none."""

from __future__ import annotations

import pytest

from tick_gateway.model.suggestion import did_you_mean

NAMES = ["from_t", "last_t", "tail", "since", "fields", "heartbeat", "TICK_GATEWAY_PORT"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("feilds", "fields"),
        ("heart_beat", "heartbeat"),
        ("form_t", "from_t"),
        ("TICK_GATEWAY_PROT", "TICK_GATEWAY_PORT"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_where_one_is_near(name: str, meant: str) -> None:
    assert did_you_mean(name, NAMES) == (f"; did you mean {meant}?" if meant else "")


def test_of_no_names_none_is_meant() -> None:
    assert did_you_mean("tail", []) == ""
