# SPDX-License-Identifier: BSD-3-Clause
"""upgrade.py: an older vfmig (OLD) and this one (VFMIG) move a device to each other, or refuse soon and say why.

Also: the journals of an older one whose program was killed are read and resolved by this one. OLD and VFMIG name the
two commands; scripts/check upgrade builds the older one from its commit.
"""
import itertools
import json
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "cli"), os.path.join(HERE, "..", "faults")]

import certificates  # noqa: E402
import tap  # noqa: E402
from relay import Relay, Trigger  # noqa: E402
from tap import contains, equal, finish, main, read_event, test  # noqa: E402

COMMANDS = {"old": os.environ["OLD"], "new": tap.VFMIG}
SOON = ["--retry-for", "200"]
MEETS = ["--retry-for", "5000"]
REFUSED_S = 2  # at most, from the source's start to both ends
WAIT_S = 10
ENDED = {"done", "runs-on", "running", "abandoned", "runs"}


# ------------------------------------------------------------------ programs of either version

def start(which, *args):
    return tap.start(*args, executable=COMMANDS[which])


def run(which, *args):
    return finish(start(which, *args))


def run_ok(which, *args):
    result = run(which, *args)
    assert result.code == 0, "%s %r: exit %d: %r" % (which, args, result.code, result.err)
    return result


def version(which):
    return run_ok(which, "--version").out.split()[1]


def serve(which, scratch, name, *options):
    """A software device; gives its URI and its process."""
    uri = "vfio-user:%s/%s.sock" % (scratch, name)
    process = start(which, "device", uri, "--size", "256K", *options)
    contains(process.stdout.readline(), "listening")
    return uri, process


def status(which, folder):
    """What this version says of the one session in a folder."""
    found = run_ok(which, "status", "--json", "--journal", folder).json_lines()
    equal(len(found), 1)
    return found[0]


def last_state(folder):
    """The last whole line of the one journal in a folder, read without any vfmig; None: none yet."""
    for name in os.listdir(folder):
        with open("%s/%s" % (folder, name), encoding="ascii") as f:
            lines = f.read().split("\n")[:-1]
        return json.loads(lines[-1])["state"] if lines else None
    return None


def wait_for_state(folder, state):
    deadline = time.monotonic() + WAIT_S
    while last_state(folder) != state:
        assert time.monotonic() < deadline, "the journal says %r, expected %r" % (last_state(folder), state)
        time.sleep(0.001)


def runs_at(which, at, other, moved):
    """The device works at one of them alone, and no step is lost."""
    state = json.loads(run_ok(which, "probe", "--json", at).out)["migration"]["state"]
    equal(state, "running")
    if moved:
        state = json.loads(run_ok(which, "probe", "--json", other).out)["migration"]["state"]
        equal(state, "stopped")
        run_ok(which, "prove", other, at)
    else:
        run_ok(which, "prove", at)
        equal(json.loads(run_ok(which, "prove", "--json", other).out)["devices"][0]["step"], 0)


# ------------------------------------------------------------------ moves

def refused(source, destination, save, load, seconds):
    """Neither moved: one of them has named both versions, and it took no time."""
    said = save.err + load.out + load.err
    assert save.code != 0 and load.code != 0, "exits %d and %d: %s" % (save.code, load.code, said)
    versions = sorted([version(source), version(destination)])
    lines = said.splitlines()
    assert any(all(line.count(v) >= versions.count(v) for v in versions) for line in lines), \
        "refused, and no line names both versions, %s: %r" % (versions, said)
    assert seconds <= REFUSED_S, "refused after %.1f s, expected at most %d" % (seconds, REFUSED_S)


def move(scratch, source, destination, interface, save_more=(), load_more=(), journal=True):
    a, _ = serve(source, scratch, "a", "--interface", interface, "--start", "--rate", "1000")
    b, _ = serve(destination, scratch, "b", "--interface", interface)
    folders = [scratch + "/ja", scratch + "/jb"]
    for folder in folders:
        os.mkdir(folder)
    journals = [["--journal", folder] if journal else [] for folder in folders]
    load = start(destination, "load", b, "-i", "unix:%s/l" % scratch, "--json", *journals[1], *load_more)
    read_event(load, event="listening")
    began = time.monotonic()
    save = start(source, "save", a, "-o", "unix:%s/l" % scratch, "--json", *journals[0], *save_more)
    saved, loaded = finish(save), finish(load)
    seconds = time.monotonic() - began
    if saved.code or loaded.code:
        refused(source, destination, saved, loaded, seconds)
        return runs_at("new", a, b, moved=False)
    runs_at("new", b, a, moved=True)
    sessions = [result.json_lines()[-1].get("session") for result in (saved, loaded)]
    assert sessions[0] and sessions[0] == sessions[1], "they took each other for a QEMU: sessions %r" % sessions
    if journal:
        found = [status(source, folders[0]), status(destination, folders[1])]
        equal([(s["session"], s["state"]) for s in found], [(sessions[0], "done"), (sessions[0], "running")])
    return None


def tls_psk(scratch):
    return ["--tls-creds", certificates.psk(scratch, "qemu:" + 32 * "5a")]


WAYS = {
    "": lambda _: [],
    "by two channels": lambda _: ["--multifd", "2"],
    "compressed": lambda _: ["--compress", "zstd"],
    "by TLS": tls_psk,
}


def add(name, function):
    function.__name__ = name
    test(function)


def add_moves():
    for pair in (("old", "new"), ("new", "old")):
        for interface, journal in itertools.product(("v1", "v2"), (False, True)):
            add("%s to %s, %s%s" % (*pair, interface, ", journals" if journal else ""),
                lambda scratch, p=pair, i=interface, j=journal: move(scratch, *p, i, journal=j))
        for way in list(WAYS)[1:]:
            add("%s to %s, v2, journals, %s" % (*pair, way),
                lambda scratch, p=pair, w=WAYS[way]: move(scratch, *p, "v2", *2 * [w(scratch)]))


