# SPDX-License-Identifier: BSD-3-Clause
"""handover.py [COUNT[:FROM[:SEED]]]: handovers of a small device at work, with faults, and what people do then.

A round moves device A to B, to a QEMU or into a file, with one fault. Then up to three more things happen: a command
that `vfmig status` prints is typed (and its program killed, stopped, or without room for a line), the move is tried
again, to the same device or another one or back, a folder of journals is copied, removed or made older. At last
what `vfmig status` prints is typed until it prints no more. What has to be true whenever all is quiet:

- one device works at most, and none does a step again that was done;
- if none works, a documented command lets it, unless the device's own process was killed;
- every journal, status line and last message is true (words.py).

Rounds in which a person says something are counted apart: if it is true, all of that holds; if it is false, nothing
has to. A round's faults follow from SEED and its number; the first number is FROM. 1:NUMBER:SEED repeats a round.
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from moves import FAULTS, FILE, LATER, QEMU, REFUSING, Moves  # noqa: E402
from person import Words, by_status, rescue  # noqa: E402
from world import Failed, World  # noqa: E402

PASSES = 5  # of typing what status prints
ACTS = ["printed", "printed", "printed-killed", "printed-killed", "printed-stopped", "printed-full", "retry", "retry",
        "retry", "other", "other", "other", "back", "recover", "recover-killed", "copied", "removed", "read-only",
        "older", "file"]


class Round(Moves):
    def __init__(self, number, seed):
        super().__init__(random.Random("%s/%s" % (seed, number)))
        self.said, self.went, self.found = {}, {}, None
        self.interface = self.random.choice(["v1", "v2"])
        self.person = self.random.choices([None, "true", "false"], [74, 17, 9])[0]
        self.peer = self.random.choices(["vfmig", "qemu", "file"], [72, 16, 12])[0]
        self.fault = self.random.choice({"vfmig": FAULTS, "qemu": QEMU, "file": FILE}[self.peer])
        self.one_folder = self.random.random() < 0.1
        self.struck = True
        self.acts = [self.random.choice(ACTS) for _ in range(self.random.choice([0, 1, 1, 2, 2, 3]))]
        if self.person:
            self.acts.insert(self.random.randint(0, len(self.acts)), "word")
        self.at = "a"  # where the work was at last

    def prepare(self):
        refusing = ["--fault", self.random.choice(REFUSING)] if self.fault == "refuse" else []
        self.add_devices({"a": ["--start", "--rate", "2000"], "b": refusing, "c": []})
        self.folders = {n: self.path("j" if self.one_folder else "j" + n) for n in "abc"}
        for folder in self.all_folders():
            os.mkdir(folder)

    def play(self):
        self.prepare()
        kind = self.peer + " " + self.fault
        if self.peer == "vfmig":
            self.move("a", "b", self.fault)
        elif self.peer == "qemu":
            self.to_qemu("a", "b", self.fault)
        else:
            self.to_file("a", self.fault)
        self.tags.add(kind if self.struck else "vfmig not struck")
        if self.one_folder:
            self.tags.add("one folder")
        self.quiet()
        for act in self.acts:
            self.say("==== act", act)
            if self.late:
                self.pending = []  # what was true when it was said cannot be looked at
            self.tags.add("act " + act)
            getattr(self, "act_" + act.partition("-")[0].replace("read", "read_only"))(act)
            self.quiet()
        self.end_late()
        return self.settle()

    def quiet(self):
        """Between two things. What is stopped holds its device: then nothing can be asked."""
        if not self.late:
            self.found = self.observe()

    def end_late(self):
        self.wake()
        late, self.late = self.late, []
        for process, here, there in late:
            self.told(process, here, there)
        if late:
            self.found = self.observe()

    # ------------------------------------------------------------------ acts

    def offered(self):
        return [s for f in self.all_folders() for s in self.status(f) if s["commands"]]

    def act_printed(self, act):
        """One of the commands, or all at the same time."""
        _, _, how = act.partition("-")
        if how:
            self.end_late()
        records = [s for s in self.records() if s["commands"]]
        if not records or self.late:
            return
        chosen = records if not how and self.random.random() < 0.5 else [self.random.choice(records)]
        truth = self.truth()
        more = {"kill": self.call()} if how == "killed" else {"full": True} if how == "full" else {}
        started = []
        for s in chosen:
            process = self.command(by_status(s, truth), **more)
            started.append((process, s))
            if how == "stopped":
                self.pause(process, self.random.choice([20, 100, 300]))
        self.all_told(started)

    def all_told(self, started):
        """What one says of a device is not judged where another has run on it at the same time."""
        names = [s["name"] for _, s in started]
        for process, s in started:
            if names.count(s["name"]) > 1:
                self.finish(process)
            else:
                self.told(process, s["name"], s["other"]["name"] if s["other"] else None)

    def has_work(self, name):
        """As was seen last: a device that is fresh moves as well, but nobody cares."""
        d = self.found[0].get(name) if self.found else None
        return name not in self.dead and (d.holds if d else name == "a")

    def source(self):
        """Which device is saved next: the one that works, as people believe, or any that has the work."""
        others = [n for n in "abc" if self.has_work(n)]
        if self.random.random() < 0.7 and self.has_work(self.at):
            return self.at
        return self.random.choice(others) if others else None

    def again(self, src, dst, **how):
        if src == dst or not src or not self.has_work(src) or dst in self.dead:
            return
        fault = self.random.choice(LATER)
        self.move(src, dst, "none" if self.late and fault.startswith("late") else fault, **how)
        if not self.late:
            working = self.truth().working()
            self.at = working[0].name if working else self.at

    def act_retry(self, _act):
        self.again("a", "b")

    def act_other(self, _act):
        self.again("a", "c")

    def act_back(self, _act):
        self.end_late()
        working = self.truth().working()
        src = working[0].name if working else self.source()
        self.again(src, self.random.choice([n for n in "abc" if n != src]))

    def act_file(self, _act):
        src = self.source()
        if src:
            self.to_file(src, self.random.choice(FILE[:3]))

    def act_recover(self, act):
        self.end_late()
        name = self.random.choice([n for n in "abc" if n not in self.dead] or ["a"])
        more = {"kill": self.call()} if act.endswith("killed") else {}
        process = self.start("recover", self.uri(name), "--journal", self.folder(name), **more)
        self.told(process, name, None)

    def act_copied(self, _act):
        """The folder is another one now, with the same files (and later times)."""
        self.end_late()
        name = self.random.choice("abc")
        old, new = self.folder(name), self.folder(name) + "x"
        if os.path.isdir(old) and not os.path.isdir(new):
            shutil.copytree(old, new)
            shutil.rmtree(old)
            self.folders = {n: new if f == old else f for n, f in self.folders.items()}

    def act_removed(self, _act):
        """Whoever finds no folder makes one; the device that is found stopped is not saved from it."""
        self.end_late()
        name = self.random.choice("ab")
        folder = self.folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)

    def act_read_only(self, _act):
        """A save to somewhere else, from a folder that cannot be written."""
        src = self.source()
        if src and src != "c":
            self.move(src, "c", "ro-save")

    def act_older(self, _act):
        for folder in filter(os.path.isdir, self.all_folders()):
            for name in os.listdir(folder):
                t = self.random.choice([1e9, 4e9])
                os.utime(os.path.join(folder, name), (t, t))

    def act_word(self, _act):
        self.end_late()
        truth, records = self.observe()
        words = Words(self, truth, records).all()
        if self.person == "true":
            words = [w for w in words if w[2]]
        else:
            words = [w for w in words if not w[2]]
        if not words:
            return
        kind = self.random.choice(sorted({w[0] for w in words}))
        say = self.random.choice([w[1] for w in words if w[0] == kind])
        self.say("a person's", self.person, "word:", kind)
        self.tags.add("word %s %s" % (self.person, kind))
        self.false_word |= self.person == "false"
        say()

    # ------------------------------------------------------------ afterwards

    def settle(self):
        """What status prints is typed, at the same time, until it prints no more."""
        self.say("==== settle")
        for folder in self.all_folders():
            os.makedirs(folder, exist_ok=True)
        truth, records = self.observe()
        for _ in range(PASSES):
            offered = [s for s in records if s["commands"]]
            if not offered:
                break
            started = [(self.command(by_status(s, truth)), s) for s in offered]
            self.all_told(started)
            before = [(s["session"], s["side"], s["state"], s["told"] if "told" in s else None) for s in records]
            truth, records = self.observe()
            if before == [(s["session"], s["side"], s["state"], None) for s in records]:
                break
        return self.judge(truth, records)

    def judge(self, truth, records):
        for name in self.servers:
            d = truth.get(name)
            if d and d.state in ("pre-copy", "pre-copy-p2p", "running-p2p"):  # killed before anything was decided
                self.run("recover", self.uri(name), "--journal", self.folder(name))
                truth = self.truth()
        how = ""
        if not truth.working() and not self.false_word:
            truth, how = rescue(self, truth, records)
            how = " by " + how
        working = truth.working()
        if self.false_word:
            return "false word: %d work" % len(working)
        if not working and self.dead:
            return "lost with its device"
        if not working:
            raise Failed("none runs, and nothing lets it")
        self.prove(truth, working[0])
        return "%s works%s" % (working[0].name, how)

    def prove(self, truth, d):
        """It goes on, and what others did has been done here."""
        if self.run("prove", "--wait", str(d.step + 1), self.uri(d.name))[0] != 0:
            raise Failed("%s does not go on" % d)
        for o in truth.devices.values():
            if o is not d and o.state and d.loads and o.step > d.resumed and not self.copies:
                raise Failed("%s went on at %d, and there is %s" % (d, d.resumed, o))

    def close(self):
        for relay in self.relays.values():
            relay.close()
        super().close()


def play(number, seed):
    """One round: its kinds, what came of it, and what it said if that is wrong."""
    r = Round(number, seed)
    begun = time.monotonic()
    try:
        outcome, why = r.play(), None
    except (Failed, OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        outcome = "FAILED"
        trace = "" if isinstance(e, Failed) else traceback.format_exc()
        why = "round 1:%s:%s: %s %s, acts %s, person %s: %s\n%s  %s" % (
            number, seed, r.peer, r.fault, r.acts, r.person, e, trace, "\n  ".join(r.log))
    finally:
        r.close()
    return r.tags or {r.peer + " " + r.fault}, outcome, why, time.monotonic() - begun


def slice_of(text):
    """COUNT, FROM and SEED."""
    count, first, seed = (text.split(":", 2) + ["", ""])[:3]
    return int(count), int(first or 0), seed or "vfmig"


def build_clock(folder):
    World.clock = os.path.join(folder, "clock.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", World.clock, source], check=True)


def print_table(table):
    kinds = {}
    for (kind, _), times in table.items():
        kinds[kind] = kinds.get(kind, 0) + times
    print("%-24s %-40s %6s" % ("kind", "outcome", "times"))
    for kind in sorted(kinds):
        print("%-24s %-40s %6d" % (kind, "", kinds[kind]))
        for (k, outcome), times in sorted(table.items()):
            if k == kind:
                print("%-24s %-40s %6d" % ("", outcome, times))


def main():
    count, first, seed = slice_of(sys.argv[1] if len(sys.argv) > 1 else "300")
    table, failures, played = {}, [], 0
    begun, longest = time.monotonic(), 0
    for tool in "strace", "cc", "unshare":
        if not shutil.which(tool):
            sys.exit("handover.py: %s is not there: install what scripts/packages names" % tool)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
        build_clock(folder)
        for tags, outcome, why, seconds in pool.map(lambda n: play(n, seed), range(first, first + count)):
            played += 1
            longest = max(longest, seconds)
            for tag in tags:
                table[tag, outcome] = table.get((tag, outcome), 0) + 1
            if why:
                failures.append(why)
                print(why, flush=True)
            if played % 500 == 0:
                print("%d handovers, %d failed" % (played, len(failures)), flush=True)
    print_table(table)
    seconds = time.monotonic() - begun
    print("%.1f s, %.2f s a round, the longest took %.1f s" % (seconds, seconds / max(played, 1), longest))
    print("%d handovers from number %d of seed %s: %d failed" % (played, first, seed, len(failures)))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
