# SPDX-License-Identifier: BSD-3-Clause
"""ledger.py: what a folder of journals lets a second session of a device do: retries, old sessions, other peers."""
import contextlib
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))

from relay import Relay, Trigger  # noqa: E402
from tap import (VFMIG, contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start,  # noqa: E402
                 state_of, test)

AT_WORK = ["--size", "64K", "--start", "--rate", "1000"]
IDLE = ["--size", "64K"]
SOON = ["--retry-for", "200"]
MARK = 0x76666D01  # the first ping, which a QEMU only echoes


def step(uri):
    return json.loads(run_ok("prove", "--json", uri).out)["devices"][0]["step"]


def status(folder):
    return [json.loads(line) for line in run_ok("status", "--json", "--journal", folder).out.splitlines()]


class Host:
    """A folder of journals and what is done with it."""

    def __init__(self, scratch, name):
        self.scratch, self.folder = scratch, "%s/%s" % (scratch, name)
        os.mkdir(self.folder)

    def load(self, uri, *more):
        process = start("load", uri, "-i", "unix:%s/l" % self.scratch, "--json", "--journal", self.folder, *more)
        read_event(process, event="listening")
        return process

    def save(self, uri, *more, link=None, **kwargs):
        return start("save", uri, "-o", link or "unix:%s/l" % self.scratch, "--journal", self.folder, *more, **kwargs)

    def run(self, *args):
        return run(*args, "--journal", self.folder)

    def states(self):
        return [s["state"] for s in status(self.folder)]


def move(source, destination, a, b):
    load = destination.load(b)
    saved, loaded = finish(source.save(a)), finish(load)
    equal((saved.code, loaded.code), (0, 0))


@contextlib.contextmanager
def hosts(scratch, *names):
    yield [Host(scratch, name) for name in names]


def lose(source, destination, a, b, trigger, victim):
    """A move whose program is killed at the trigger. The session's id."""
    link = "unix:%s/r" % source.scratch
    load = destination.load(b, *SOON)
    victims = {"load": load}

    def strike(relay):
        victims[victim].kill()
        victims[victim].wait()
        relay.cut()
    relay = Relay(source.scratch + "/r", source.scratch + "/l", trigger, strike)
    victims["save"] = save = source.save(a, *SOON, link=link)
    finish(save)
    finish(load)
    relay.close()
    os.unlink(source.scratch + "/r")
    return status(source.folder)[-1]["session"]


def resolve_both(session, source, destination):
    """Without the relay that stood between them."""
    both = [start("resolve", session, "--journal", h.folder, "--retry-for", "5000", "--link", "unix:%s/l" % h.scratch)
            for h in (source, destination)]
    return [finish(p).code for p in both]


DECIDED = Trigger, ("prepared", 1)
UNDECIDED = Trigger, ("preparing", 7)


def at(kind):
    return kind[0](*kind[1])


@test
def a_retry_of_what_was_decided_is_refused(scratch):
    with hosts(scratch, "ja", "jb", "jc") as (a, b, c), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *IDLE) as second:
        session = lose(a, b, source, first, at(DECIDED), "save")
        equal((a.states(), b.states()), (["decided"], ["prepared"]))
        load = c.load(second)
        result = finish(a.save(source))
        finish(load)
        equal(result.code, 1)
        contains(result.err, "session %s still has it" % session)
        contains(result.err, "vfmig resolve %s" % session)
        equal((state_of(source), step(second), c.states()), ("stopped", 0, []))
        equal(resolve_both(session, a, b), [0, 0])
        run_ok("prove", source, first)
        equal((state_of(first), a.states(), b.states()), ("running", ["done"], ["running"]))


@test
def what_was_given_away_is_not_saved_again(scratch):
    with hosts(scratch, "ja", "jb", "jc") as (a, b, c), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *IDLE) as second:
        move(a, b, source, first)
        session = status(a.folder)[0]["session"]
        for link in "file:%s/state" % scratch, "exec:cat >/dev/null":
            contains(finish(a.save(source, link=link)).err, "given away in session " + session)
        assert not os.path.exists(scratch + "/state")
        load = c.load(second)
        contains(finish(a.save(source)).err, "given away in session " + session)
        finish(load)
        equal((step(second), state_of(source)), (0, "stopped"))
        # A person's word, which no message prints.
        assert "--again" not in a.run("status").out
        load = c.load(second)
        equal((finish(a.save(source, "--again", session)).code, finish(load).code), (0, 0))
        run_ok("prove", source, second)


