"""Bars that are all written alike, read out of a page by a compiled kernel; whatever is unusual is left to msgspec.

A vendor's program writes every bar of a page in one way: the same names in one order, the same signs around numbers.
The first bar, decoded by msgspec, shows the pattern; the kernel walks over the page, compares the pattern byte by byte
and reads the numbers, two to three times as fast as objects can be made of them.

Numbers are exact: a decimal whose digits form an integer up to 2**53 is that integer divided by a power of ten up to
10**22. Both are floats without error, so that their quotient is the correctly rounded float, the one msgspec gives
(Clinger, How to read floating point numbers accurately, 1990). A longer number, a sign, an exponent, a null, a name
that is missing once: the page is read by msgspec.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numba import njit

#: What stands before the first bar.
_BEGIN = re.compile(rb'"klines"\s*:\s*\[\s*')
_NUMBER = re.compile(rb"[0-9][0-9.]*")
_NAME = re.compile(rb'"(\w+)"\s*:\s*"?$')

#: Every power of ten that a float holds without error.
_POWERS = 10.0 ** np.arange(23)
_EXACT = 1 << 53
#: Digits that surely fit 64 bits.
_MOST_DIGITS = 18


class Alike(NamedTuple):
    """A page whose bars are written alike.

    Attributes:
        envelope: The body without its bars.
        first: The first bar as it is written.
        columns: The numbers under each name, one a bar.
    """

    envelope: bytes
    first: bytes
    columns: dict[str, np.ndarray]


def read_alike(body: bytes, *, integer: str) -> Alike | None:
    """Return the bars of a page that are all written like its first one, None where they are not.

    Whether the pattern is one of the vendor's is for whoever decodes `envelope` and `first` to say.

    Args:
        body: The page.
        integer: The name under which every bar has a whole number.
    """
    begin = _BEGIN.search(body)
    first_end = body.find(b"}", begin.end()) + 1 if begin else 0
    next_begin = body.find(b"{", first_end)
    if begin is None or not first_end or next_begin < 0:  # no bar, or one alone
        return None
    first, gap = body[begin.end() : first_end], body[first_end:next_begin]
    signs = _NUMBER.split(first)
    names = [found[1].decode() for piece in signs[:-1] if (found := _NAME.search(piece))]
    if gap.strip() != b"," or integer not in names or len({*names}) < len(signs) - 1:
        return None
    signs[0] = gap + signs[0]
    most = (len(body) - begin.end()) // (sum(map(len, signs)) + len(names)) + 1
    columns = np.empty((len(names), most))
    ends = np.cumsum([len(piece) for piece in signs])
    text, pattern = (np.frombuffer(piece, np.uint8) for piece in (body, b"".join(signs)))
    rows, end = _read(text, begin.end(), pattern, ends, len(gap), names.index(integer), _POWERS, columns)
    envelope = body[: begin.end()] + body[end:]
    if not rows or b"\\" in envelope or envelope.count(b'"klines"') != 1:
        return None
    return Alike(envelope, first, dict(zip(names, columns[:, :rows], strict=True)))


@njit(cache=True, nogil=True)
def _read(text, at, pattern, ends, skip, integer, powers, columns):  # type: ignore[no-untyped-def]
    """Fill `columns` with the numbers of the bars from `at` on; return how many bars, and where their list ends.

    The first `skip` bytes of the pattern stand between two bars. No bars where one of them is written otherwise, or
    where the number in place `integer` has a point.
    """
    row, place = 0, skip
    while True:
        for field in range(len(ends)):
            if at + ends[field] - place > len(text):
                return 0, at
            while place < ends[field]:
                if text[at] != pattern[place]:
                    return 0, at
                at, place = at + 1, place + 1
            if field == len(ends) - 1:
                break
            digits, whole, mantissa, first = 0, -1, 0, at
            while at < len(text):
                sign = text[at]
                if 48 <= sign <= 57:
                    mantissa, digits = mantissa * 10 + (sign - 48), digits + 1
                elif sign == 46 and whole < 0:
                    whole = digits
                else:
                    break
                at += 1
            if whole < 0:
                whole = digits
            elif whole == digits or field == integer:
                return 0, at
            if whole == 0 or digits > _MOST_DIGITS or mantissa > _EXACT or (whole > 1 and text[first] == 48):
                return 0, at
            columns[field, row] = mantissa / powers[digits - whole]
        row, place = row + 1, 0
        if at < len(text) and text[at] == 93:
            return row, at
