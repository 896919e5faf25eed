#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Takes a VFIO device's data out of a stream's raw bytes: extract_reference.py STREAM SECTION_NUMBER"""
import re
import sys
from struct import unpack_from

END, DATA = b"\xff\xff\xff\xff\xef\x10\x00\x01", b"\xff\xff\xff\xff\xef\x10\x00\x04"


def extract(stream, number):
    """Every PART (02) and END (03) of the section: {DATA, be64 size, bytes}..., END_OF_STATE, 7e and the number."""
    data, at = b"", 0
    while (head := re.compile(b"[\x02\x03]" + re.escape(number) + b"(?=\xff{4}\xef\x10\0)").search(stream, at)):
        at = head.end()
        while stream[at:at + 8] == DATA:
            size = unpack_from(">Q", stream, at + 8)[0]
            data, at = data + stream[at + 16:at + 16 + size], at + 16 + size
        assert stream[at:at + 13] == END + b"\x7e" + number
    return data


if __name__ == "__main__":
    sys.stdout.buffer.write(extract(open(sys.argv[1], "rb").read(), int(sys.argv[2], 0).to_bytes(4, "big")))
