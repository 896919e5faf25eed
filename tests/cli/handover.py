# SPDX-License-Identifier: BSD-3-Clause
"""handover.py: who runs the device between two vfmigs, when a connection is lost or a program killed at the switch."""
import contextlib
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))

import certificates  # noqa: E402
from relay import OncePrepared, Relay, Trigger  # noqa: E402
from tap import (contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start,  # noqa: E402
                 state_of, test)

AT_WORK = ["--size", "256K", "--start", "--rate", "1000"]
SOON = ["--retry-for", "200"]
LONG = ["--retry-for", "30000"]


class Move:
    """A move through a relay, with a journal on each side, and where it stands."""

    def __init__(self, scratch, a, b, trigger, fault, retry=(), channels=0):
        self.a, self.b = a, b
        self.dirs = {"source": scratch + "/ja", "destination": scratch + "/jb"}
        for d in self.dirs.values():
            os.mkdir(d)
        self.load = start("load", b, "-i", "unix:%s/l" % scratch, "--json", "--journal", self.dirs["destination"],
                          *retry)
        read_event(self.load, event="listening")
        self.relay = Relay(scratch + "/r", scratch + "/l", trigger, lambda relay: fault(self, relay), channels)
        self.save = start("save", a, "-o", "unix:%s/r" % scratch, "--journal", self.dirs["source"], *retry)

    def status(self, side):
        return json.loads(run_ok("status", "--json", "--journal", self.dirs[side]).out)

    def session(self):
        return self.status("source")["session"]

    def resolve(self, side, *args):
        return start("resolve", self.session(), *args, "--journal", self.dirs[side], "--retry-for", "5000")

    def resolve_both(self):
        return [finish(p) for p in [self.resolve("destination"), self.resolve("source")]]

    def ends_at(self, side):
        """The device works there alone, and lost nothing."""
        at, other = (self.a, self.b) if side == "source" else (self.b, self.a)
        equal(state_of(at), "running")
        if side == "source":
            run_ok("prove", at)
            equal(json.loads(run_ok("prove", "--json", other).out)["devices"][0]["step"], 0)
        else:
            equal(state_of(other), "stopped")
            run_ok("prove", other, at)


@contextlib.contextmanager
def moving(scratch, trigger, fault, retry=(), channels=0):
    interface = ["--interface", "v2"] if channels else []
    with device(scratch, "a", *AT_WORK, *interface) as a, device(scratch, "b", "--size", "256K", *interface) as b:
        move = Move(scratch, a, b, trigger, fault, retry, channels)
        try:
            yield move
        finally:
            move.relay.close()


def cut(_, relay):
    relay.cut()


def both_end_well(move):
    result = finish(move.save)
    equal((result.code, result.err.count("error")), (0, 0))
    equal(finish(move.load).code, 0)


@test
def a_connection_lost_at_the_switch_is_made_again(scratch):
    for i, count in enumerate([1, 5, 9, 10, 18]):  # bytes of what the source says behind "prepared"
        os.mkdir("%s/%d" % (scratch, i))
        with moving("%s/%d" % (scratch, i), Trigger("prepared", count), cut, LONG) as move:
            both_end_well(move)
            move.ends_at("destination")
            equal((move.status("source")["state"], move.status("destination")["state"]), ("done", "running"))


@test
def a_stream_that_came_by_a_later_connection_is_made_again(scratch):
    """The load's first connection is a channel; who is asked again for one is its listener."""
    for i, trigger in enumerate([Trigger("prepared", 1), Trigger("prepared", 9), Trigger("prepared", 18)]):
        os.mkdir("%s/%d" % (scratch, i))
        with moving("%s/%d" % (scratch, i), trigger, cut, LONG + ["--multifd", "2"], channels=2) as move:
            both_end_well(move)
            assert move.relay.struck.is_set()
            move.ends_at("destination")
            equal((move.status("source")["state"], move.status("destination")["state"]), ("done", "running"))
    os.mkdir(scratch + "/back")
    with moving(scratch + "/back", Trigger("preparing", 1), cut, LONG + ["--multifd", "2"], channels=2) as move:
        equal((finish(move.save).code, finish(move.load).code), (1, 1))
        move.ends_at("source")


