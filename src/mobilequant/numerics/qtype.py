"""Number formats as data: everything else in the project takes a ``QType``, never a pile of flags."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QType:
    """An integer format: ``num_bits`` wide, with codes in ``[qmin, qmax]``.

    ``storage`` is the numpy dtype that holds one code in memory (4-bit codes are packed two per byte on disk).
    """

    name: str
    num_bits: int
    qmin: int
    qmax: int
    storage: str


INT4 = QType("int4", 4, -8, 7, "int8")
INT8 = QType("int8", 8, -127, 127, "int8")  # -128 is left out: a code can always be negated
UINT8 = QType("uint8", 8, 0, 255, "uint8")
INT16 = QType("int16", 16, -32767, 32767, "int16")

BY_NAME = {qtype.name: qtype for qtype in (INT4, INT8, UINT8, INT16)}