@test
def a_load_that_failed_does_not_make_it_ones_own(scratch):
    """It was not touched, and its state is at work where it was given to."""
    with hosts(scratch, "ja", "jb", "jc") as (a, b, c), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *IDLE) as second:
        move(a, b, source, first)
        relay = Relay(scratch + "/r", scratch + "/l", Trigger("forward", 92), lambda r: r.cut())
        load = a.load(source, *SOON)
        codes = finish(b.save(first, *SOON, link="unix:%s/r" % scratch)).code, finish(load).code
        relay.close()
        equal((codes, sorted(a.states()), state_of(source)), ((1, 1), ["abandoned", "done"], "stopped"))
        load = c.load(second)
        contains(finish(a.save(source)).err, "given away in session")
        finish(load)
        equal(step(second), 0)
        run_ok("prove", source, first)


@test
def a_refused_retry_says_nothing_may_run(scratch):
    """The device works at the destination, so a caller must not start it for a save that touched nothing."""
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        move(a, b, source, first)
        for link in "exec:cat >/dev/null", "file:/nonexistent/state":
            result = json.loads(finish(a.save(source, "--json", link=link)).out.splitlines()[-1])
            equal((result["result"], result["source_may_run"]), ("failed", False))


@test
def status_tells_of_the_last_session(scratch):
    """What an older one says of the device's work is over, and its destination is told so all the same."""
    with hosts(scratch, "ja", "jb", "jc") as (a, b, c), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *IDLE) as second:
        session = lose(a, b, source, first, at(UNDECIDED), "save")
        equal(a.run("resolve", session, "--retry-for", "100").code, 0)
        move(a, c, source, second)
        found = next(s for s in status(a.folder) if s["session"] == session)
        equal((found["state"], found["meaning"]), ("runs", "it is over: a later session has had the device since"))
        equal(b.states(), ["prepared"])
        equal(resolve_both(session, a, b), [0, 0])
        equal((b.states(), state_of(source)), (["abandoned"], "stopped"))
        assert "at the source" not in b.run("status").out
        run_ok("prove", source, second)


@test
def a_destination_that_gave_up_by_a_word_is_still_asked(scratch):
    """The source has decided and cannot take that back before it hears so: status at the destination says how."""
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        session = lose(a, b, source, first, at(DECIDED), "save")
        equal(b.run("resolve", session, "source").code, 0)
        found = status(b.folder)[0]
        equal((found["state"], found["ended"]), ("abandoned", False))
        contains(found["commands"][0]["command"], "vfmig resolve " + session)
        equal(resolve_both(session, a, b), [0, 0])
        equal((a.states(), state_of(source), status(b.folder)[0]["ended"]), (["runs"], "running", True))
        run_ok("prove", source)


@test
def a_journal_that_was_never_begun_is_none(scratch):
    """Killed before its first line was written: that blocks neither status nor the next save."""
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK) as source:
        for call in "pwrite64", "fsync":
            killed = subprocess.run(["strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                                     "inject=%s:signal=KILL:when=1" % call, VFMIG, "save", source, "-o",
                                     "file:%s/state" % scratch, "--journal", a.folder], capture_output=True,
                                    check=False)
            assert killed.returncode != 0
            equal(a.states(), [])
        equal(finish(a.save(source, link="file:%s/state" % scratch)).code, 0)
        equal(os.listdir(a.folder), [status(a.folder)[0]["session"] + ".source"])


