# SPDX-License-Identifier: BSD-3-Clause
"""lint.py: streams that break one rule each, and that the right one is named; streams that break none."""
import json
import os
import subprocess
from struct import pack

from tap import contains, equal, main, run, run_fails, run_ok, test

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")
V1 = os.path.join(GOLDEN, "qemu-7.2-v1.stream")
V2 = os.path.join(GOLDEN, "qemu-10.0-v2-mtty.stream")
START, PART, END, FULL = 1, 2, 3, 4
RAM, DEVICE = 2, 0x26
NAME = "0000:00:01.0/vfio"
HIGH = 0xffffffffef100000
EOS, CONFIG, SETUP, DATA, INIT_SENT, READY = (pack(">Q", HIGH + n) for n in range(1, 7))
RAM_EOS = pack(">Q", 0x10)


def record(kind, number, body, name="", version=1, instance=0):
    named = pack(">B", len(name)) + name.encode() + pack(">II", instance, version) if name else b""
    return pack(">BI", kind, number) + named + body + pack(">BI", 0x7e, number)


def data(content):
    return DATA + pack(">Q", len(content)) + content


def config_space(vendor=0x1b36, capabilities=b""):
    space = bytearray(256)
    space[0:4] = pack("<HH", vendor, 0x1234)
    if capabilities:
        space[6], space[0x34] = 0x10, 0x40
        space[0x40:0x40 + len(capabilities)] = capabilities
    return bytes(space)


def config_record(space=config_space(), version=2, levels=(0, 0, 0, 0)):
    return CONFIG + pack(">I", version) + space + pack(">4I", *levels)


def ram_list(size=0x4000, *blocks):
    blocks = blocks or ((b"pc.ram", 0x3000), (b"rom", 0x1000))
    return pack(">Q", size | 4) + b"".join(pack(">B", len(n)) + n + pack(">Q", s) for n, s in blocks)


def page(address, block=b"pc.ram"):
    return pack(">Q", address | 8 | (0 if block else 0x20)) + \
        (pack(">B", len(block)) + block if block else b"") + bytes(4096)


def configuration(machine, subsections=b""):
    return b"\7" + pack(">I", len(machine)) + machine + subsections


def good():
    """Every record by name, in order: what a stream has to be."""
    return {
        "header": b"QEVM\0\0\0\3",
        "configuration": configuration(b"pc-q35-7.2"),
        "ram start": record(START, RAM, ram_list() + RAM_EOS, "ram", 4),
        "start": record(START, DEVICE, SETUP + EOS, NAME),
        "ram part": record(PART, RAM, page(0) + page(0x2000, b"") + pack(">Q", 0x1002) + b"\6pc.ram\0" + RAM_EOS),
        "part": record(PART, DEVICE, data(b"before") + EOS),
        "ram end": record(END, RAM, RAM_EOS),
        "end": record(END, DEVICE, data(b"behind") + EOS),
        "full": record(FULL, DEVICE, config_record() + EOS, NAME),
        "eof": b"\0",
    }


def written(scratch, stream, name="stream"):
    path = os.path.join(scratch, name)
    with open(path, "wb") as f:
        f.write(stream if isinstance(stream, bytes) else b"".join(stream.values()))
    return path


def rules_of(path, *options):
    """The numbers of the rules that are broken, once each; and the document."""
    result = run("inspect", "--lint", "--json", *options, path)
    document = json.loads(result.out)
    found = sorted({f["rule"] for f in document["findings"]})
    equal(result.code, 1 if found else 0)
    equal(document["rules_broken"], len(found))
    return found, document


def all_rules():
    return {r["rule"]: r for r in run_ok("inspect", "--rules", "--json").json_lines()}


def changed(**by):
    stream = good()
    stream.update({key.replace("_", " "): value for key, value in by.items()})
    return stream


def moved(key, behind):
    stream = good()
    value = stream.pop(key)
    return {k: v + (value if k == behind else b"") for k, v in stream.items()}


def without(*keys):
    return {k: v for k, v in good().items() if k not in keys}


def with_more(key, more):
    stream = good()
    stream[key] += more
    return stream


def cut(key, count):
    stream = b""
    for k, v in good().items():
        if k == key:
            return stream + v[:count]
        stream += v


def pages(*what):
    return changed(ram_part=record(PART, RAM, b"".join(what) + RAM_EOS))


def full_of(body):
    return changed(full=record(FULL, DEVICE, body + EOS, NAME))


def before_memory(stream):
    """With enough behind its devices that a config record may be of the larger kind."""
    memory = {key: stream.pop(key) for key in ("ram part", "ram end", "eof")}
    return {**stream, **memory}


