# SPDX-License-Identifier: BSD-3-Clause
"""world.py: three devices, their hosts' folders, the programs that are run on them, and what is true of them."""
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading

from words import Device, Line, Truth, judge_line, judge_message, judge_result

VFMIG = os.environ.get("VFMIG", "build/vfmig")
RETRY_MS = "400"
LIMIT_S = 20  # for one program; each takes a moment
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


class Failed(Exception):
    pass


class World:
    """One round's. `one_folder`: all devices are on one host."""

    clock = None  # the library that fakes it

    def __init__(self, random):
        self.random = random
        self.scratch = tempfile.mkdtemp(prefix="vfmig-handover-")
        self.processes, self.log, self.servers = [], [], {}
        self.killed, self.paused, self.timers = set(), [], []
        self.dead, self.worked, self.top = set(), set(), 0
        self.false_word = False
        self.copies = False  # a file was loaded: older copies are there by a person's wish
        self.pending = []  # what has been said, and is to be judged
        self.tags = set()

    def path(self, name):
        return "%s/%s" % (self.scratch, name)

    def say(self, *words):
        self.log.append(" ".join(str(w) for w in words))

    # ------------------------------------------------------------ processes

    def start(self, *args, kill=None, full=False, read_only=None, clock=False):
        """kill: (system call, n): killed at the n-th. full: no file can be written. read_only: a folder."""
        words, env = [VFMIG, *args], None
        if read_only:
            words = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", READ_ONLY, read_only, *words]
        if kill:
            words = ["strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace=" + kill[0], "-e",
                     "inject=%s:signal=KILL:when=%d" % kill, *words]
        if clock:
            env = dict(os.environ, LD_PRELOAD=World.clock,
                       VFMIG_CLOCK=str(self.random.choice([-40000000, -3600, 3600, 40000000])))
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=env)
        if full:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        process.words = args
        process.may_die = bool(kill)
        self.processes.append(process)
        return process

    def kill(self, process):
        self.killed.add(process.pid)
        process.kill()

    def pause(self, process, for_ms):
        """SIGSTOP, and SIGCONT later; None: when wake() is called."""
        process.send_signal(signal.SIGSTOP)
        if for_ms is None:
            self.paused.append(process)
            return
        timer = threading.Timer(for_ms / 1000, process.send_signal, [signal.SIGCONT])
        timer.start()
        self.timers.append(timer)

    def wake(self):
        for process in self.paused:
            process.send_signal(signal.SIGCONT)
        self.paused = []

    def finish(self, process):
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as why:
            raise Failed("%s hangs" % " ".join(process.words)) from why
        self.say("$ vfmig", *process.words, "->", process.returncode)
        self.say(out.strip() if process.words[0] not in ("probe", "prove") else "", err.strip())
        if process.returncode < 0 and not process.may_die and process.pid not in self.killed:
            raise Failed("%s was killed by signal %d" % (" ".join(process.words), -process.returncode))
        return process.returncode, out, err

    def run(self, *args, **how):
        return self.finish(self.start(*args, **how))

    def told(self, process, here, there):
        """The end of a program that says something of a device: judged when all is quiet."""
        code, out, err = self.finish(process)
        if code >= 0 and code != 137:
            self.pending.append((out, err, here, there))
        return code, out, err

    # -------------------------------------------------------------- devices

    def add_devices(self, options):
        for name, more in options.items():
            self.servers[name] = self.start("device", self.uri(name), "--size", "256K", "--interface", self.interface,
                                            *more)
        for name, process in self.servers.items():
            if not process.stdout.readline().startswith("listening"):
                raise Failed("device %s: %s" % (name, process.stderr.read()))

    def uri(self, name):
        return "vfio-user:" + self.path(name)

    def folder(self, name):
        return self.folders[name]

    def all_folders(self):
        return sorted(set(self.folders.values()))

    def kill_device(self, name):
        self.dead.add(name)
        self.kill(self.servers[name])

    def look(self, name):
        if name in self.dead:
            return Device(name, worked=name in self.worked)
        code, out, _ = self.run("probe", "--json", self.uri(name))
        state = json.loads(out)["migration"]["state"] if code == 0 else None
        code, out, _ = self.run("prove", "--json", self.uri(name))
        if state is None:
            return Device(name)
        found = json.loads(out)["devices"] if out.startswith("{") else []
        if code != 0 and state != "resuming":
            raise Failed("%s: the work is not right: %s" % (name, out))
        step = found[0]["step"] if code == 0 and found else 0
        d = Device(name, state, step, found[0]["loads"] if found else 0, name in self.worked)
        d.resumed = found[0]["resumed_step"] if found else 0
        if d.worked:
            self.worked.add(name)
        return d

    # ------------------------------------------------------------- journals

    def status(self, folder):
        if not os.path.isdir(folder):
            return []
        code, out, err = self.run("status", "--json", "--journal", folder)
        if code != 0 and not self.false_word:
            raise Failed("status: %s" % err)
        return [dict(json.loads(line), folder=folder) for line in out.splitlines()]

    def records(self):
        found = [s for folder in self.all_folders() for s in self.status(folder)]
        last, sides, names = {}, {}, []
        for s in found:
            s["name"] = s["devices"][0]["uri"].rpartition("/")[2]
            names.append(s["name"])
            sides[s["session"], s["side"]] = s
            if s["name"] not in last or s["order"] > last[s["name"]]["order"]:
                last[s["name"]] = s
        for s in found:
            other = sides.get((s["session"], "destination" if s["side"] == "source" else "source"))
            s["last"], s["other"], s["only"] = last[s["name"]] is s, other, names.count(s["name"]) == 1
        return found

    @staticmethod
    def line(s):
        return Line(s["name"], s["other"]["name"] if s["other"] else None, s["side"], s["state"], s["meaning"],
                    last=s["last"], there_last=bool(s["other"] and s["other"]["last"]), held=s["held"],
                    by_person=s["by_person"], busy=s["busy"], peer=s["peer"], link=s["link"],
                    session=s["session"], ended=s["ended"], only=s["only"])

    # ---------------------------------------------------------------- truth

    def truth(self):
        for timer in self.timers:
            timer.join()
        self.timers = []
        files = [self.path(f) for f in os.listdir(self.scratch)]
        truth = Truth([self.look(name) for name in self.servers], files)
        working = truth.working()
        self.say("truth --", *truth.devices.values())
        if len(working) > 1 and not self.false_word:
            raise Failed("two run: %s" % " and ".join(str(d) for d in working))
        for d in working:
            if d.step < self.top and not self.false_word and not self.copies:
                raise Failed("%s works, and step %d was done before" % (d, self.top))
            self.top = max(self.top, d.step)
        return truth

    def observe(self):
        """What is true now, and whether all that was said is. Nothing may be at work on the devices."""
        truth, records = self.truth(), self.records()
        false = []
        for s in records:
            false += judge_line(self.line(s), truth)
        for out, err, here, there in self.pending:
            results = [json.loads(line) for line in out.splitlines() if line.startswith('{"event":"result"')]
            for result in results:
                false += judge_result(result, here, there, truth)
            false += judge_message(err if results else out + err, here, there, truth)
        self.pending = []
        if false and not self.false_word:
            raise Failed("false words: %s" % "; ".join(false))
        return truth, records

    def command(self, text, **how):
        """What status has printed, as a person types it, but that nobody here waits for a minute."""
        words = shlex.split(text)
        if words[0] != "vfmig":
            raise Failed("status prints '%s'" % text)
        return self.start(*words[1:], "--retry-for", RETRY_MS, **how)

    def close(self):
        self.wake()
        for timer in self.timers:
            timer.cancel()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.send_signal(signal.SIGCONT)
            process.wait()
            process.stdout.close()
            process.stderr.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