@test
def a_resolve_without_room_is_an_error(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        session = lose(a, b, source, first, at(UNDECIDED), "save")
        result = subprocess.run(["prlimit", "--fsize=0", VFMIG, "resolve", session, "--journal", a.folder],
                                capture_output=True, text=True, check=False)
        equal(result.returncode, 1)
        contains(result.stderr, "File too large")
        equal((a.states(), state_of(source)), (["stopped"], "stopped"))


@test
def it_may_come_back(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as one, \
            device(scratch, "b", *IDLE) as other:
        move(a, b, one, other)
        load = a.load(one)
        equal((finish(b.save(other)).code, finish(load).code), (0, 0))
        run_ok("prove", other, one)
        equal([(s["side"], s["state"], s["order"]) for s in sorted(status(a.folder), key=lambda s: s["order"])],
              [("source", "done", 1), ("destination", "running", 2)])
        move(a, b, one, other)


@test
def consent_supersedes_and_the_old_destination_is_told(scratch):
    with hosts(scratch, "ja", "jb", "jc") as (a, b, c), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *IDLE) as second:
        session = lose(a, b, source, first, at(DECIDED), "save")
        load = c.load(second)
        contains(finish(a.save(source, "--again", "0" * 32)).err, "no source's journal")
        finish(load)
        load = c.load(second)
        equal((finish(a.save(source, "--again", session)).code, finish(load).code), (0, 0))
        run_ok("prove", source, second)
        equal([s["state"] for s in sorted(status(a.folder), key=lambda s: s["order"])], ["superseded", "done"])
        # Its destination asks still, and must not run.
        equal(min(status(a.folder), key=lambda s: s["order"])["ended"], False)
        resolve_both(session, a, b)
        equal((b.states(), step(first)), (["abandoned"], 0))
        found = min(status(a.folder), key=lambda s: s["order"])
        equal((found["state"], found["ended"], found["commands"]), ("superseded", True, []))


@test
def a_load_leaves_alone_what_is_prepared(scratch):
    with hosts(scratch, "ja", "jb", "jc") as (a, b, c), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *AT_WORK) as other:
        session = lose(a, b, source, first, at(DECIDED), "save")
        result = b.run("load", first, "-i", "file:" + scratch)
        equal(result.code, 1)
        contains(b.run("load", first, "-i", "exec:cat").err, "session %s still has it" % session)
        equal(state_of(first), "stopped")
        run_ok("save", other, "-o", "file:%s/state" % scratch, "-q")
        contains(run_fails("load", first, "-i", "file:%s/state" % scratch, "--journal", b.folder).err,
                 "session %s still has it" % session)
        # With a person's word it is reset, and the source is told so.
        run_ok("load", first, "-i", "file:%s/state" % scratch, "--journal", b.folder, "--replace", session)
        run_ok("prove", other, first)
        resolve_both(session, a, b)
        equal((a.states(), state_of(source)), (["runs"], "running"))
        run_ok("prove", source)
        equal(c.states(), [])


@test
def a_load_does_not_end_a_work_that_goes_on(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first, device(scratch, "c", *AT_WORK) as other:
        move(a, b, source, first)
        session = status(b.folder)[0]["session"]
        run_ok("save", other, "-o", "file:%s/state" % scratch, "-q")
        before = step(first)
        contains(run_fails("load", first, "-i", "file:%s/state" % scratch, "--journal", b.folder).err,
                 "works here since session " + session)
        assert step(first) >= before > 0
        run_ok("recover", first, "--discard", "--journal", b.folder)
        equal(b.states(), ["replaced"])
        run_ok("load", first, "-i", "file:%s/state" % scratch, "--journal", b.folder)
        run_ok("prove", other, first)


def an_older_session_resets_nothing(scratch, name_again, age):
    """Settled by a person at the source; the device came after all, in a later session."""
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        session = lose(a, b, source, first, at(UNDECIDED), "save")
        equal(a.run("resolve", session, "source").code, 0)
        age(b.folder)
        load = start("load", name_again(first), "-i", "unix:%s/l" % scratch, "--json", "--journal", b.folder,
                     "--replace", session, cwd=scratch)
        read_event(load, event="listening")
        equal((finish(a.save(source)).code, finish(load).code), (0, 0))
        for word in [], ["source"], ["destination"]:
            b.run("resolve", session, *word, "--retry-for", "200")
        equal(state_of(first), "running")
        run_ok("prove", source, first)


@test
def an_older_session_by_another_path(scratch):
    an_older_session_resets_nothing(scratch, lambda uri: "vfio-user:" + os.path.basename(uri), lambda folder: None)


@test
def an_older_session_by_a_link_to_the_socket(scratch):
    def name_again(uri):
        os.symlink(uri.partition(":")[2], scratch + "/alias")
        return "vfio-user:%s/alias" % scratch
    an_older_session_resets_nothing(scratch, name_again, lambda folder: None)


@test
def an_older_session_by_a_hard_link_to_the_socket(scratch):
    def name_again(uri):
        os.link(uri.partition(":")[2], scratch + "/alias")
        return "vfio-user:%s/alias" % scratch
    an_older_session_resets_nothing(scratch, name_again, lambda folder: None)


@test
def an_older_session_of_a_clock_that_was_ahead(scratch):
    def age(folder):
        for path in glob.glob(folder + "/*"):
            os.utime(path, (4e9, 4e9))
    an_older_session_resets_nothing(scratch, lambda uri: uri, age)


@test
def what_another_server_of_the_device_held_is_gone(scratch):
    """Its server was started again: nobody may say that the source has it."""
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "b", *IDLE) as first:
        with device(scratch, "a", *AT_WORK) as source:
            session = lose(a, b, source, first, at(UNDECIDED), "save")
            equal(a.states(), ["stopped"])
        with device(scratch, "a", *AT_WORK) as source:
            result = run_fails("resolve", session, "--journal", a.folder, "--retry-for", "200")
            contains(result.err, "vfmig resolve %s destination' on both sides" % session)
            equal(a.states(), ["stopped"])
            # The new one has a history of its own.
            run_ok("save", source, "-o", "file:%s/state" % scratch, "--journal", a.folder)
            for host in a, b:
                equal(host.run("resolve", session, "destination").code, 0 if host is b else 1)
            equal(state_of(first), "running")