def mapped(version=1, pages_offset=0x100000):
    capabilities = b"\5\x1aconfiguration/capabilities" + pack(">II", 1, 1) + b"\x0amapped-ram"
    stream = changed(configuration=configuration(b"pc", capabilities))
    del stream["ram part"]
    before = len(stream["header"] + stream["configuration"]) + 17 + 8 + 15 + 28
    head = pack(">Q", 0x3000 | 4) + b"\6pc.ram" + pack(">Q", 0x3000)
    body = head + pack(">IQQQ", version, 4096, before, pages_offset)
    body = (body + b"\5" + bytes(7)).ljust(pages_offset + 0x3000 - before + len(body), b"\0")
    stream["ram start"] = record(START, RAM, body + RAM_EOS, "ram", 4)
    return stream


def golden():
    with open(V1, "rb") as f:
        return f.read()


def golden_without(name):
    """A golden stream without one FULL section, which its description still has."""
    records = json.loads(run_ok("inspect", "--json", V1).out)["records"]
    at = next(i for i, r in enumerate(records) if r.get("id") == name)
    begin, last = records[at]["offset"], records[at + 1]
    return golden()[:begin] + golden()[last["offset"] + last["length"]:]


def described(*names):
    devices = [{"name": n, "instance_id": 0, "fields": [{"name": "data", "size": 288}]} for n in names]
    text = json.dumps({"devices": devices}).encode()
    return with_more("eof", b"\6" + pack(">I", len(text)) + text)


def fuller(number, name):
    return with_more("full", record(FULL, number, bytes(4), name))


def packet(index, content=b"state", config=False, magic=0x11223344, version=1, flags=0x40, name=NAME, size=None,
           inner=0, inner_flags=None):
    """A device's, as it goes over a channel."""
    body = pack(">III", inner, index, (1 if config else 0) if inner_flags is None else inner_flags) + content
    return pack(">III", magic, version, flags) + name.encode().ljust(256, b"\0") + \
        pack(">II", 0, len(body) if size is None else size) + body


def channel(*packets, version=1):
    packets = packets or (packet(0), packet(2), packet(1), packet(3, config_record() + EOS, True))
    return pack(">II", 0x11223344, version) + bytes(16) + b"\1" + bytes(39) + b"".join(packets)


