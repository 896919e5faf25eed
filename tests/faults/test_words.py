# SPDX-License-Identifier: BSD-3-Clause
"""test_words.py: lies, one each, that words.py has to find; and the truth, in which it must find none."""
import copy
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from words import MEANINGS, STATES, Device, Line, Truth, judge_line, judge_message, judge_result  # noqa: E402

OVER = "it is over: a later session has had the device since"
SAVING = "the device is at work here; the destination has nothing that is whole"
STOPPED = "nothing is decided: the state is here, and the destination asks before it runs"
SENT = "the end of the state was sent: whether it is at work there is not known here"
DECIDED = "the device was given away: it must not run here, and the destination is to be told"
DONE = "the device was given away, and the destination has had it"
RUNS_ON = "the device is to be taken back: it may be stopped still"
RUNS = "the device was taken back and works here"
PREPARED = "the device is loaded and stopped: whether it may run only the source knows"
COMMITTED = "the source has given the device away: it may have been started here"
RUNNING = "the device was loaded and works here"
LOADING = "the device holds half of a state, which is not to run"
ABANDONED = "the device holds nothing of it, and never runs it"
FILE = "the state is in the file, and the device is stopped here"


def world(a, b, **more):
    """A truth: states of a and b, 'running' with the work unless it begins with 'fresh '."""
    devices = []
    for name, text, step in ("a", a, 100), ("b", b, 200):
        fresh, _, state = text.rpartition(" ")
        devices.append(Device(name, None if state == "dead" else state, 0 if fresh else step))
    return Truth(devices + [Device("c", "running", 0)], **more)


AT_A, AT_B = world("running", "fresh running"), world("stopped", "running")
NOWHERE, BOTH, GONE = world("stopped", "stopped"), world("running", "running"), world("dead", "running")
HALF = world("running", "fresh resuming")


def source(state, meaning, **more):
    return Line("a", "b", "source", state, meaning, **more)


def destination(state, meaning, **more):
    return Line("b", "a", "destination", state, meaning, **more)


def message(text, name="a", there="b"):
    return (text, name, there)


def result(**more):
    return dict({"event": "result", "command": "save", "result": "ok", "error": None, "devices": []}, **more)


TRUE = [
    (source("saving", SAVING), AT_A), (source("stopped", STOPPED), NOWHERE), (source("sent", SENT), AT_B),
    (source("decided", DECIDED), AT_B), (source("decided", DECIDED), NOWHERE), (source("done", DONE), AT_B),
    (source("runs-on", RUNS_ON), NOWHERE), (source("runs", RUNS), AT_A), (source("runs", OVER, last=False), AT_B),
    (destination("loading", LOADING), HALF), (destination("prepared", PREPARED), NOWHERE),
    (destination("committed", COMMITTED), NOWHERE), (destination("running", RUNNING), AT_B),
    (destination("running", RUNNING), GONE), (destination("abandoned", ABANDONED), AT_A),
    (source("done", FILE, peer="file", link="file:/f"), world("stopped", "running", files=["/f"])),
    (source("decided", DECIDED, busy=True), AT_A),  # a program is at work: nothing can be said
    (message("vfio-user:/x/a is now stopped"), NOWHERE),
    (message("given away and is stopped since: its state went to the destination"), NOWHERE),
    (result(devices=[{"uri": "vfio-user:/x/a", "state": "stopped"}]), AT_B),
    (result(result="failed", source_may_run=True), AT_A),
    (message("now runs: " + RUNS), AT_A),
]