@test
def runs_on_is_two_steps(scratch):
    """Killed while the device does not come back: the session is open, and going on brings it back."""
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "b", *IDLE, "--fault", "errno@to-running") as first, \
            device(scratch, "a", *AT_WORK, "--fault", "slow@to-running:3000") as source:
        load = b.load(first, *SOON)
        save = a.save(source, "--no-precopy")
        while "runs-on" not in a.states():
            assert save.poll() is None, finish(save).err
        save.kill()
        save.wait()
        finish(load)
        found = status(a.folder)[0]
        equal((found["state"], found["ended"]), ("runs-on", False))
        contains(found["commands"][0]["command"], "vfmig resolve " + found["session"])
        a.run("resolve", found["session"], "--retry-for", "200")
        equal((a.states(), state_of(source)), (["runs"], "running"))
        run_ok("prove", source)


@test
def a_device_that_does_not_run_again_is_not_said_to(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "b", *IDLE) as first, \
            device(scratch, "a", *AT_WORK, "--fault", "errno@to-running") as source:
        session = lose(a, b, source, first, at(UNDECIDED), "save")
        run_fails("resolve", session, "source", "--journal", a.folder)
        found = status(a.folder)[0]
        equal((found["state"], found["ended"], state_of(source)), ("runs-on", False, "stopped"))


class Qemu:
    """A destination by hand that only echoes pings: one that runs before it says so."""

    def __init__(self, host, uri, *more):
        self.path, self.said = host.scratch + "/q", False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.save = host.save(uri, "--json", "--no-precopy", *more, link="unix:" + self.path)
        self.peer = self.listener.accept()[0]
        self.peer.sendall(struct.pack(">HHI", 2, 4, MARK))

    def completing(self):
        read_event(self.save, event="phase", phase="completing")
        return self

    def say(self, code):
        self.said = True
        self.peer.sendall(struct.pack(">HHI", 1, 4, code))

    def end(self):
        """After a word the save ends by itself; without one the connection is lost."""
        if self.said:
            self.save.wait()
        self.peer.close()
        self.listener.close()
        os.unlink(self.path)
        return finish(self.save)