CASES = [
    (1, lambda: changed(header=b"GIF89a\0\3")),
    (2, lambda: changed(header=b"QEVM\0\0\0\4")),
    (3, lambda: cut("end", 20)),
    (3, lambda: cut("header", 6)),
    (4, lambda: changed(configuration=b"\7\0\0\0\0")),
    (5, lambda: changed(configuration=configuration(b"pc", b"\5\4what\0\0\0\1"))),
    (6, lambda: with_more("start", configuration(b"pc-q35-7.2"))),
    (7, lambda: changed(part=b"\x33" + good()["part"])),
    (8, lambda: changed(start=good()["start"].replace(b"00:01.0", b"00\0001.0"))),
    (9, lambda: with_more("start", record(START, DEVICE, SETUP + EOS, "0000:00:02.0/vfio"))),
    (10, lambda: with_more("start", record(START, DEVICE + 1, SETUP + EOS, NAME))),
    (11, lambda: changed(full=record(FULL, DEVICE, config_record() + EOS, "0000:00:02.0/vfio"))),
    (12, lambda: with_more("full", good()["full"])),
    (13, lambda: without("start")),
    (14, lambda: moved("part", "end")),
    (15, lambda: changed(part=good()["part"][:-5])),
    (16, lambda: changed(part=good()["part"][:-1] + b"\x27")),
    (17, lambda: without("end", "full")),
    (18, lambda: with_more("part", b"\x08\0\2\0\2xx")),
    (19, lambda: with_more("part", b"\x08\0\3\0\0")),
    (19, lambda: with_more("part", b"\x08\0\4\0\0")),
    (20, lambda: with_more("start", b"".join(record(START, 100 + i, SETUP + EOS, NAME, instance=i + 1)
                                             for i in range(1024)))),
    (21, lambda: with_more("start", record(START, 9, b"whatever", "slirp"))),
    (22, lambda: without("configuration")),
    (23, lambda: with_more("part", b"\x08\0\x63\0\0")),
    (30, lambda: with_more("eof", b"\x07")),
    (31, lambda: with_more("eof", b"\6\xff\xff\xff\xff{}")),
    (32, lambda: with_more("eof", b"\6\0\0\0\2{,")),
    (33, lambda: fuller(9, "timer")),
    (34, lambda: golden() + b"behind"),
    (35, lambda: with_more("eof", b"\6\0\0\0\x0c{\"vfmig\":{}}")),
    (37, lambda: golden_without("timer")),
    (37, lambda: described(NAME, "gone")),
    (38, lambda: described()),
    (40, lambda: changed(part=record(PART, DEVICE, pack(">Q", HIGH + 9) + EOS))),
    (41, lambda: full_of(config_record(version=3))),
    (42, lambda: before_memory(full_of(config_record(space=config_space()[:-1])))),
    (43, lambda: full_of(config_record() + b"\5\5VFIOx" + bytes(2 << 20))),
    (44, lambda: changed(start=record(START, DEVICE, EOS, NAME))),
    (44, lambda: changed(part=record(PART, DEVICE, SETUP + EOS))),
    (45, lambda: moved("full", "part")),
    (45, lambda: changed(full=b"", end=record(END, DEVICE, config_record() + EOS))),
    (46, lambda: without("full")),
    (48, lambda: full_of(data(b"late") + config_record())),
    (49, lambda: changed(full=record(FULL, DEVICE, config_record() + EOS, NAME, 2))),
    (50, lambda: changed(end=record(END, DEVICE, INIT_SENT))),
    (50, lambda: with_more("part", 2 * record(PART, DEVICE, INIT_SENT))),
    (51, lambda: full_of(config_record(levels=(0, 0, 2, 0)))),
    (52, lambda: full_of(config_record(b"\xff" * 6 + b"\0" + b"\xff" * 249))),
    (53, lambda: full_of(config_record(config_space(capabilities=b"\5\x48\0\0\0\0\0\0\1\x40")))),
    (53, lambda: full_of(config_record(config_space(capabilities=b"\5\x10")))),
    (60, lambda: changed(ram_start=record(START, RAM, ram_list() + RAM_EOS, "ram", 3))),
    (61, lambda: pages(pack(">Q", 0x400))),
    (62, lambda: pages(pack(">Q", 0x80))),
    (63, lambda: changed(ram_start=record(START, RAM, ram_list(0x2000) + RAM_EOS, "ram", 4))),
    (64, lambda: pages(page(0, b""))),
    (65, lambda: pages(pack(">Q", 0x40) + b"\6pc.ram\1\xff\xff")),
    (66, lambda: mapped(version=2)),
    (67, lambda: pages(page(0x3000))),
    (68, lambda: pages(page(0, b"gone"))),
    (69, lambda: changed(ram_start=record(START, RAM, ram_list(0x4000, (b"rom", 0x3000), (b"rom", 0x1000)) + RAM_EOS,
                                          "ram", 4), ram_part=record(PART, RAM, RAM_EOS))),
    (3, lambda: channel(packet(0)[:200])),
    (3, lambda: channel(packet(0))[:40]),
    (80, lambda: channel(packet(0), packet(1, magic=0x11223345))),
    (81, lambda: channel(version=2)),
    (81, lambda: channel(packet(0, version=2))),
    (81, lambda: channel(packet(0, inner=1))),
    (82, lambda: channel(packet(0, flags=0x41))),
    (82, lambda: channel(packet(0, inner_flags=2))),
    (83, lambda: channel(packet(0, name="x" * 256))),
    (84, lambda: channel(packet(0, size=11))),
    (85, lambda: channel(packet(0), packet(1), packet(0))),
    (86, lambda: channel(packet(1, config_record() + EOS, True), packet(2))),
    (42, lambda: channel(packet(1, config_record()[:-4] + EOS, True), packet(2, bytes(8192)))),
    (52, lambda: channel(packet(1, config_record(b"\xff" * 6 + b"\0" + b"\xff" * 249) + EOS, True))),
]


def without_shared():
    """As with x-ignore-shared: each block has an address as well."""
    capabilities = b"\5\x1aconfiguration/capabilities" + pack(">II", 1, 1) + b"\x0fx-ignore-shared"
    blocks = pack(">Q", 0x4004) + b"\6pc.ram" + pack(">QQ", 0x3000, 0) + b"\3rom" + pack(">QQ", 0x1000, 0xf0000)
    return changed(configuration=configuration(b"pc-q35-7.2", capabilities),
                   ram_start=record(START, RAM, blocks + RAM_EOS, "ram", 4))


def over_channels(end):
    """What stands in a stream of a device whose last data and record went over channels."""
    return changed(end=b"\x08\0\x0b\0\0" + record(END, DEVICE, EOS), full=record(FULL, DEVICE, end, NAME))