LIES = {
    "saving, and it is stopped": (source("saving", SAVING), NOWHERE),
    "saving, and the other side works": (source("saving", SAVING), BOTH),
    "stopped, and the other side works": (source("stopped", STOPPED), AT_B),
    "stopped, and it has nothing": (source("stopped", STOPPED), world("fresh running", "stopped")),
    "sent, and it works here": (source("sent", SENT), AT_A),
    "decided, and it works here": (source("decided", DECIDED), AT_A),
    "done, and the other side never had it": (source("done", DONE), world("stopped", "fresh running")),
    "done, and it works here": (source("done", DONE), BOTH),
    "runs-on, and the other side works": (source("runs-on", RUNS_ON), AT_B),
    "runs, and it is stopped": (source("runs", RUNS), NOWHERE),
    "runs, and it was reset": (source("runs", RUNS), world("fresh running", "fresh running")),
    "runs, and the other side works, too": (source("runs", RUNS), BOTH),
    "status: works here, of an old session": (source("runs", RUNS, last=False, there_last=False), AT_B),
    "loading, and it works": (destination("loading", LOADING), BOTH),
    "prepared, and it works": (destination("prepared", PREPARED), AT_B),
    "committed, and the source works": (destination("committed", COMMITTED), AT_A),
    "running, and it is stopped": (destination("running", RUNNING), NOWHERE),
    "running, and it is fresh": (destination("running", RUNNING), AT_A),
    "running, and the source works": (destination("running", RUNNING), BOTH),
    "abandoned, and it holds the state": (destination("abandoned", ABANDONED), NOWHERE),
    "abandoned, and it works": (destination("abandoned", ABANDONED), AT_B),
    "a file that is not there": (source("done", FILE, peer="file", link="file:/f"), AT_B),
    "a file's device that works": (source("done", FILE, peer="file", link="file:/f"),
                                   world("running", "fresh running", files=["/f"])),
    "a state that nobody knows": (source("given", DONE), AT_B),
    "a sentence that nobody knows": (source("done", "all is well"), AT_B),
    "resolve: now runs, and it is stopped": (message("now runs: " + RUNS), NOWHERE),
    "is now running, and it is stopped": (message("vfmig save: vfio-user:/x/a is now running"), NOWHERE),
    "stays stopped, and it works": (message("x; the source stays stopped"), AT_A),
    "works at the destination, and nobody works": (message("its state is at work at the destination (l)"), NOWHERE),
    "works here since, and it does not": (message("it works here since session 0", "b", "a"), NOWHERE),
    "not here any more, and it works here": (message("the state is not here any more"), AT_A),
    "does not hold it any more, and it does": (message("the device does not hold what was loaded any more", "b"),
                                               NOWHERE),
    "two run, and one does": (message("session 0: TWO RUN: the destination"), AT_A),
    "result: stopped, and it runs": (result(devices=[{"uri": "vfio-user:/x/a", "state": "stopped"}]), AT_A),
    "result: saved, and it works here": (result(), AT_A),
    "result: loaded, and it does not work": (result(command="load"), NOWHERE),
    "result: may run, and the other side works": (result(result="failed", source_may_run=True), AT_B),
}


def judge(said, truth):
    if isinstance(said, Line):
        return judge_line(said, truth)
    if isinstance(said, tuple):
        return judge_message(*said, truth)
    here = "a" if said["command"] == "save" else "b"
    return judge_result(copy.deepcopy(said), here, "b" if here == "a" else "a", truth)


def main():
    wrong = ["a lie was not found: " + name for name, (said, truth) in LIES.items() if not judge(said, truth)]
    for n, (said, truth) in enumerate(TRUE):
        wrong += ["true word %d is said to be false: %s" % (n, what) for what in judge(said, truth)]
    used = {s.meaning for s, _ in TRUE if isinstance(s, Line)}
    wrong += ["no true word uses '%s'" % m for m in (OVER, SAVING, STOPPED, DONE, RUNS)
              if m not in used or m not in MEANINGS]
    wrong += ["no lie is of %s %s" % s for s, claims in STATES.items() if claims and not any(
        isinstance(said, Line) and (said.side, said.state) == s for said, _ in LIES.values())]
    for line in wrong:
        print(line)
    print("%d lies, %d found; %d true words" % (len(LIES), len(LIES) - sum("lie was" in w for w in wrong), len(TRUE)))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