@test
def a_connection_by_tls_is_made_again(scratch):
    creds = ["--tls-creds", certificates.psk(scratch, "qemu:" + 32 * "a5")]
    for way, side in ("back", "source"), ("forward", "destination"):
        os.mkdir("%s/%s" % (scratch, way))
        trigger = OncePrepared(way, "%s/%s/jb" % (scratch, way))
        with moving("%s/%s" % (scratch, way), trigger, cut, LONG + creds) as move:
            equal({finish(move.save).code, finish(move.load).code}, {0} if side == "destination" else {1})
            assert move.relay.struck.is_set()
            move.ends_at(side)


@test
def a_compressed_connection_is_made_again(scratch):
    for i, more in enumerate([[], ["--multifd", "2"]]):
        for way, side in ("back", "source"), ("forward", "destination"):
            at = "%s/%d%s" % (scratch, i, way)
            os.mkdir(at)
            trigger = OncePrepared(way, at + "/jb")
            with moving(at, trigger, cut, LONG + ["--compress", "zstd"] + more, channels=2 * i) as move:
                equal({finish(move.save).code, finish(move.load).code}, {0} if side == "destination" else {1})
                assert move.relay.struck.is_set()
                move.ends_at(side)


@test
def lost_before_it_is_prepared_the_source_runs_on(scratch):
    with moving(scratch, Trigger("preparing", 1), cut, LONG) as move:
        result = finish(move.save)
        equal(result.code, 1)
        contains(result.err, "put back to what it was")
        result = finish(move.load)
        equal(result.code, 1)
        contains(result.out, "the source has taken the device back")
        move.ends_at("source")
        equal((move.status("source")["state"], move.status("destination")["state"]), ("runs", "abandoned"))


def kill(side):
    """With what it had said still on its way."""
    def fault(move, relay):
        victim = move.save if side == "source" else move.load
        victim.kill()
        victim.wait()
        relay.cut()
    return fault


@test
def a_source_killed_when_it_had_decided(scratch):
    with moving(scratch, Trigger("prepared", 1), kill("source"), SOON) as move:
        result = finish(move.load)
        contains(result.out, "vfmig resolve")
        equal((result.code, result.json_lines()[-1].get("outcome")), (3, "unknown"))
        equal((move.status("source")["state"], move.status("destination")["state"]), ("decided", "prepared"))
        equal((state_of(move.a), state_of(move.b)), ("stopped", "stopped"))
        contains(run_fails("resolve", move.session(), "source", "--journal", move.dirs["source"]).err, "decided")
        equal(state_of(move.a), "stopped")
        equal([r.code for r in move.resolve_both()], [0, 0])
        move.ends_at("destination")


@test
def a_source_killed_before_it_had_decided(scratch):
    with moving(scratch, Trigger("preparing", 7), kill("source"), SOON) as move:
        finish(move.load)
        equal((move.status("source")["state"], move.status("destination")["state"]), ("stopped", "prepared"))
        equal([r.code for r in move.resolve_both()], [0, 0])
        move.ends_at("source")
        contains(run_fails("resolve", move.session(), "destination", "--journal", move.dirs["destination"]).err,
                 "abandoned")


@test
def a_destination_killed_when_it_was_committed(scratch):
    with moving(scratch, Trigger("prepared", 9), kill("destination"), SOON) as move:
        result = finish(move.save)
        contains(result.err, "stays stopped until 'vfmig resolve")
        equal(result.code, 3)
        equal(move.status("source")["state"], "decided")
        contains(run_fails("resolve", move.session(), "source", "--journal", move.dirs["source"]).err, "decided")
        equal([r.code for r in move.resolve_both()], [0, 0])
        move.ends_at("destination")
        contains(run_fails("resolve", move.session(), "source", "--journal", move.dirs["destination"]).err, "running")


