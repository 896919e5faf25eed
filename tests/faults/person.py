# SPDX-License-Identifier: BSD-3-Clause
"""person.py: what a person says who has looked at the devices (or is wrong), and what is typed when nothing runs."""
import os
import re

OPEN = ("stopped", "sent", "decided", "runs-on", "prepared", "committed", "loading", "superseded")


def works_elsewhere(truth, *names):
    return any(d.name not in names for d in truth.working())


def has_newest(truth, name):
    d = truth.get(name)
    return bool(d and d.holds and all(d.step >= o.step for o in truth.devices.values()))


class Words:
    """The words that can be said now. Each is (kind, a function that says it, is it true?)."""

    def __init__(self, world, truth, records):
        self.w, self.truth, self.records = world, truth, records

    def all(self):
        found = []
        for s in self.records:
            if not s["busy"] and s["state"] in OPEN:
                found += self.of_session(s)
        for name, d in self.truth.devices.items():
            if d.state is not None:
                found += self.of_device(name)
        return found

    def of_session(self, s):
        src, dst = self.sides(s)
        word = self.w.said.get(s["session"])
        at_source = (src is not None and has_newest(self.truth, src) and not works_elsewhere(self.truth, src) and
                     s["last"] and word in (None, "source"))
        at_destination = (dst is not None and has_newest(self.truth, dst) and not works_elsewhere(self.truth, dst) and
                          s["last"] and word in (None, "destination"))
        found = [("source", lambda: self.resolve(s, "source"), at_source),
                 ("destination", lambda: self.resolve(s, "destination"), at_destination)]
        other = s["other"]["state"] if s["other"] else None
        if s["side"] == "source" and s["last"] and src != "c" and src not in self.w.dead:
            asks = other in (None, "prepared", "loading", "abandoned") and s["peer"] == "vfmig"
            found.append(("again", lambda: self.w.move(src, "c", "none", save_more=["--again", s["session"]]),
                          at_source and asks))
        if s["side"] == "destination" and s["last"]:
            for d in self.truth.working():
                if d.name != dst:
                    found.append(("replace", lambda d=d: self.w.move(d.name, dst, "none",
                                                                     load_more=["--replace", s["session"]]), True))
        return found

    def of_device(self, name):
        d = self.truth.devices[name]
        alone = has_newest(self.truth, name) and not self.truth.working() and not any(
            o.holds and o.step >= d.step for o in self.truth.devices.values() if o is not d)
        alone = alone and not any(s["state"] in OPEN for s in self.records)
        spare = d.holds and any(o.step >= d.step and o.step > 0 for o in self.truth.working() if o is not d)
        return [("run", lambda: self.recover(name, "--run"), alone),
                ("discard", lambda: self.recover(name, "--discard"), spare)]

    def sides(self, s):
        other = s["other"]["name"] if s["other"] else self.w.went.get(s["session"])
        return (s["name"], other) if s["side"] == "source" else (other, s["name"])

    def resolve(self, s, word, ask_first=False):
        """Said on both sides, as the manual wants it. ask_first: at the source, and where it refuses nowhere else."""
        self.w.said[s["session"]] = word
        sides = [s, s["other"]]
        if ask_first and s["side"] != "source":
            sides.reverse()
        for one in sides:
            if one:
                here = one["name"]
                there = one["other"]["name"] if one["other"] else None
                process = self.w.start("resolve", s["session"], word, "--side", one["side"], "--journal", one["folder"],
                                       "--retry-for", "400")
                code = self.w.told(process, here, there)[0]
                if code != 0 and ask_first:
                    del self.w.said[s["session"]]
                    return

    def recover(self, name, word):
        process = self.w.start("recover", self.w.uri(name), word, "--journal", self.w.folder(name))
        self.w.told(process, name, None)


def by_status(s, truth):
    """Which of the printed commands somebody types who has looked; they are marked by what is to be true."""
    commands = s["commands"]
    if len(commands) < 2:
        return commands[0]["command"] if commands else None
    word = "source"
    if s["peer"] == "file":
        word = "destination" if os.path.exists(s["link"].partition(":")[2]) else "source"
    elif s["side"] == "source" and any(d.holds and d.name != s["name"] and d.step >= truth.devices[s["name"]].step
                                     for d in truth.devices.values()):
        word = "destination"
    elif s["side"] == "destination" and not works_elsewhere(truth, s["name"]):
        word = "destination"
    return next(c["command"] for c in commands if c["command"].split()[3] == word)


def rescue(world, truth, records):
    """Nothing works and nothing is offered: the documented commands of somebody who knows where the state is."""
    newest = max((d.step for d in truth.devices.values() if d.state), default=0)
    for d in sorted(truth.devices.values(), key=lambda d: -d.step):
        if not d.state or (d.step < newest and d.state != "resuming"):
            continue
        for s in records:
            if s["name"] == d.name and s["last"] and s["state"] in OPEN and s["state"] != "loading":
                Words(world, truth, records).resolve(s, s["side"], ask_first=True)
                truth = world.truth()
                if truth.working():
                    return truth, "a person's resolve"
            if s["name"] == d.name and s["last"] and s["side"] == "source" and s["other"] and \
                    s["state"] == "decided":  # as the message says: on both sides
                both = [world.start("resolve", s["session"], "--side", o["side"], "--journal", o["folder"],
                                    "--retry-for", "400") for o in (s, s["other"])]
                for process in both:
                    world.finish(process)
                truth = world.truth()
                if truth.working():
                    return truth, "resolve on both sides"
        if d.step == 0:
            continue
        _, out, err = world.run("recover", world.uri(d.name), "--run", "--journal", world.folder(d.name))
        truth = world.truth()
        if truth.working():
            return truth, "recover --run"
        m = re.search(r"vfmig resolve ([0-9a-f]+)", out + err)
        if m:
            world.say("advice", m.group(0))
    return truth, "none"
