"""Records of blocks: their bytes, their checksums, and numbers that are read out of them one by one."""

from __future__ import annotations

import pytest

from tests.support.recorded import AT
from tick_gateway.errors import Damaged
from tick_gateway.history.format.block_record import (
    BEFORE,
    COUNT,
    FIRST,
    FIRST_AT,
    LAST,
    LAST_AT,
    OFFSET,
    ORDINAL,
    RECORD_BYTES,
    BlockRecord,
    check_records,
    pack_records,
    unpack_record,
)  # fmt: skip


def test_a_record_and_its_checksum() -> None:
    record = BlockRecord(1, -2, 3, 2**62, AT, AT + 1, 7, 8, 9, 10, 11, 12, 2**32 - 1)
    data = record.pack(5)
    assert len(data) == RECORD_BYTES and unpack_record(b"x" + data, 1) == record
    check_records(data * 2, 5)
    wrong = [data[:-1], data[1:], data + b"x"]
    wrong += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    for other in wrong:
        with pytest.raises(Damaged):
            check_records(other, 5)
    with pytest.raises(Damaged):
        check_records(data, 6)


def test_each_number_is_read_without_the_others() -> None:
    records = [BlockRecord(*range(begin, begin + 13)) for begin in (0, 100)]
    data = b"xyz" + pack_records(records, 7)
    for number, record in enumerate(records):
        for field in (OFFSET, ORDINAL, FIRST, LAST, FIRST_AT, LAST_AT, BEFORE, COUNT):
            assert field.of(data, 3 + number * RECORD_BYTES) == getattr(record, field.name)