@test
def good_streams_break_no_rule(scratch):
    saved = os.path.join(scratch, "saved")
    run_ok("save", "sim:size=64K", "-o", "file:" + saved)
    for path in (V1, V2, saved, written(scratch, good()), written(scratch, mapped(), "mapped"),
                 written(scratch, over_channels(EOS), "over channels"),
                 written(scratch, over_channels(READY), "over channels, on Arm"),
                 written(scratch, channel(), "channel"), written(scratch, without_shared(), "without shared")):
        equal(rules_of(path)[0], [])
        contains(run_ok("inspect", "--lint", path).out, "no rule is broken: %d bytes" % os.path.getsize(path))


@test
def ids_that_are_not_ascii(scratch):
    """What is shown of one may be four times as long as it is."""
    path = os.path.join(scratch, "saved")
    run_ok("save", "sim:size=64K", "--id", 40 * "\u00e9" + "/vfio", "-o", "file:" + path)
    equal(rules_of(path)[0], [])
    contains(run_ok("inspect", path, path).out, "no difference")


@test
def each_broken_stream_breaks_its_rule_and_no_other(scratch):
    names = all_rules()
    for number, make in CASES:
        path = written(scratch, make())
        found, document = rules_of(path)
        assert found == [number], "a stream made for rule %d (%s): %r" % (number, names[number]["name"], document)
        finding = document["findings"][0]
        assert 0 <= finding["offset"] <= os.path.getsize(path), finding
        for key in ("name", "sentence", "reference", "fix"):
            equal(finding[key], names[number][key])
    assert len({number for number, _ in CASES}) >= 30


@test
def from_a_pipe_as_well(scratch):
    for number, make in CASES:
        if number in (34, 37):  # what only a file's end tells; the golden stream is found by its description
            continue
        path = written(scratch, make())
        with open(path, "rb") as f:
            cat = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
            result = run("inspect", "--lint", "--json", "-", stdin=cat.stdout)
            cat.stdout.close()
            cat.wait()
        equal(sorted({f["rule"] for f in json.loads(result.out)["findings"]}), [number])


@test
def said_in_words(scratch):
    path = written(scratch, moved("full", "part"))
    result = run_fails("inspect", "--lint", path)
    contains(result.err, "1 rule is broken")
    at = sum(len(v) for k, v in good().items() if k in ("header", "configuration", "ram start", "start", "ram part",
                                                        "part"))
    contains(result.out, "%#012x  rule 45, config-early: the config record of %s before its END" % (at + 31, NAME))
    contains(result.out, "See vfmig-stream(5), VFIO SECTIONS")
    contains(result.out, "To do: write it in FULL")


@test
def every_truncation_is_rule_3(scratch):
    whole = b"".join(good().values())
    path = os.path.join(scratch, "stream")
    for length in [*range(0, 300, 7), *range(len(whole) - 400, len(whole), 11)]:
        with open(path, "wb") as f:
            f.write(whole[:length])
        equal(rules_of(path)[0], [3])


@test
def many_of_one_rule_are_counted(scratch):
    path = written(scratch, pages(*[page(0x4000 + 4096 * i) for i in range(20)]))
    contains(run_fails("inspect", "--lint", path).out, "rule 67: 12 more like these")


@test
def the_machine_of_the_destination(scratch):
    for machine, expected in (("pc-q35-7.2", []), ("pc-q35-8.0", [90]), ("pc-i440fx-7.2", [91]), ("virt-7.2", [91])):
        equal(rules_of(V1, "--machine", machine)[0], expected)
    contains(run_fails("inspect", "--lint", "--machine", "pc-q35-8.0", V1).out,
             "start the destination with -machine and the stream's name")


@test
def a_changed_byte_of_a_sealed_stream(scratch):
    path = os.path.join(scratch, "saved")
    run_ok("save", "sim:size=64K", "-o", "file:" + path)
    with open(path, "r+b") as f:
        f.seek(30000)
        old = f.read(1)
        f.seek(30000)
        f.write(bytes([old[0] ^ 1]))
    equal(rules_of(path)[0], [36])


@test
def rules_have_numbers_of_their_own(scratch):
    listed = run_ok("inspect", "--rules", "--json").json_lines()
    equal(len({r["rule"] for r in listed}), len(listed))
    equal(len({r["name"] for r in listed}), len(listed))
    equal([r["rule"] for r in listed], sorted(r["rule"] for r in listed))


@test
def usage(scratch):
    for arguments in (["--lint"], ["--machine", "pc", V1], ["--lint", "--extract", NAME, "-o", "x", V1]):
        equal(run("inspect", *arguments).code, 2)


main()