@test
def a_person_decides_when_the_other_host_is_gone(scratch):
    with moving(scratch, Trigger("preparing", 7), kill("source"), SOON) as move:
        finish(move.load)
        session = move.session()
        for side in "source", "destination":
            run_ok("resolve", session, "destination", "--journal", move.dirs[side])
        move.ends_at("destination")
        equal((move.status("source")["state"], move.status("destination")["state"]), ("decided", "running"))
        for side in "source", "destination":
            run_fails("resolve", session, "source", "--journal", move.dirs[side])
        move.ends_at("destination")


@test
def a_person_decides_for_a_destination_that_has_lost_it(scratch):
    """It can be taken back when the hosts meet after all."""
    with moving(scratch, Trigger("preparing", 7), kill("source"), SOON) as move:
        finish(move.load)
        run_ok("recover", move.b, "--discard")
        run_ok("resolve", move.session(), "destination", "--journal", move.dirs["source"])
        contains(run_fails("resolve", move.session(), "destination", "--journal", move.dirs["destination"]).err,
                 "does not hold")
        equal(state_of(move.a), "stopped")
        run_ok("resolve", move.session(), "source", "--journal", move.dirs["destination"])
        equal([r.code for r in move.resolve_both()], [0, 0])
        move.ends_at("source")


@test
def an_older_session_of_the_same_device_is_over(scratch):
    with moving(scratch, Trigger("preparing", 7), kill("source"), SOON) as move:
        finish(move.load)
        old = move.session()
        equal([r.code for r in move.resolve_both()], [0, 0])
        load = start("load", move.b, "-i", "unix:%s/m" % scratch, "--json", "--journal", move.dirs["destination"])
        read_event(load, event="listening")
        run_ok("save", move.a, "-o", "unix:%s/m" % scratch, "--journal", move.dirs["source"])
        equal(finish(load).code, 0)
        for side in "source", "destination":
            for decision in [], ["source"], ["destination"]:
                contains(run_fails("resolve", old, *decision, "--journal", move.dirs[side]).err, "a later session")
        move.ends_at("destination")


@test
def a_loaded_device_that_was_reset_meanwhile_is_not_started(scratch):
    with moving(scratch, Trigger("prepared", 1), kill("source"), SOON) as move:
        finish(move.load)
        run_ok("recover", move.b, "--discard", "--journal", move.dirs["destination"])
        equal(move.status("destination")["state"], "abandoned")
        equal([r.code for r in move.resolve_both()], [0, 0])
        move.ends_at("source")


@test
def a_loaded_device_that_runs_all_the_same_is_not_reset(scratch):
    """Nobody knows whether it works with the state: a person looks, and says where it is."""
    with moving(scratch, Trigger("preparing", 7), kill("source"), SOON) as move:
        finish(move.load)
        run_ok("recover", move.b, "--run")
        step = json.loads(run_ok("prove", "--json", move.b).out)["devices"][0]["step"]
        assert step > 0
        result = run_fails("resolve", move.session(), "--journal", move.dirs["destination"], "--retry-for", "300")
        contains(result.err, "it was reset, or started by somebody")
        assert json.loads(run_ok("prove", "--json", move.b).out)["devices"][0]["step"] >= step
        equal((state_of(move.b), move.status("destination")["state"]), ("running", "prepared"))


@test
def a_resolve_that_waits_is_cancelled(scratch):
    """It ends with a line, and the socket that it waited at is removed."""
    with moving(scratch, Trigger("prepared", 1), kill("source"), SOON) as move:
        finish(move.load)
        for number in signal.SIGHUP, signal.SIGTERM:
            process = move.resolve("destination", "--link", "unix:%s/waits" % scratch)
            contains(process.stderr.readline(), "waiting for the source")
            process.send_signal(signal.SIGUSR1)
            contains(process.stderr.readline(), "waiting for the other side")
            process.send_signal(number)
            result = finish(process)
            equal((result.code, os.path.exists(scratch + "/waits")), (1, False))
            contains(result.err, "cancelled: session %s stays as it is" % move.session())
        equal((move.status("source")["state"], move.status("destination")["state"]), ("decided", "prepared"))
        equal([r.code for r in move.resolve_both()], [0, 0])
        move.ends_at("destination")


