# SPDX-License-Identifier: BSD-3-Clause
"""inspect_parts.py: packets in a row, bytes, streams that begin later in a file, two streams compared, large files."""
import json
import os
import subprocess
import tempfile
from struct import pack

from tap import VFMIG, contains, equal, main, run, run_fails, run_ok, test

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")
ID = "0000:00:01.0/vfio"
V1 = os.path.join(GOLDEN, "qemu-7.2-v1.stream")
V2 = os.path.join(GOLDEN, "qemu-10.0-v2-mtty.stream")
GIB = 1 << 30
LIMIT = 256 << 20  # of memory, for 100 GiB; what the child of this process begins with is counted


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(scratch, name, *pieces):
    path = os.path.join(scratch, name)
    with open(path, "wb") as f:
        for piece in pieces:
            f.write(piece)
    return path


def result_of(*arguments, **kwargs):
    return json.loads(run_ok("inspect", "--json", *arguments, **kwargs).out)["result"]


@test
def packets_in_a_row_share_a_line(scratch):
    contains(run_ok("inspect", V1).out, "0x000003c5f3    DATA  4 packets, 262144 bytes\n")
    each = run_ok("inspect", "--packets", V1).out
    equal(each.count("    DATA 65536 bytes\n"), 4)
    assert "packets, " not in each, each
    contains(run_ok("inspect", V2).out, "    DATA 24 bytes\n")  # one alone has its own


def dumped(text):
    """Offset and byte, of every row."""
    found = {}
    for line in text.splitlines():
        fields = line[16:64].split()
        if line.startswith("0x") and line[12:16] == "    " and all(len(f) == 2 for f in fields):
            try:
                found.update({int(line[:12], 16) + i: int(f, 16) for i, f in enumerate(fields)})
            except ValueError:  # a packet's name
                pass
    return found


@test
def bytes_are_those_of_the_file(scratch):
    for path, name in ((V1, "timer"), (V2, ID), (V1, "ram")):
        stream, records = read(path), json.loads(run_ok("inspect", "--json", path).out)["records"]
        expected, inside = {}, None
        for r in records:
            if r["type"] == "section" and r["id"] == name:
                inside = r["offset"] + r["length"]
            elif r["type"] == "section-end" and inside:
                expected.update({at: stream[at] for at in range(inside, r["offset"])})
                inside = None
        got = dumped(run_ok("inspect", "--hexdump", name, path).out)
        assert got == expected and len(got) > 20, "%d bytes, expected %d" % (len(got), len(expected))


@test
def a_stream_that_begins_later(scratch):
    path = write(scratch, "later", bytes(8192), read(V1))
    contains(run_fails("inspect", path).err, "one begins at 0x2000: --offset 8192")
    found = run_ok("inspect", "--offset", "8K", path).out
    contains(found, "0x0000002000  QEVM")
    contains(found, "intact: %d bytes" % os.path.getsize(V1))
    equal(result_of("--offset", "8192", path)["bytes"], os.path.getsize(V1))
    into = os.path.join(scratch, "data")
    run_ok("inspect", "--offset", "8192", path, "--extract", ID, "-o", into)
    equal(os.path.getsize(into), 262144)
    contains(run_fails("inspect", "--offset", "8192", "exec:cat '%s'" % path).err, "only in a file")


@test
def a_stream_that_is_packed(scratch):
    path = os.path.join(scratch, "packed")
    with open(path, "wb") as f:
        subprocess.run(["gzip", "-c", V1], stdout=f, check=True)
    contains(run_fails("inspect", path).err, "packed by gzip: inspect exec:'gzip -dc FILE'")
    contains(run_ok("inspect", "exec:gzip -dc '%s'" % path).out, "intact")


def changed(scratch, *changes):
    """A golden stream with bytes of its config space changed, or others."""
    stream = bytearray(read(V1))
    at = stream.index(pack(">QI", 0xffffffffef100002, 2)) + 12
    for register, value in changes:
        stream[at + register:at + register + len(value)] = value
    return write(scratch, "changed", stream)


def differences(*arguments):
    result = run("inspect", "--json", *arguments)
    found = json.loads(result.out)
    equal(result.code, 1 if found["count"] else 0)
    equal(found["count"], len(found["differences"]))
    return [(d["where"], d["what"], d["a"], d["b"]) for d in found["differences"]]


@test
def a_stream_does_not_differ_from_itself(scratch):
    equal(differences(V1, V1), [])
    contains(run_ok("inspect", V2, V2).out, "no difference but in ram's pages")


@test
def registers_by_their_names(scratch):
    path = changed(scratch, (0x04, b"\x07\x01"), (0x12, b"\xee\xfe"), (0x40, b"\1"), (0x3c, b"\x0b"),
                   (256, pack(">I", 1)))
    equal(differences(V1, path), [
        (ID, "command", "0000", "0107"), (ID, "BAR 0", "00000000", "feee0000"),
        (ID, "interrupt line", "00", "0b"), (ID, "[040]", "00000000", "00000001"), (ID, "INTA level", "0", "1")])
    result = run_fails("inspect", V1, path)
    contains(result.err, "differ")
    contains(result.out, "%-24s %-32s 0000 | 0107\n" % (ID, "command"))


