# SPDX-License-Identifier: BSD-3-Clause
"""handover.py [COUNT[:FROM[:SEED]]]: handovers of a small device at work, with one fault each.

What has to be true after each, once both sides have been asked by `vfmig resolve` where a program was killed or gave
up: the device works in exactly one place, and lost no step of its work. A device whose own process is killed is a class
of its own: the other side or none, never both. A round's fault follows from SEED and the round's number; the first
number is FROM. 1:NUMBER:SEED repeats a round.
"""
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from relay import PREPARED, Relay, Trigger  # noqa: E402

VFMIG = os.environ.get("VFMIG", "build/vfmig")
STREAM = 285000  # bytes, about: the device's 256 KiB
RETRY_MS = "400"
LIMIT_S = 30  # for one program; each takes a moment
REFUSING = ["errno@to-running", "errno@to-resuming", "errno@consume", "errno@to-stop"]


class Failed(Exception):
    pass


class Round:
    def __init__(self, number, seed):
        self.random = random.Random("%s/%s" % (seed, number))
        self.scratch = tempfile.mkdtemp(prefix="vfmig-handover-")
        self.processes = []
        self.log = []
        self.fault = self.random.choice(
            ["cut", "reset", "stall", "half", "kill-source", "kill-destination", "full-source", "full-destination",
             "refuse", "kill-device-a", "kill-device-b", "none"])

    def path(self, name):
        return "%s/%s" % (self.scratch, name)

    def say(self, *words):
        self.log.append(" ".join(str(w) for w in words))

    # ------------------------------------------------------------ processes

    def start(self, *args):
        process = subprocess.Popen([VFMIG, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def finish(self, process):
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as why:
            raise Failed("%s hangs" % " ".join(process.args[1:3])) from why
        self.say("$", *process.args[1:], "->", process.returncode)
        self.say(out.strip(), err.strip())
        return process.returncode, out

    def run(self, *args):
        return self.finish(self.start(*args))

    def device(self, name, *options):
        uri = "vfio-user:" + self.path(name)
        process = self.start("device", uri, "--size", "256K", "--interface", self.interface, *options)
        if not process.stdout.readline().startswith("listening"):
            raise Failed("device %s: %s" % (name, process.stderr.read()))
        return uri, process

    # ----------------------------------------------------------------- faults

    def trigger(self):
        """Half of them where it matters most: around the end of the stream, and what is said behind it."""
        way = self.random.choice(["forward", "back", "preparing", "prepared", "prepared", "prepared"])
        count = {"forward": STREAM, "back": 80, "preparing": len(PREPARED), "prepared": 18}[way]
        return Trigger(way, self.random.randint(1, count))

    def strike(self, relay):
        """What happens at the trigger."""
        victims = {"kill-source": "save", "kill-destination": "load", "kill-device-a": "a", "kill-device-b": "b",
                   "full-source": "save", "full-destination": "load"}
        self.say("strikes", self.fault)
        if self.fault in victims:
            victim = self.victims[victims[self.fault]]
            if self.fault.startswith("kill"):
                victim.kill()
            elif victim.poll() is None:
                # Every write to a file fails from here on (EFBIG), as on a full disk.
                resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (0, 0))
        else:
            getattr(relay, self.fault)()

    def hand_over(self):
        refusing = ["--fault", self.random.choice(REFUSING)] if self.fault == "refuse" else []
        self.interface = self.random.choice(["v1", "v2"])
        self.a, server_a = self.device("a", "--start", "--rate", "2000")
        self.b, server_b = self.device("b", *refusing)
        os.mkdir(self.path("ja"))
        os.mkdir(self.path("jb"))
        tcp = self.random.random() < 0.5
        channels = self.random.choice([0, 0, 1, 3]) if self.interface == "v2" else 0
        more = ["--multifd", str(channels)] if channels else []
        load = self.start("load", self.b, "-i", "tcp:127.0.0.1:0" if tcp else "unix:" + self.path("l"), "--json",
                          "--journal", self.path("jb"), "--retry-for", RETRY_MS, *more)
        link = json.loads(load.stdout.readline())["link"]
        to = ("127.0.0.1", int(link.rsplit(":", 1)[1])) if tcp else self.path("l")
        self.victims = {"a": server_a, "b": server_b, "load": load}
        strikes = self.fault not in ("none", "refuse")
        trigger = self.trigger() if strikes else None
        if trigger:
            self.say("fault", self.fault, "at", trigger.way, trigger.count, self.interface, "tcp" if tcp else "unix",
                     "channels", channels)
        self.relay = Relay(("127.0.0.1", 0) if tcp else self.path("r"), to, trigger, self.strike,
                           channels)
        at = "tcp:127.0.0.1:%d" % self.relay.address[1] if tcp else "unix:" + self.path("r")
        # The relay connects when the source does, so its victim is known by then.
        self.victims["save"] = save = self.start("save", self.a, "-o", at, "--journal", self.path("ja"),
                                                 "--retry-for", RETRY_MS, *more)
        self.finish(save)
        self.finish(load)

    # --------------------------------------------------------------- afterwards

    def sessions(self, journal):
        _, out = self.run("status", "--json", "--journal", self.path(journal))
        return [json.loads(line) for line in out.splitlines()]

    def resolve(self):
        """Asks each side that has a journal, both at the same time, until both have ended."""
        for _ in range(4):
            sides = {j: self.sessions(j) for j in ("ja", "jb")}
            if all(s["ended"] for found in sides.values() for s in found):
                break
            asked = [self.start("resolve", s["session"], "--journal", self.path(j), "--retry-for", "1500")
                     for j, found in sides.items() for s in found]
            for process in asked:
                self.finish(process)
        else:
            if "device" not in self.fault:
                raise Failed("a session is still open")
        return {j: found[0]["state"] if found else None for j, found in sides.items()}

    def works(self, uri):
        """Has it the work, and is it at it? A fresh device runs, too, but has nothing."""
        code, out = self.run("probe", "--json", uri)
        state = json.loads(out)["migration"]["state"] if code == 0 else None
        if state in ("pre-copy", "running-p2p", "pre-copy-p2p"):  # killed before anything was decided
            self.run("recover", uri)
            state = "running"
        code, out = self.run("prove", "--json", uri)
        if code != 0 and state is not None:
            raise Failed("%s: the work is not right: %s" % (uri, out))
        return state == "running" and json.loads(out)["devices"][0]["step"] > 0

    def check(self):
        states = self.resolve()
        working = [uri for uri in (self.a, self.b) if self.works(uri)]
        self.say("states", states, "working", working)
        if len(working) > 1:
            raise Failed("both run")
        if "device" in self.fault:
            return "lost with its device" if not working else "one runs, a device was killed"
        if not working:
            raise Failed("none runs")
        if working == [self.b]:
            code, out = self.run("prove", "--json", self.a, self.b)
            if code != 0:
                raise Failed("the chain is broken: %s" % out)
        return "destination runs" if working == [self.b] else "source runs"

    def close(self):
        if hasattr(self, "relay"):
            self.relay.close()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            process.stderr.close()
        shutil.rmtree(self.scratch)


def play(number, seed):
    """One round: its fault, what came of it, and what it said if that is wrong."""
    r = Round(number, seed)
    try:
        r.hand_over()
        outcome = r.check()
        struck = not r.relay.trigger or r.relay.struck.is_set()
        return r.fault if struck else "not struck", outcome, None
    except (Failed, OSError, ValueError, KeyError) as why:
        return r.fault, "FAILED", "round 1:%s:%s: %s: %s\n  %s" % (number, seed, r.fault, why, "\n  ".join(r.log))
    finally:
        r.close()


def slice_of(text):
    """COUNT, FROM and SEED."""
    count, first, seed = (text.split(":", 2) + ["", ""])[:3]
    return int(count), int(first or 0), seed or "vfmig"


def main():
    count, first, seed = slice_of(sys.argv[1] if len(sys.argv) > 1 else "300")
    numbers = range(first, first + count)
    table, failures = {}, []
    with ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
        for done, (fault, outcome, why) in enumerate(pool.map(lambda n: play(n, seed), numbers), 1):
            table[fault, outcome] = table.get((fault, outcome), 0) + 1
            if why:
                failures.append(why)
                print(why, flush=True)
            if done % 500 == 0:
                print("%d handovers, %d failed" % (done, len(failures)), flush=True)
            if len(failures) >= 20:
                break
    print("fault             outcome                          times")
    for (fault, outcome), times in sorted(table.items()):
        print("%-17s %-32s %5d" % (fault, outcome, times))
    print("%d handovers from number %d of seed %s: %d failed" % (sum(table.values()), first, seed, len(failures)))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