@test
def a_session_at_work_is_left_alone(scratch):
    with moving(scratch, Trigger("prepared", 1), cut, LONG) as move:
        finish(move.save)
        finish(move.load)
    os.mkdir(scratch + "/busy")
    with device(scratch + "/busy", "a", *AT_WORK) as a, device(scratch + "/busy", "b", "--size", "256K") as b:
        load = start("load", b, "-i", "unix:%s/l" % scratch, "--json", "--journal", scratch + "/busy")
        read_event(load, event="listening")
        save = start("save", a, "-o", "unix:%s/l" % scratch, "--json", "--journal", scratch + "/busy",
                     "--max-bandwidth", "1K")
        session = read_event(save, phase="pre-copy")["session"]
        equal([json.loads(line)["busy"] for line in
               run_ok("status", session, "--json", "--journal", scratch + "/busy").out.splitlines()], [True, True])
        contains(run_fails("resolve", session, "--side", "source", "--journal", scratch + "/busy").err,
                 "a program is at work on this session")
        contains(run_fails("resolve", session, "--journal", scratch + "/busy").err, "--side")
        save.terminate()
        equal(finish(save).code, 1)
        finish(load)
        run_ok("prove", a)
        equal([json.loads(line)["state"] for line in
               run_ok("status", session, "--json", "--journal", scratch + "/busy").out.splitlines()],
              ["runs", "abandoned"])


@test
def a_stranger_at_the_door_is_sent_away(scratch):
    def strangers(move, relay):
        relay.cut()
        for said in b"QEVM\0\0\0\3", b"\x08\0\2\0\4" + b"\x76\x66\x6d\x01" + (b"\x08\0\2\0\4" + bytes(4)) * 4, b"":
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(scratch + "/l")
                s.sendall(said)
                s.shutdown(socket.SHUT_WR)
                while s.recv(100):
                    pass
    with moving(scratch, Trigger("prepared", 1), strangers, LONG) as move:
        both_end_well(move)
        move.ends_at("destination")


@test
def journals_that_cannot_be_kept_or_read(scratch):
    os.mkdir(scratch + "/j")
    with device(scratch, "a", *AT_WORK) as a, device(scratch, "b", "--size", "256K") as b:
        load = start("load", b, "-i", "unix:%s/l" % scratch, "--json")
        read_event(load, event="listening")
        contains(run_fails("save", a, "-o", "unix:%s/l" % scratch, "--journal", scratch + "/none").err,
                 "journal directory %s/none" % scratch)
        finish(load)
        equal(state_of(a), "running")
    contains(run_fails("status", "0" * 32, "--journal", scratch + "/j").err, "no journal of it")
    contains(run_fails("status", "--journal", scratch + "/none").err, "No such file")
    equal(run("status", "x", "--journal", scratch + "/j").code, 2)
    name = scratch + "/j/" + "0" * 32 + ".source"
    first = {"vfmig-journal": 1, "session": "0" * 32, "side": "source", "link": "null:", "devices": [],
             "state": "stopped", "since": "now"}
    for text in "", "{}\n", "x\n", json.dumps(dict(first, session="1")) + "\n", json.dumps(dict(first, state=7)) + "\n":
        with open(name, "w", encoding="ascii") as f:
            f.write(text)
        contains(run_fails("status", "0" * 32, "--journal", scratch + "/j").err, "damaged")
        contains(run_fails("resolve", "0" * 32, "--journal", scratch + "/j").err, "damaged")
    # What was being written when the power went is not there.
    with open(name, "w", encoding="ascii") as f:
        f.write(json.dumps(first) + '\n{"state":"decided","since":"no')
    equal(json.loads(run_ok("status", "--json", "--journal", scratch + "/j").out)["state"], "stopped")


main()
