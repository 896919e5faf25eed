# SPDX-License-Identifier: BSD-3-Clause
"""scatter.py: a device that writes pages all over its client's memory, and the proof of each of them."""
import json
import os

from tap import contains, device, equal, main, run, run_fails, run_ok, test

PAGE = 4096
SLOTS = 1024
OPTIONS = ("--size=1M", "--start", "--rate=50000", "--scatter", "--log=0x100000/%d" % SLOTS)


def prove(uri, path, *options):
    """What the proof says, in exit status and JSON."""
    result = run("prove", uri, "--log", path, "--json", *options)
    proof = json.loads(result.out)
    equal(result.code, 0 if proof["right"] else 1)
    return proof


def flip(path, at):
    with open(path, "r+b") as log:
        log.seek(at)
        byte = log.read(1)[0]
        log.seek(at)
        log.write(bytes([byte ^ 1]))


def write_and_prove(scratch, *options):
    path = os.path.join(scratch, "log")
    with device(scratch, "a", *OPTIONS, *options) as uri:
        log = prove(uri, path, "--wait=5000")["log"]
        assert log["last"] - log["first"] >= 4999, log
        equal((log["pages"], log["pages_wrong"]), (SLOTS, 0))
        assert SLOTS * 9 // 10 < log["pages_written"] <= SLOTS, log
        contains(run_fails("prove", uri, "--wait=10", "--log", path).err, "begins with an empty file")
        # It has gone on without memory; what is in the file is as right as before.
        contains(run_fails("prove", uri, "--log", path).err, "say --since")
        since = "--since=%d" % log["first"]
        equal(prove(uri, path, since)["log"], log)
        contains(run_ok("prove", uri, "--log", path, since).out, "all %d pages right" % SLOTS)
        # One bit of any page.
        page = 77
        flip(path, page * PAGE + 2222)
        proof = prove(uri, path, since)
        equal(proof["log"]["pages_wrong"], 1)
        wrong = proof["log"]["first_wrong"]
        equal((wrong["page"], wrong["iova"]), (page, 0x100000 + page * PAGE))
        contains(proof["error"], "page 77 at IOVA 0x14d000 ")
        equal(wrong["found_step"], wrong["expected_step"])
        flip(path, page * PAGE + 2222)
        equal(prove(uri, path, since)["log"], log)


@test
def through_the_mapping(scratch):
    write_and_prove(scratch)


@test
def by_messages(scratch):
    write_and_prove(scratch, "--dma=message")


@test
def a_log_at_an_odd_address_is_refused(scratch):
    result = run("device", "vfio-user:%s/a.sock" % scratch, "--scatter", "--log=0x100010/16")
    equal(result.code, 2)
    contains(result.err, "a scattered log begins at a multiple of 4096")


main()