@test
def sent_to_a_qemu_is_not_known_here(scratch):
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK) as source:
        qemu = Qemu(a, source).completing()
        equal(a.states(), ["sent"])
        session = status(a.folder)[0]["session"]
        assert qemu.end().code != 0
        equal((a.states(), state_of(source)), (["sent"], "stopped"))
        contains(a.run("resolve", session).err, "not known here")
        equal((a.states(), state_of(source)), (["sent"], "stopped"))
        contains(finish(a.save(source, link="file:%s/state" % scratch)).err, "still has it")
        contains(a.run("recover", source, "--run").err, "vfmig resolve " + session)
        commands = [c["command"] for c in status(a.folder)[0]["commands"]]
        equal(sorted(c.split()[3] for c in commands), ["destination", "source"])
        equal(a.run("resolve", session, "source").code, 0)
        found = status(a.folder)[0]
        equal((found["state"], found["by_person"], state_of(source)), ("runs", True, "running"))
        run_ok("prove", source)


@test
def a_qemu_that_says_loaded_or_refuses(scratch):
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK) as source:
        qemu = Qemu(a, source).completing()
        qemu.say(1)
        equal(qemu.end().code, 1)
        equal((a.states(), state_of(source)), (["runs"], "running"))
        qemu = Qemu(a, source).completing()
        qemu.say(0)
        equal(qemu.end().code, 0)
        equal((sorted(a.states()), state_of(source)), (["done", "runs"], "stopped"))
        contains(finish(a.save(source, link="file:%s/state" % scratch)).err, "given away")


@test
def a_file_is_not_another_device(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        run_ok("save", source, "-o", "file:%s/one" % scratch, "--journal", a.folder)
        equal((a.states(), state_of(source)), (["done"], "stopped"))
        run_ok("save", source, "-o", "file:%s/two" % scratch, "--journal", a.folder)
        load = b.load(first)
        contains(finish(a.save(source)).err, "vfmig recover %s --run" % source)
        finish(load)
        contains(run_ok("recover", source, "--run", "--journal", a.folder).out, "file:%s/two" % scratch)
        found = max(status(a.folder), key=lambda s: s["order"])
        equal((found["state"], found["by_person"], state_of(source)), ("runs", True, "running"))
        run_ok("prove", source)
        run_ok("load", first, "-i", "file:%s/one" % scratch, "--journal", b.folder)
        equal(b.states(), ["running"])


@test
def a_killed_save_leaves_a_file_that_status_names(scratch):
    with hosts(scratch, "ja") as (a,), device(scratch, "a", "--size", "8M", "--start") as source:
        save = a.save(source, "--json", "--max-bandwidth", "1M", link="file:%s/state" % scratch)
        read_event(save, event="phase", phase="pre-copy")
        text = a.run("status").out
        contains(text, "at work")
        save.kill()
        save.wait()
        left = glob.glob(scratch + "/state.??????")
        equal(len(left), 1)
        contains(a.run("status").out, left[0])
        session = status(a.folder)[0]["session"]
        equal(a.run("resolve", session[:6]).code, 0)
        equal((a.states(), state_of(source)), (["runs"], "running"))


@test
def a_stopped_device_that_the_folder_does_not_know(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        move(a, b, source, first)
        shutil.rmtree(a.folder)
        contains(finish(a.save(source, link="null:")).err, "journal directory " + a.folder)
        os.mkdir(a.folder)
        contains(finish(a.save(source, link="file:%s/state" % scratch)).err, "no session in %s tells why" % a.folder)
        equal((a.states(), state_of(source)), ([], "stopped"))
        # Without any folder nothing is known: that is said.
        contains(run_ok("save", source, "-o", "null:").err, "no journal tells why")


def given_away(scratch, a, b, source, first):
    move(a, b, source, first)
    return status(a.folder)[0]["session"]


@test
def a_load_that_was_killed_before_anything_came_hides_nothing(scratch):
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        session = given_away(scratch, a, b, source, first)
        load = start("load", source, "-i", "exec:sleep 100", "--journal", a.folder)
        while len(status(a.folder)) < 2:
            assert load.poll() is None
        load.kill()
        load.wait()
        equal(sorted(a.states()), ["done", "waiting"])
        contains(finish(a.save(source, link="exec:cat >/dev/null")).err, "given away in session " + session)


@test
def what_went_into_a_pipe_is_not_saved_again(scratch):
    """The folder keeps no record of it, so it only knows that the device worked."""
    with hosts(scratch, "ja", "jb") as (a, b), device(scratch, "a", *AT_WORK) as source, \
            device(scratch, "b", *IDLE) as first:
        given_away(scratch, a, b, source, first)
        with open(scratch + "/piped", "wb") as piped:
            equal(finish(b.save(first, link="-", stdout=piped)).code, 0)
        equal((state_of(first), b.states()), ("stopped", ["running"]))
        contains(finish(b.save(first, link="exec:cat >/dev/null")).err, "not even its last session in " + b.folder)


@test
def a_stopped_device_is_put_back_stopped(scratch):
    """What was stopped before a save does not run because that save was killed."""
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK, "--fault", "slow@to-stop:500") as source:
        run_ok("save", source, "-o", "file:%s/one" % scratch, "--journal", a.folder)
        save = a.save(source, "--json", link="file:%s/two" % scratch)
        read_event(save, event="phase", phase="stop-and-copy")
        save.kill()
        save.wait()
        found = max(status(a.folder), key=lambda s: s["order"])
        if found["state"] in ("saving", "stopped", "sent"):
            equal(found["held"], True)
            word = ["source"] if found["state"] == "sent" else []
            equal(a.run("resolve", found["session"], *word).code, 0)
        equal(state_of(source), "stopped")
        contains(finish(a.save(source, link="exec:cat >/dev/null")).err, "put its state into")


@test
def a_saving_device_that_somebody_else_stopped_is_not_let_run(scratch):
    with hosts(scratch, "ja") as (a,), device(scratch, "a", "--size", "8M", "--start", "--interface", "v2") as source:
        save = a.save(source, "--json", "--max-bandwidth", "1M", link="file:%s/state" % scratch)
        read_event(save, event="phase", phase="pre-copy")
        save.kill()
        save.wait()
        run_ok("recover", source)  # without the folder
        run_ok("save", source, "-o", "file:%s/moved" % scratch, "-q")
        session = status(a.folder)[0]["session"]
        contains(a.run("resolve", session).err, "a device that was at work is stopped")
        equal((state_of(source), a.states()), ("stopped", ["saving"]))
        equal(a.run("resolve", session, "source").code, 0)
        equal((state_of(source), a.states()), ("running", ["runs"]))


@test
def one_device_of_several_speaks_for_itself_only(scratch):
    ids = ["--id", "0000:00:01.0/vfio", "--id", "0000:00:02.0/vfio"]
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK) as one, device(scratch, "b", *AT_WORK) as two:
        equal(finish(a.save(one, two, *ids, link="exec:cat >/dev/null")).code, 0)
        equal(a.run("recover", one, "--run").code, 0)
        equal((a.states(), state_of(one), state_of(two)), (["done"], "running", "stopped"))
        contains(finish(a.save(two, link="exec:cat >/dev/null")).err, "given away")


