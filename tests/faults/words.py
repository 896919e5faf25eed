# SPDX-License-Identifier: BSD-3-Clause
"""words.py: what the journals, `vfmig status` and the last messages of vfmig claim, and whether that is true.

A claim is a predicate on a Truth: what every device is in, asked of the devices themselves. `here` is the device of
the journal that claims it, `there` the other side's; a device that nobody can ask (None) makes no claim false.
"""
import re

AT_WORK = ("running", "running-p2p", "pre-copy", "pre-copy-p2p")


class Device:
    """One device, as it was asked. state None: it did not answer."""

    def __init__(self, name, state=None, step=0, loads=0, worked=False):
        self.name, self.state, self.step, self.loads = name, state, step, loads
        self.worked = worked or self.works  # has it ever, in this round

    @property
    def works(self):
        """Has it the work, and is it at it? A fresh device runs, too, but has nothing."""
        return self.state in AT_WORK and self.step > 0

    @property
    def holds(self):
        return self.state is not None and self.step > 0

    def __str__(self):
        return "%s: %s at step %d" % (self.name, self.state, self.step)


class Truth:
    """devices: by name. files: the paths that exist."""

    def __init__(self, devices, files=()):
        self.devices, self.files = {d.name: d for d in devices}, set(files)

    def get(self, name):
        d = self.devices.get(name)
        return d if d and d.state is not None else None

    def working(self):
        return [d for d in self.devices.values() if d.works]


class Line:
    """One journal's last line with what status says of it. here, there: names of devices; there None: not known."""

    def __init__(self, here, there, side, state, meaning="", last=True, there_last=True, held=False, by_person=False,
                 busy=False, peer="vfmig", link="", session="", ended=False, only=True):
        self.here, self.there, self.side, self.state, self.meaning = here, there, side, state, meaning
        self.last, self.there_last, self.held, self.by_person = last, there_last, held, by_person
        self.busy, self.peer, self.link, self.session, self.ended = busy, peer, link, session, ended
        self.only = only  # the device was in no earlier session, of which it may hold something


# ------------------------------------------------------------------ claims

def works(here, _there, _truth):
    """works here"""
    return not here or here.works


def idle(here, _there, _truth):
    """does not work here"""
    return not here or not here.works


def holds(here, _there, _truth):
    """has the state here"""
    return not here or here.holds


def empty(here, _there, _truth):
    """has nothing of it here"""
    return not here or not here.holds


def stopped(here, _there, _truth):
    """is stopped here"""
    return not here or here.state not in AT_WORK


def runs(here, _there, _truth):
    """runs here, with the work or without"""
    return not here or here.state in AT_WORK


def there_idle(_here, there, _truth):
    """does not work at the other side"""
    return not there or not there.works


def there_had(_here, there, _truth):
    """the other side has had it"""
    return not there or there.worked or there.loads > 0


def another_works(here, _there, truth):
    """works at another device"""
    return any(d is not here for d in truth.working()) or any(d.state is None for d in truth.devices.values())


def no_other(here, _there, truth):
    """works nowhere else"""
    return not any(d is not here for d in truth.working())


def two_work(_here, _there, truth):
    """two work"""
    return len(truth.working()) > 1


# What a state says by itself, of a session that is the last one of its device.
STATES = {
    ("source", "saving"): [works, there_idle],
    ("source", "stopped"): [holds, there_idle],
    ("source", "sent"): [stopped],
    ("source", "decided"): [idle],
    ("source", "done"): [idle, there_had],
    ("source", "runs-on"): [there_idle],
    ("source", "runs"): [works, there_idle],
    ("source", "superseded"): [],
    ("destination", "waiting"): [],
    ("destination", "loading"): [idle],
    ("destination", "prepared"): [idle],
    ("destination", "committed"): [there_idle],
    ("destination", "running"): [works, there_idle],
    ("destination", "abandoned"): [empty],
    ("destination", "replaced"): [],
}

# What status says for it, which has to be true whenever it is printed. An unknown sentence is a fault of this table.
MEANINGS = {
    "the device is at work here; the destination has nothing that is whole": [works, there_idle],
    "nothing is decided: the state is here, and the destination asks before it runs": [holds, there_idle],
    "the end of the state was sent: whether it is at work there is not known here": [],
    "the device was given away: it must not run here, and the destination is to be told": [idle],
    "the source has given the device away: it may have been started here": [there_idle],
    "the device was given away, and the destination has had it": [there_had],
    "the device is to be taken back: it may be stopped still": [there_idle],
    "the device was taken back and works here": [works, there_idle],
    "a person has taken the device out of this session": [],
    "no source has come yet: the device is untouched": [],
    "the device holds half of a state, which is not to run": [idle],
    "the device is loaded and stopped: whether it may run only the source knows": [idle],
    "the device was loaded and works here": [works, there_idle],
    "the device holds nothing of it, and never runs it": [],
    "it is over: a later session has had the device since": [],
    "a person has loaded something else over it, or reset it": [],
    "the state is in the file, and the device is stopped here": [stopped],
    "the file may be complete; the device is stopped here": [stopped],
    "the device was taken back and is stopped here, as it was before": [stopped],
    "the device was loaded and is stopped here (--no-start)": [stopped],
    "the device is stopped here, as it was before; the destination has nothing that is whole": [stopped],
    "the state is here, and the file is not complete": [holds],
}