# ------------------------------------------------------------------ journals of a killed move

class Killed:
    """A move in which a fault strikes; both programs have ended."""

    def __init__(self, scratch, source, destination, interface, trigger, fault):
        self.folders = {"source": scratch + "/ja", "destination": scratch + "/jb"}
        for folder in self.folders.values():
            os.mkdir(folder)
        self.a, self.server_a = serve(source, scratch, "a", "--interface", interface, "--start", "--rate", "1000")
        self.b, self.server_b = serve(destination, scratch, "b", "--interface", interface)
        self.load = start(destination, "load", self.b, "-i", "unix:%s/l" % scratch, "--json",
                          "--journal", self.folders["destination"], *SOON)
        read_event(self.load, event="listening")
        self.relay = Relay(scratch + "/r", scratch + "/l", trigger, lambda relay: fault(self, relay))
        try:
            self.save = start(source, "save", self.a, "-o", "unix:%s/r" % scratch,
                              "--journal", self.folders["source"], *SOON)
            finish(self.save)
            finish(self.load)
            assert self.relay.struck.is_set(), "the fault did not strike"
        except BaseException:
            self.relay.close()
            raise

    def states(self):
        return [last_state(self.folders[side]) for side in ("source", "destination")]


def kill_source(killed, relay):
    killed.save.kill()
    killed.save.wait()
    relay.cut()


def kill_destination(killed, relay):
    killed.load.kill()
    killed.load.wait()
    relay.cut()


def kill_committed(killed, relay):
    """The device does not answer when it is to start, so that the destination is killed between its two lines."""
    killed.server_b.send_signal(signal.SIGSTOP)
    relay.pair[1].sendall(COMMIT[1:])
    wait_for_state(killed.folders["destination"], "committed")
    kill_destination(killed, relay)
    killed.server_b.send_signal(signal.SIGCONT)


def cut(_, relay):
    relay.cut()


def do_nothing(_, __):
    pass


COMMIT = bytes.fromhex("08 0002 0004 76666d04")  # the ping by which the source says that the destination may run
# name: trigger, fault, the states that the journals then end with, where it has to run at last
STAGES = {
    "source stopped, destination loading": (("forward", 200000), kill_source, ["stopped", "abandoned"], False),
    "destination loading, killed": (("forward", 200000), kill_destination, ["runs-on", "loading"], False),
    "source stopped, destination prepared": (("preparing", 7), kill_source, ["stopped", "prepared"], False),
    "source decided, destination prepared": (("prepared", 1), kill_source, ["decided", "prepared"], True),
    "destination prepared, killed": (("prepared", 1), kill_destination, ["decided", "prepared"], True),
    "destination committed, killed": (("prepared", 1), kill_committed, ["decided", "committed"], True),
    "taken back": (("preparing", 1), cut, ["runs-on", "abandoned"], False),
    "done": (("prepared", 1), do_nothing, ["done", "running"], True),
}


# What this vfmig has two words for, where the older one had one.
SINCE = {"saving": "stopped", "runs": "runs-on"}


def adopt(folder):
    """A load of the older one leaves its journal to the user nobody, and none of such is followed."""
    for name in os.listdir(folder) if os.geteuid() == 0 else []:
        os.chown("%s/%s" % (folder, name), 0, 0)


def read_and_resolve(scratch, writers, resolvers, stage, interface):
    (way, count), fault, states, moved = STAGES[stage]
    killed = Killed(scratch, *writers, interface, Trigger(way, count), fault)
    sides = dict(zip(("source", "destination"), resolvers))
    try:
        said = killed.states()
        equal([SINCE.get(state, state) for state in said], [SINCE.get(state, state) for state in states])
        states = said
        sessions = {}
        for (side, which), state in zip(sides.items(), states):
            found = status(which, killed.folders[side])
            equal((found["side"], found["state"]), (side, state))
            assert state == "runs" or found["ended"] == (state in ENDED)  # "runs": until the destination has heard
            equal(found["devices"][0]["uri"], killed.a if side == "source" else killed.b)
            sessions[side] = found["session"]
        equal(sessions["source"], sessions["destination"])
        adopt(killed.folders["destination"])
        patience = SOON if set(states) <= ENDED else MEETS  # those that have ended meet nobody
        asked = [start(which, "resolve", sessions[side], "--journal", killed.folders[side], *patience)
                 for side, which in sides.items()]
        for process in asked:
            result = finish(process)
            assert result.code == 0, "resolve: exit %d: %s%s" % (result.code, result.out, result.err)
        assert set(killed.states()) <= ENDED, killed.states()
        runs_at("new", *(killed.b, killed.a) if moved else (killed.a, killed.b), moved)
    finally:
        killed.relay.close()


def add_journals():
    # Both hosts are upgraded, or one of them; and each resolves what it was told by the other version.
    hosts = [(("old", "old"), ("new", "new")), (("old", "old"), ("new", "old")), (("old", "old"), ("old", "new")),
             (("old", "new"), ("old", "new")), (("new", "old"), ("new", "old"))]
    for number, (stage, (writers, resolvers)) in enumerate(itertools.product(STAGES, hosts)):
        interface = "v2" if number % 2 else "v1"
        add("%s: %s to %s, resolved by %s and %s, %s" % (stage, *writers, *resolvers, interface),
            lambda scratch, w=writers, r=resolvers, s=stage, i=interface: read_and_resolve(scratch, w, r, s, i))


add_moves()
add_journals()
main()
