# SPDX-License-Identifier: BSD-3-Clause
"""moves.py: moves of a device to another one, to a QEMU or into a file, with one fault each."""
import json
import os
import resource
import shutil
import subprocess
import threading

from qemu import Qemu
from relay import PREPARED, Relay, Trigger
from world import RETRY_MS, Failed, World

STREAM = 285000  # bytes, about: the device's 256 KiB
REFUSING = ["errno@to-running", "errno@to-resuming", "errno@consume", "errno@to-stop"]
LINK = ["cut", "reset", "stall", "half"]
VICTIMS = ["save", "load", "src", "dst"]
FAULTS = (LINK + ["none", "refuse", "kill-save", "kill-load", "kill-src", "kill-dst", "full-save", "full-load",
                  "gone-save", "gone-load", "stop-save", "stop-load", "stop-src", "stop-dst", "late-save", "late-load",
                  "clock-save", "clock-load", "call-save", "call-load", "ro-save", "ro-load"])
LATER = LINK + ["none"] * 12 + ["kill-save", "kill-load", "full-save", "full-load", "stop-save", "stop-load",
                                "call-save", "call-load", "late-save", "late-load"]
QEMU = ["none", "refuses", "silent", "dies", "cut", "kill-save", "call-save", "full-save", "clock-save"]
FILE = ["none", "kill-save", "call-save", "full-save", "clock-save", "gone-save"]
# At which of these system calls a program is killed, and at most at the how many-th.
CALLS = [("fsync", 6), ("fsync", 6), ("sendmsg", 60), ("pwrite64", 6), ("write", 6), ("fstat", 10)]


