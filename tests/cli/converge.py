# SPDX-License-Identifier: BSD-3-Clause
"""converge.py: a device that is never done: bandwidth limited, time limited, and who decides then."""
import json
import os
import pty
import select
import socket
import struct
import time

from tap import contains, device, equal, finish, main, run, run_fails, run_ok, start, state_of, test

NEVER = ["--size", "1M", "--start", "--rate", "20000"]  # it writes ten times as fast as it is sent
TIMED = ["--downtime-limit", "1", "--precopy-timeout", "300", "--max-bandwidth", "8M", "-o", "null:"]


@test
def bandwidth_is_kept_while_it_works(scratch):
    out = run_ok("save", "sim:size=1M", "-o", "null:", "--json", "--max-bandwidth", "4M").json_lines()[-1]
    assert out["precopy_bytes"] >= 1 << 20, out
    # The last piece is not waited for.
    assert out["elapsed_ns"] >= (out["precopy_bytes"] - (1 << 20)) / (4 << 20) * 1e9, out
    assert out["bandwidth_bytes_per_s"] <= 8 << 20, out
    contains(run("save", "sim:", "-o", "null:", "--max-bandwidth", "fast").err, "100M")


@test
def it_gives_up_in_time_and_the_device_works_on(scratch):
    with device(scratch, "a", *NEVER) as uri:
        err = run_fails("save", uri, *TIMED).err
        contains(err, "did not converge in 300 ms")
        contains(err, "put back to what it was")
        equal(state_of(uri), "running")


@test
def it_switches_all_the_same(scratch):
    with device(scratch, "a", *NEVER) as uri:
        result = run_ok("save", uri, *TIMED, "--on-timeout", "switch", "--json").json_lines()
        equal(result[-1]["result"], "ok")
        equal(state_of(uri), "stopped")


def answered(uri, answers):
    """A save whose user types these at its questions."""
    user, terminal = pty.openpty()
    process = start("save", uri, *TIMED, "--on-timeout", "ask", stdin=terminal)
    os.close(terminal)
    for answer in answers:
        question = process.stderr.readline()  # the empty one before it
        while "Not below" not in question:
            question = process.stderr.readline()
            assert question, "it ended without a question"
        os.write(user, answer.encode() + b"\n")
    result = finish(process)
    os.close(user)
    return result


@test
def its_user_is_asked(scratch):
    with device(scratch, "a", *NEVER) as uri:
        equal(answered(uri, ["t", "x", "g"]).code, 1)
        equal(state_of(uri), "running")
        equal(answered(uri, ["t", "s"]).code, 0)
        equal(state_of(uri), "stopped")


@test
def nobody_is_asked_without_a_terminal(scratch):
    result = run("save", "sim:", *TIMED, "--on-timeout", "ask")
    equal(result.code, 2)
    contains(result.err, "no terminal")
    for wrong in ["--on-timeout", "switch"], ["--precopy-timeout", "5", "--on-timeout", "never"]:
        equal(run("save", "sim:", "-o", "null:", *wrong).code, 2)


@test
def without_precopy_it_says_so(scratch):
    contains(run_ok("save", "sim:interface=v2,precopy=no", "-o", "null:").err, "has no pre-copy")
    for options in "sim:interface=v2", "sim:interface=v2,precopy=no --no-precopy":
        assert "no pre-copy" not in run_ok("save", *options.split(), "-o", "null:").err


@test
def without_p2p_it_goes_alone(scratch):
    err = run_fails("save", "sim:interface=v2", "sim:interface=v2,p2p=no", "--id=a", "--id=b", "-o", "null:").err
    contains(err, "sim:interface=v2,p2p=no: has no P2P states")
    contains(err, "move it alone")


@test
def transitions_are_learned(scratch):
    """Going into pre-copy took 100 ms: so may the others, and there are two or three of them to come."""
    out = run_ok("save", "sim:size=64K,fault=slow@to-precopy:100", "-o", "null:", "--json").json_lines()[-1]
    assert out["expected_downtime_ns"] >= 200_000_000, json.dumps(out)


def answer(peer, answers):
    """Reads until nothing comes any more, and answers so many pings, or all; how many there were."""
    pings = 0
    while select.select([peer], [], [], 0.3)[0]:
        found = peer.recv(1 << 20).count(b"lag!")
        peer.send(struct.pack(">HH4s", 2, 4, b"lag!") * min(found, max(0, answers - pings)))
        pings += found
    return pings


@test
def what_is_under_way_is_waited_for(scratch):
    """The other side has been slow, and does not say that it has what was sent: stopping now would be for long."""
    with device(scratch, "a", "--size", "4M") as uri, socket.socket(socket.AF_UNIX) as listener, \
            open(scratch + "/events", "w+", encoding="utf-8") as events:
        listener.bind(scratch + "/sink")
        listener.listen(1)
        save = start("save", uri, "-o", "unix:%s/sink" % scratch, "--json", "--downtime-limit", "30", stdout=events)
        with listener.accept()[0] as peer:
            mark = struct.pack(">I", 0x76666d01)
            peer.recv(1)
            data = b""
            while mark not in data:
                data += peer.recv(4096)
            peer.send(struct.pack(">HH", 2, 4) + mark)  # as a QEMU
            time.sleep(0.2)  # what it does not take is what makes it slow
            pings = answer(peer, 1)
            assert pings > 1
            with open(scratch + "/events", encoding="utf-8") as said:
                assert "stop-and-copy" not in said.read()
            peer.send(struct.pack(">HH4s", 2, 4, b"lag!") * (pings - 1))
            answer(peer, 1000)
            peer.send(struct.pack(">HHI", 1, 4, 0))
            equal(finish(save).code, 0)
        events.seek(0)
        contains(events.read(), "stop-and-copy")


main()