# What the last messages of save, load, resolve and recover claim; here: the device that the program was called for.
MESSAGES = [
    (r"the source stays stopped", [stopped]),
    (r"the device is loaded and stays stopped", [stopped]),
    (r"works here since session", [works]),
    (r"its state went to the destination", [stopped]),
    (r"at work at the destination|works at (?:its|the) source", [another_works]),  # it cannot be known
    (r"the state is not here any more", [idle]),
    (r"the device does not hold what was loaded any more", [empty]),
    (r"a device that was left stopped is running", [runs]),
    (r"it was left stopped with the state, and it runs", [runs]),
    (r"the device (?:may have been started|runs) here", []),
    (r"TWO RUN", [two_work]),
    (r"runs already", [runs]),
]
IS_NOW = re.compile(r"(vfio-user:\S+) is (?:now )?(running-p2p|running|stopped|resuming|pre-copy-p2p|pre-copy|error)\b")
NOW = re.compile(r"^now ([a-z-]+): (.*)$", re.MULTILINE)


def false(claims, line_here, there, truth):
    here, there = truth.get(line_here), truth.get(there) if there else None
    return [c.__doc__ for c in claims if not c(here, there, truth)]


def judge_line(line, truth):
    """The false words of a journal's last line and of what status says of it, as sentences."""
    if line.busy or (line.here in truth.devices and not truth.get(line.here)):
        return []  # a program is at work on it, or the device ended and took what it did with it
    found = []
    there = line.there if line.there_last else None
    if (line.side, line.state) not in STATES:
        return ["%s %s: a state that is not known here" % (line.side, line.state)]
    claims = STATES[line.side, line.state] if line.last else []
    if not line.only:
        claims = [c for c in claims if c is not empty]
    if line.held:
        claims = [c for c in claims if c is not works]
    for what in false(claims, line.here, there, truth):
        found.append("journal of %s, %s %s: not true that it %s" % (line.here, line.side, line.state, what))
    if line.meaning not in MEANINGS:
        return found + ["status: '%s' is not known here" % line.meaning]
    for what in false(MEANINGS[line.meaning], line.here, line.there, truth):
        found.append("status of %s, %s %s: '%s': not true that it %s" % (line.here, line.side, line.state, line.meaning,
                                                                        what))
    if line.peer == "file" and line.side == "source" and line.state == "done" and line.last:
        if line.link.partition(":")[2] not in truth.files:
            found.append("journal of %s: done, but there is no %s" % (line.here, line.link))
    return found


def judge_message(text, here, there, truth):
    """The false words of what a program has printed at its end: of the device `here` and its other side."""
    found = []
    for pattern, claims in MESSAGES:
        if re.search(pattern, text):
            for what in false(claims, here, there, truth):
                found.append("message '%s' for %s: not true that it %s" % (pattern, here, what))
    for uri, state in dict(IS_NOW.findall(text)).items():  # the last word on each
        d = truth.get(uri.rpartition("/")[2])
        if d and d.state != state:
            found.append("message: %s is %s: it is %s" % (uri, state, d.state))
    for _, meaning in NOW.findall(text):
        if meaning not in MEANINGS:
            found.append("message: '%s' is not known here" % meaning)
        else:
            found += ["message of %s: '%s': not true that it %s" % (here, meaning, what)
                      for what in false(MEANINGS[meaning], here, there, truth)]
    return found


def judge_result(result, here, there, truth):
    """The last event of save or load (--json)."""
    found = []
    for d in result.get("devices") or []:
        now = truth.get(d["uri"].rpartition("/")[2])
        if now and d.get("state") and now.state != d["state"]:
            found.append("result: %s is %s: it is %s" % (d["uri"], d["state"], now.state))
    claims = []
    device = truth.get(here)
    if result.get("source_may_run") and device and device.holds:
        claims = [there_idle, no_other]
    elif result.get("result") == "ok":
        claims = [idle] if result["command"] == "save" else [works]
    for what in false(claims, here, there, truth):
        found.append("result of %s, %s: not true that it %s" % (result["command"], result.get("result"), what))
    return found + judge_message(result.get("error") or "", here, there, truth)
