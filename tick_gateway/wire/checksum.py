"""CRC-32 and length of concatenated bytes, for the trailer of a gzip member (RFC 1952).

A CRC is the remainder of a polynomial division over GF(2): appending bytes multiplies it by a power of x and adds the
remainder of the appended bytes. So the CRC of a concatenation follows from those of its parts, and the CRC of a suffix
from those of the whole and of the prefix, without reading the bytes again.

    of(a + b) == of(a) + of(b)          of(a + b).after(of(a)) == of(b)

Pure: bytes in, numbers out.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

_POLYNOMIAL: Final = 0xEDB88320  # of CRC-32; the highest bit is the coefficient of x^0

_Tables = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Checksum:
    """The CRC-32 (``crc``) and the length (``size``) of some bytes."""

    crc: int = 0
    size: int = 0

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(zlib.crc32(data), len(data))

    def __add__(self, other: Checksum) -> Checksum:
        """The checksum of these bytes followed by the others."""
        if not other.size:
            return self
        if not self.size:
            return other
        return Checksum(_shift(self.crc, other.size) ^ other.crc, self.size + other.size)

    def after(self, prefix: Checksum) -> Checksum:
        """The checksum of these bytes without ``prefix``."""
        size = self.size - prefix.size
        return Checksum(_shift(prefix.crc, size) ^ self.crc, size) if size else NOTHING

    def followed_by(self, data: bytes) -> Checksum:
        """The checksum of these bytes followed by ``data``: faster than adding two checksums."""
        return Checksum(zlib.crc32(data, self.crc), self.size + len(data))


NOTHING: Final = Checksum()


def _shift(crc: int, size: int) -> int:
    """Multiply a remainder by x to the power of 8 * size."""
    power = 0
    while size:
        if size & 1:
            crc = _look_up(_tables(power), crc)
        size >>= 1
        power += 1
    return crc


@cache
def _tables(power: int) -> _Tables:
    """For each four bits of a remainder, their products with x to the power of 8 * 2**power."""
    if power:
        half = _tables(power - 1)
        products = [_look_up(half, _look_up(half, 1 << bit)) for bit in range(32)]
    else:
        products = [_by_byte(1 << bit) for bit in range(32)]
    return tuple(_sums(products[bit : bit + 4]) for bit in range(0, 32, 4))


def _look_up(tables: _Tables, crc: int) -> int:
    a, b, c, d, e, f, g, h = tables
    return (
        a[crc & 15]
        ^ b[crc >> 4 & 15]
        ^ c[crc >> 8 & 15]
        ^ d[crc >> 12 & 15]
        ^ e[crc >> 16 & 15]
        ^ f[crc >> 20 & 15]
        ^ g[crc >> 24 & 15]
        ^ h[crc >> 28]
    )


def _by_byte(remainder: int) -> int:
    """Multiply a remainder by x to the power of 8."""
    for _ in range(8):
        remainder = remainder >> 1 ^ _POLYNOMIAL if remainder & 1 else remainder >> 1
    return remainder


def _sums(products: list[int]) -> tuple[int, ...]:
    """The sums of all subsets of four products; the bits of the index select the subset."""
    sums = [0]
    for product in products:
        sums += [known ^ product for known in sums]
    return tuple(sums)
