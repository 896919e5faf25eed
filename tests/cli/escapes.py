# SPDX-License-Identifier: BSD-3-Clause
"""escapes.py: what a stream or a file named is printed without a byte that a terminal obeys, and JSON is UTF-8."""
import json
import os

from tap import contains, equal, main, run, test

# The title and the screen of a terminal, a line of our own, C1's CSI, what is not UTF-8.
NAME = b"a\x1b]0;title\x07\x1b[2J\nvfmig: b\xc2\x9b31m\xff\xed\xa0\x80z"
SHOWN = "a\\x1b]0;title\\x07\\x1b[2J\\x0avfmig: b\\xc2\\x9b31m\\xff\\xed\\xa0\\x80z"
SETUP, END_OF_STATE = 0xffffffffef100003, 0xffffffffef100001


def be(size, value):
    return value.to_bytes(size, "big")


def header(machine=b"pc-q35-7.2"):
    return b"QEVM" + be(4, 3) + b"\x07" + be(4, len(machine)) + machine


def begin(kind, section, name, version=1):
    return bytes([kind]) + be(4, section) + bytes([len(name)]) + name + be(4, 0) + be(4, version)


def footer(section):
    return b"\x7e" + be(4, section)


def vfio(section, name):
    return begin(1, section, name + b"/vfio") + be(8, SETUP) + be(8, END_OF_STATE) + footer(section)


def blocks(name):
    return begin(1, 2, b"ram", 4) + be(8, 4096 | 4) + bytes([len(name)]) + name + be(8, 4096) + be(8, 0x10) + footer(2)


STREAMS = {
    "machine": header(NAME) + vfio(1, b"0000:00:01.0"),
    "subsection": header() + b"\x05" + bytes([len(NAME)]) + NAME + be(4, 1),
    "capability": header() + b"\x05\x1aconfiguration/capabilities" + be(4, 1) + be(4, 1) + bytes([len(NAME)]) + NAME +
                  vfio(1, b"0000:00:01.0"),
    "device": header() + vfio(1, NAME),
    "devices": header() + vfio(1, NAME) + vfio(2, NAME + b"2"),
    "twice": header() + vfio(1, NAME) + vfio(1, NAME),
    "section": header() + begin(1, 1, NAME) + b"abc" + footer(1) + b"\0",
    "full": header() + begin(4, 1, NAME) + b"abc" + footer(1) + b"\0",
    "block": header() + blocks(NAME),
    "page": header() + blocks(b"ram") + b"\x02" + be(4, 2) + be(8, 8) + bytes([len(NAME)]) + NAME + bytes(4096),
}


def check(where, data):
    """Printable lines of UTF-8 only."""
    text = data.decode()
    bad = [c for c in text if c != "\n" and (ord(c) < 0x20 or 0x7f <= ord(c) < 0xa0)]
    assert not bad, "%s: raw %r in %r" % (where, bad, text)
    return text


def looked_at(name, path, scratch):
    """All that reads a stranger's stream."""
    load = ["load", "sim:size=64K,interface=v2", "-i", "file:" + path]
    for arguments in (["inspect", path], ["inspect", "--json", path], ["inspect", "--lint", path],
                      ["inspect", "--lint", "--json", path], ["inspect", path, path + ".plain"],
                      ["inspect", "--lint", "--machine", "pc", path], load, load + ["-v"], load + ["--json"],
                      load + ["--no-verify-first", "--memory", "ram=%s/memory,size=4096" % scratch]):
        result = run(*arguments, text=False)
        out = check((name, arguments, "stdout"), result.out)
        check((name, arguments, "stderr"), result.err)
        if "--json" in arguments and arguments[0] == "load":
            yield "".join(json.loads(line).get("error") or "" for line in out.splitlines())
        elif "--json" in arguments:
            json.loads(out)
        yield out + result.err.decode()


@test
def what_a_stream_named(scratch):
    """No line begins with what the stream said, and its bytes are shown as \\xNN."""
    for name, stream in STREAMS.items():
        path = "%s/%s" % (scratch, name)
        for file, data in (path, stream), (path + ".plain", STREAMS["machine"].replace(NAME, b"x" * len(NAME))):
            with open(file, "wb") as f:
                f.write(data)
        shown = 0
        for text in looked_at(name, path, scratch):
            assert not any(line.startswith("vfmig: b") for line in text.splitlines()), text
            shown += SHOWN in text
        assert shown, "%s is nowhere told" % name


@test
def a_text_that_is_fine_stays_so(scratch):
    """UTF-8 is no reason for escapes."""
    name = "Gerät\\x1b ✓"
    with open(scratch + "/state", "wb") as f:
        f.write(header() + begin(1, 1, name.encode()) + b"abc" + footer(1) + b"\0")
    result = run("load", "sim:size=64K,interface=v2", "-i", "file:%s/state" % scratch, "--json", text=False)
    contains(json.loads(result.out.decode().splitlines()[-1])["error"], "'%s'" % name)


@test
def more_than_can_be_read(scratch):
    """A stream has any number of sections: the first few are told, and how many more there were."""
    sections = b"".join(vfio(n, b"%d" % n) for n in range(1, 41))
    with open(scratch + "/state", "wb") as f:
        f.write(header() + sections + b"\0")
    result = run("load", "sim:size=64K,interface=v2", "--id", "none/vfio", "-i", "file:%s/state" % scratch,
                 "--no-verify-first")
    equal(result.code, 1)
    lines = [line for line in result.err.splitlines() if "is left out" in line]
    equal(len(lines), 9)
    contains(lines[8], "and 32 more like it; the last one: section 40/vfio is left out")


@test
def a_file_s_name(scratch):
    """Standard error again is lines, whatever is given."""
    path = os.path.join(scratch.encode(), b"x\x1b[2J\xff")
    for arguments in ([b"inspect", path], [b"load", b"sim:size=64K", b"-i", b"file:" + path],
                      [b"probe", b"vfio-user:" + path]):
        result = run(*arguments, text=False)
        equal(result.code, 1)
        contains(check(arguments, result.err), "x\\x1b[2J\\xff")
    result = run(b"load", b"sim:size=64K", b"-i", b"file:" + path, b"--json", text=False)
    contains(json.loads(check("json", result.out))["error"], "x\\x1b[2J\\xff")


main()