@test
def a_capability_by_its_name(scratch):
    listed = ((0x06, b"\x10"), (0x34, b"\x40"), (0x40, b"\x05\0"))
    a = read(changed(scratch, *listed))
    b = read(changed(scratch, *listed, (0x44, b"\x04")))
    equal(differences(write(scratch, "a", a), write(scratch, "b", b)), [(ID, "MSI [040]+4", "00000000", "00000004")])


@test
def sections_machine_and_memory(scratch):
    found = differences(V1, V2)
    for expected in (("configuration", "machine", "pc-q35-7.2", "pc-q35-10.0"),
                     ("ram", "bytes of block pc.ram", str(16 << 20), str(64 << 20)),
                     (ID, "bytes of data", "262144", "96"), (ID, "vendor", "1b36", "4348")):
        assert expected in found, found
    saved = os.path.join(scratch, "saved")
    run_ok("save", "sim:size=64K", "-o", "file:" + saved)
    gone = [(where, a) for where, what, a, b in differences(V1, saved) if what.startswith("section,") and b == "none"]
    assert ("timer", "24 bytes") in gone and ("cpu", "1851 bytes") in gone, gone


@test
def data_that_differs(scratch):
    stream = bytearray(read(V1))
    stream[0x40000] ^= 1
    ((where, what, a, b),) = differences(V1, write(scratch, "changed", stream))
    equal((where, what), (ID, "data, as a digest"))
    assert a != b


@test
def a_broken_one_is_named(scratch):
    path = write(scratch, "cut", read(V1)[:400000])
    contains(run_fails("inspect", V1, path).err, "vfmig inspect: %s: offset 0x61a80: " % path)


def with_little_memory(*arguments):
    """What it printed, on both outputs; it never had more than LIMIT bytes."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([VFMIG, "inspect", *arguments], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert usage.ru_maxrss << 10 < LIMIT, "%d KiB of memory" % usage.ru_maxrss
        output.seek(0)
        return process.returncode, output.read().decode()


def sparse(scratch, before, hole, behind):
    path = write(scratch, "large", before)
    with open(path, "r+b") as f:
        f.seek(len(before) + hole)
        f.write(behind)
    return path


HEAD = b"QEVM\0\0\0\3\7\0\0\0\2pc"
EOS = pack(">Q", 0xffffffffef100001)


def footer(number):
    return pack(">BI", 0x7e, number)


@test
def mapped_memory_of_100_gib(scratch):
    head = HEAD + b"\5\x1aconfiguration/capabilities" + pack(">II", 1, 1) + b"\x0amapped-ram"
    head += pack(">BIB", 1, 2, 3) + b"ram" + pack(">II", 0, 4) + pack(">Q", 100 * GIB | 4) + b"\2pc"
    bitmap = len(head) + 8 + 28
    pages = 16 << 20
    head += pack(">QIQQQ", 100 * GIB, 1, 4096, bitmap, pages) + b"\x55" * 64
    end = pack(">Q", 0x10) + footer(2) + pack(">BIQ", 3, 2, 0x10) + footer(2) + b"\0"
    path = sparse(scratch, head, pages + 100 * GIB - len(head), end)
    code, out = with_little_memory(path)
    equal(code, 0)
    contains(out, "block pc  %d bytes, bitmap at %#x, pages at %#x\n" % (100 * GIB, bitmap, pages))
    contains(out, "block pc  %d bytes, pages: 256 mapped\n" % (100 * GIB))
    contains(out, "intact: %d bytes with memory in its place in the file" % os.path.getsize(path))
    equal(with_little_memory("--lint", path)[0], 0)
    with open(path, "r+b") as f:
        f.truncate(50 * GIB)
    contains(with_little_memory(path)[1], "offset %#x: the stream ends" % (50 * GIB))


@test
def a_device_of_100_gib(scratch):
    head = HEAD + pack(">BIB", 1, 5, 6) + b"a/vfio" + pack(">II", 0, 1) + pack(">Q", 0xffffffffef100003) + EOS
    head += footer(5) + pack(">BIQQ", 3, 5, 0xffffffffef100004, 100 * GIB)
    end = EOS + footer(5) + pack(">BIB", 4, 5, 6) + b"a/vfio" + pack(">II", 0, 1) + \
        pack(">Q", 0xffffffffef100002) + EOS + footer(5) + b"\0"
    path = sparse(scratch, head, 100 * GIB, end)
    code, out = with_little_memory(path)
    equal(code, 0)
    contains(out, "DATA %d bytes\n" % (100 * GIB))
    equal(with_little_memory("--lint", path)[0], 0)


main()