class Moves(World):
    def __init__(self, random):
        super().__init__(random)
        self.relays = {}
        self.files = 0
        self.late = []  # programs that are stopped, and judged when they have gone on

    def call(self):
        name, most = self.random.choice(CALLS)
        return name, self.random.randint(1, most)

    def trigger(self):
        """Half of them where it matters most: around the end of the stream, and what is said behind it."""
        way = self.random.choice(["forward", "back", "preparing", "prepared", "prepared", "prepared"])
        count = {"forward": STREAM, "back": 80, "preparing": len(PREPARED), "prepared": 18}[way]
        return Trigger(way, self.random.randint(1, count))

    def how(self, fault, program, folder):
        """What a fault means from the start of a program on."""
        kind, _, whom = fault.partition("-")
        if whom != program:
            return {}
        return {"call": {"kill": self.call()}, "ro": {"read_only": folder}, "clock": {"clock": True}}.get(kind, {})

    def strike(self, relay, fault, victims, folders):
        kind, _, whom = fault.partition("-")
        self.say("strikes", fault)
        victim = victims.get(whom)
        if kind in LINK:
            getattr(relay, kind)()
        elif kind == "kill" and whom in ("src", "dst"):
            self.kill_device(victims[whom + "-name"])
        elif kind == "kill":
            self.kill(victim)
        elif kind == "full" and victim.poll() is None:
            resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (0, 0))  # EFBIG, as on a full disk
        elif kind == "gone":
            shutil.rmtree(folders[whom], ignore_errors=True)
        elif kind == "stop":
            self.pause(victim, self.random.choice([20, 100, 300, 700]))
        elif kind == "late":
            self.pause(victim, None)
            relay.cut()

    def listen_at(self, dst):
        """Where a load listens: the same for each of a device's sessions, or another port."""
        tcp = self.random.random() < 0.4
        return "tcp:127.0.0.1:0" if tcp else "unix:" + self.path("l-" + dst)

    def leave_path(self, dst):
        old = self.relays.pop(dst, None)
        if old:
            old.close()
        if os.path.exists(self.path("r-" + dst)):
            os.unlink(self.path("r-" + dst))

    def move(self, src, dst, fault, save_more=(), load_more=()):
        """From one device to another. False: refused before anything was connected."""
        self.say("----", src, "to", dst, fault)
        folders = {"save": self.folder(src), "load": self.folder(dst)}
        channels = self.random.choice([0, 0, 1, 3]) if self.interface == "v2" else 0
        more = ["--retry-for", RETRY_MS, "--timeout", "500", "--json"]
        more += ["--multifd", str(channels)] if channels else []
        at = self.listen_at(dst)
        tcp = at.startswith("tcp")
        load = self.start("load", self.uri(dst), "-i", at, "--journal", folders["load"], *more, *load_more,
                          **self.how(fault, "load", folders["load"]))
        link = self.listening(load)
        if not link:
            self.told(load, dst, src)
            return False
        to = ("127.0.0.1", int(link.rsplit(":", 1)[1])) if tcp else self.path("l-" + dst)
        victims = {"load": load, "src": self.servers[src], "dst": self.servers[dst], "src-name": src, "dst-name": dst}
        struck = fault.split("-")[0] in LINK + ["kill", "full", "gone", "stop", "late"]
        trigger = self.trigger() if struck else None
        if trigger:
            self.say("at", trigger.way, trigger.count, self.interface, at, "channels", channels)
        ready = threading.Event()

        def strike(relay):
            ready.wait(10)
            self.strike(relay, fault, victims, folders)
        if not tcp:
            self.leave_path(dst)
        relay = Relay(("127.0.0.1", 0) if tcp else self.path("r-" + dst), to, trigger, strike, channels)
        self.relays[(dst, relay.address[1]) if tcp else dst] = relay
        out = "tcp:127.0.0.1:%d" % relay.address[1] if tcp else "unix:" + self.path("r-" + dst)
        save = self.start("save", self.uri(src), "-o", out, "--journal", folders["save"], *more, *save_more,
                          **self.how(fault, "save", folders["save"]))
        victims["save"] = save
        ready.set()
        while fault.startswith("late") and save.poll() is None and not relay.struck.wait(0.02):
            pass
        if relay.struck.is_set():
            relay.done.wait(10)
        if self.end(save, src, dst) == 0 and fault == "ro-save":
            raise Failed("saved, and the folder of journals cannot be written")
        if load not in self.paused and load.poll() is None and not self.ends(load):
            load.terminate()  # nobody came, or somebody else did
            self.killed.add(load.pid)
        self.end(load, dst, src)
        self.struck = not trigger or relay.struck.is_set()
        return True

    def listening(self, load):
        for line in iter(load.stdout.readline, ""):
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                return event["link"]
            if event.get("event") == "result":
                self.say(line.strip())
                return None
        return None

    @staticmethod
    def ends(process):
        try:
            process.wait(1.5)
            return True
        except subprocess.TimeoutExpired:
            return False

    def end(self, process, here, there):
        """What it returned; None: it is stopped, and judged later."""
        if process not in self.paused:
            return self.told(process, here, there)[0]
        self.late.append((process, here, there))
        return None

    def to_qemu(self, src, dst, fault):
        """A QEMU that has `dst`. Whether it says what became of it is its own."""
        self.say("---- a QEMU", src, "to", dst, fault)
        path, file = self.path("q-" + dst), self.path("qemu-stream")
        if os.path.exists(path):
            os.unlink(path)
        qemu = Qemu(path, file)
        save = self.start("save", self.uri(src), "-o", "unix:" + path, "--journal", self.folder(src), "--json",
                          "--timeout", "500", "--retry-for", RETRY_MS, **self.how(fault, "save", self.folder(src)))
        try:
            until = self.random.randint(1, STREAM) if fault in ("cut", "kill-save", "full-save") else None
            whole = qemu.take(until) if self.connects(save, qemu) else False
            if fault == "kill-save":
                self.kill(save)
            elif fault == "full-save" and save.poll() is None:
                resource.prlimit(save.pid, resource.RLIMIT_FSIZE, (0, 0))
                whole = qemu.go_on()
            loads = whole and fault not in ("refuses", "dies", "cut")
            code = self.run("load", self.uri(dst), "-i", "file:" + file, "--journal", self.folder(dst), "-q")[0] \
                if loads else 1
            if whole and fault not in ("silent", "dies"):
                qemu.say(0 if code == 0 else 1)
                self.ends(save)
        finally:
            qemu.close()
        self.told(save, src, dst if code == 0 else None)
        return True

    @staticmethod
    def connects(save, qemu):
        """Does the save connect before it ends?"""
        while save.poll() is None:
            if qemu.waits(0.02):
                return True
        return qemu.waits(0)

    def to_file(self, src, fault):
        self.files += 1
        path = self.path("state-%d" % self.files)
        self.say("---- a file of", src, fault)
        slow = ["--max-bandwidth", "4M"] if fault.split("-")[0] in ("kill", "full", "gone") else []
        save = self.start("save", self.uri(src), "-o", "file:" + path, "--journal", self.folder(src), "--json",
                          "--timeout", "500", *slow, **self.how(fault, "save", self.folder(src)))
        phase = self.random.choice(["setup", "pre-copy", "stop-and-copy", "completing"])
        for line in iter(save.stdout.readline, "") if slow else ():
            self.say(line.strip())
            if json.loads(line).get("phase") == phase:
                self.strike(None, fault, {"save": save}, {"save": self.folder(src)})
                break
        self.told(save, src, None)
        return path if os.path.exists(path) else None
