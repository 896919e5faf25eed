# SPDX-License-Identifier: BSD-3-Clause
"""inspect_stream.py: what is in a stream, and parts of it in files."""
import hashlib
import json
import os
import re
import subprocess

from extract_reference import extract
from tap import contains, equal, main, run, run_fails, run_ok, test

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")
ID = "0000:00:01.0/vfio"
V1 = os.path.join(GOLDEN, "qemu-7.2-v1.stream")
V2 = os.path.join(GOLDEN, "qemu-10.0-v2-mtty.stream")
NUMBER = {V1: b"\0\0\0\x26", V2: b"\0\0\0\x25"}


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def records(path, **wanted):
    document = json.loads(run_ok("inspect", "--json", path).out)
    return [r for r in document["records"] if all(r.get(k) == v for k, v in wanted.items())]


def saved(scratch):
    path = os.path.join(scratch, "stream")
    run_ok("save", "sim:size=64K", "-o", "file:" + path)
    return path


@test
def data_equals_an_independent_extraction(scratch):
    for path, size in ((V1, 262144), (V2, 96)):
        into = os.path.join(scratch, "data")
        run_ok("inspect", path, "--extract", ID, "-o", into)
        expected = extract(read(path), NUMBER[path])
        equal(len(expected), size)
        equal(hashlib.sha256(read(into)).hexdigest(), hashlib.sha256(expected).hexdigest())


@test
def config_space_is_extracted(scratch):
    for path, ids, size in ((V1, b"\x36\x1b\x34\x12", 256), (V2, b"\x48\x43\x53\x32", 4096)):
        into = os.path.join(scratch, "config")
        run_ok("inspect", path, "--extract-config", ID, "-o", into)
        equal(len(read(into)), size)
        equal(read(into)[:4], ids)


@test
def extracting_what_is_not_there(scratch):
    into = os.path.join(scratch, "data")
    contains(run_fails("inspect", V1, "--extract", "0000:00:09.0/vfio", "-o", into).err, "0000:00:09.0/vfio")
    broken = write(os.path.join(scratch, "broken"), read(V1)[:400000])
    contains(run_fails("inspect", broken, "--extract", ID, "-o", into).err, "offset 0x61a80")
    equal(os.listdir(scratch), ["broken"])


@test
def every_section_to_the_last_byte(scratch):
    for path in (V1, V2):
        at = 0
        for r in records(path):
            if r["type"] == "packet":
                continue
            if r["type"] == "section-end":
                at += r["bytes"]
            equal(r["offset"], at)
            at += r["length"]
        equal(at, os.path.getsize(path))


@test
def packets_with_offset_and_size(scratch):
    found = [(r["offset"], r["packet"], r["bytes"]) for r in records(V1, type="packet")]
    equal(found, [(0xe0, "SETUP", 0), (0xe8, "END_OF_STATE", 0), (0x3c5bf, "DATA", 0), (0x3c5cf, "END_OF_STATE", 0),
                  (0x3c5f3, "DATA", 65536), (0x4c603, "DATA", 65536), (0x5c613, "DATA", 65536),
                  (0x6c623, "DATA", 65536),
                  (0x7c633, "END_OF_STATE", 0), (0x8449b, "CONFIG", 276), (0x845b7, "END_OF_STATE", 0)])


@test
def config_space_is_decoded(scratch):
    (packet,) = records(V2, packet="CONFIG")
    config = packet["config"]
    equal((config["vendor"], config["device"], config["space_bytes"]), (0x4348, 0x3253, 4096))
    contains(config["class_name"], "Serial controller")
    equal([bar["kind"] for bar in config["bars"]], ["io", "io"])
    equal(config["intx_levels"], [0, 0, 0, 0])
    contains(run_ok("inspect", V1).out, " 1b36:1234 (no name known)\n")


@test
def text_and_json_have_the_same_records(scratch):
    for path in (V1, saved(scratch)):
        text = run_ok("inspect", "--packets", path).out
        shown = {int(line.split()[0], 16) for line in text.splitlines() if line.startswith("0x")}
        plain = {r["offset"] for r in records(path) if r["type"] != "section-end"}
        equal(plain - shown, set())
        for r in records(path, type="section"):
            contains(text, "%#012x  %-5s %s  section %#x" % (r["offset"], r["kind"], r["id"], r["section_id"]))


@test
def own_stream_is_verified(scratch):
    path = saved(scratch)
    contains(run_ok("inspect", path).out, "nothing was changed since vfmig wrote it")
    (description,) = records(path, type="description")
    equal((description["verified"], description["vfmig"]["version"]), (True, 2))
    (device,) = description["vfmig"]["devices"]
    equal(device["data_bytes"], sum(r["bytes"] for r in records(path, packet="DATA")))
    document = json.loads(run_ok("inspect", "--json", path).out)
    equal(document["result"], {"intact": True, "bytes": os.path.getsize(path), "vfmig": True, "layout": "stream",
                               "verified": True, "error": None})


@test
def a_changed_byte_is_found(scratch):
    data = bytearray(read(saved(scratch)))
    for at in (20, len(data) // 2, len(data) - 10):
        data[at] ^= 0x10
        path = write(os.path.join(scratch, "changed"), data)
        data[at] ^= 0x10
        contains(run_fails("inspect", path).err, "offset 0x")
        result = run("inspect", "--json", path)
        equal(result.code, 1)
        equal(json.loads(result.out)["result"]["intact"], False)


@test
def a_broken_stream_is_shown_as_far_as_it_goes(scratch):
    path = write(os.path.join(scratch, "cut"), read(V1)[:300])
    result = run_fails("inspect", path)
    contains(result.out, "START " + ID)
    contains(result.err, "offset 0x12c: the stream ends in the middle of section 'ram' (PART)")
    assert result.out.endswith("\n"), result.out


@test
def ids_cannot_command_a_terminal(scratch):
    evil = read(V1).replace(b"0000:00:01.0/vfio", b"\x1b[2J\xff0000000/vfio", 1)
    result = run_fails("inspect", write(os.path.join(scratch, "evil"), evil))
    assert re.fullmatch(r"[\n -~]*", result.out + result.err), result.out + result.err
    contains(result.out, "\\x1b[2J\\xff0000000/vfio")


@test
def from_a_pipe_and_a_command(scratch):
    with open(V1, "rb") as f:
        cat = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
    piped = run_ok("inspect", "-", stdin=cat.stdout).out
    cat.stdout.close()
    cat.wait()
    equal(piped, run_ok("inspect", V1).out)
    equal(run_ok("inspect", "exec:cat '%s'" % V1).out, piped)


@test
def usage(scratch):
    for arguments in ([], ["a", "b", "c"], ["a", "b", "--lint"], ["a", "--extract", ID], ["a", "-o", "b"],
                      ["a", "--extract", ID, "--extract-config", ID, "-o", "b"]):
        equal(run("inspect", *arguments).code, 2)


main()