@test
def several_devices_are_claimed_together(scratch):
    ids = ["--id", "0000:00:01.0/vfio", "--id", "0000:00:02.0/vfio"]
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK) as one, device(scratch, "b", *AT_WORK) as two:
        save = a.save(one, two, *ids, "--json", "--max-bandwidth", "1K", link="file:%s/state" % scratch)
        read_event(save, event="phase", phase="pre-copy")
        found = status(a.folder)
        equal([(f["busy"], [d["uri"] for d in f["devices"]]) for f in found], [(True, [one, two])])
        contains(a.run("resolve", found[0]["session"]).err, "a program is at work on this session")
        save.kill()
        save.wait()
        for uri in one, two:
            run_ok("recover", uri, "--journal", a.folder)
            equal(state_of(uri), "running")


@test
def the_folder_that_nobody_names(scratch):
    with hosts(scratch, "ja") as (a,), device(scratch, "a", *AT_WORK) as source:
        environment = dict(os.environ, VFMIG_JOURNAL=a.folder)
        run_ok("save", source, "-o", "file:%s/state" % scratch, env=environment)
        session = status(a.folder)[0]["session"]
        contains(run_ok("status", env=environment).out, session)
        contains(run_ok("status", session[:5], env=environment).out, session)
        contains(run_fails("save", source, "-o", "exec:cat >/dev/null", env=environment).err, session)
        run_ok("recover", source, "--run", env=environment)
        equal(a.states(), ["runs"])
        contains(run("status", env=dict(environment, VFMIG_JOURNAL="")).err, "VFMIG_JOURNAL")


main()
