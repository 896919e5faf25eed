# SPDX-License-Identifier: BSD-3-Clause
"""switch_commands.py: the user's commands around the switch: when they run, and what becomes of it when one fails."""
import json
import os

from tap import (contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start, state_of,
                 test)


def noting(scratch, word, then="true"):
    return "echo %s >> %s/log; %s" % (word, scratch, then)


def log(scratch):
    path = scratch + "/log"
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return f.read().split()


def source_options(scratch, stop="true"):
    return ["--stop-command", noting(scratch, "stop", stop), "--resume-command", noting(scratch, "resume-source")]


@test
def they_run_around_the_switch(scratch):
    link = "unix:%s/link" % scratch
    with device(scratch, "a", "--size", "64K", "--start") as a, device(scratch, "b", "--size", "64K") as b:
        load = start("load", b, "-i", link, "--resume-command", noting(scratch, "resume"), "--json")
        out = run_ok("save", a, "-o", link, *source_options(scratch, "sleep 0.2"), "--json").json_lines()
        equal(finish(load).code, 0)
        equal(log(scratch), ["stop", "resume"])
        assert out[-1]["downtime_ns"] >= 200_000_000, out[-1]
        run_ok("prove", a, b)


@test
def a_stop_that_fails_stops_nothing(scratch):
    with device(scratch, "a", "--size", "64K", "--start") as a:
        err = run_fails("save", a, "-o", "null:", *source_options(scratch, "exit 3")).err
        contains(err, "--stop-command")
        contains(err, "ended with exit status 3")
        equal(log(scratch), ["stop", "resume-source"])
        equal(state_of(a), "running")


@test
def a_resume_that_fails_gives_it_back_to_the_source(scratch):
    link = "unix:%s/link" % scratch
    with device(scratch, "a", "--size", "64K", "--start") as a, device(scratch, "b", "--size", "64K") as b:
        load = start("load", b, "-i", link, "--resume-command", noting(scratch, "resume", "kill $$"))
        err = run_fails("save", a, "-o", link, *source_options(scratch)).err
        contains(err, "refused")
        result = finish(load)
        equal(result.code, 1)
        contains(result.err, "was ended by signal 15")
        equal(log(scratch), ["stop", "resume", "resume-source"])
        equal(state_of(a), "running")
        run_ok("save", a, "-o", "null:")  # it holds what it held


@test
def what_they_print_is_not_in_the_way(scratch):
    result = run("save", "sim:size=64K", "-o", "-", "--stop-command", "echo said", text=False)
    equal(result.code, 0)
    contains(result.err, b"said")
    equal(result.out[:4], b"QEVM")
    assert b"said" not in result.out
    run_ok("save", "sim:size=64K", "-o", "file:%s/state" % scratch, "--stop-command", "true")
    assert "vfmig/command" not in run_ok("inspect", scratch + "/state").out, "a participant that has no state"
    run_ok("load", "sim:size=64K", "-i", "file:%s/state" % scratch, "--resume-command", "true")


@test
def a_session_that_had_one_goes_on_with_it(scratch):
    """Killed when the source had decided nothing: what was stopped there is resumed."""
    link, journal = "unix:%s/link" % scratch, scratch + "/j"
    os.mkdir(journal)
    with device(scratch, "a", "--size", "64K", "--start") as a, \
            device(scratch, "b", "--size", "64K", "--fault", "hang@to-stop") as b:
        load = start("load", b, "-i", link)
        save = start("save", a, "-o", link, "--journal", journal, *source_options(scratch), "--json", "--no-precopy")
        read_event(save, event="phase", phase="completing")
        save.kill()
        save.wait()
        load.kill()
        load.wait()
        found = json.loads(run_ok("status", "--json", "--journal", journal).out)
        equal((found["state"], found["others"]), ("stopped", "vfmig/command"))
        contains(found["commands"][0]["command"], "--resume-command COMMAND")
        resolve = ["resolve", found["session"], "source", "--journal", journal]
        contains(run_fails(*resolve).err, "together with vfmig/command: --resume-command COMMAND")
        equal((state_of(a), log(scratch)), ("stopped", ["stop"]))
        run_ok(*resolve, "--resume-command", noting(scratch, "resume-source"))
        equal((state_of(a), log(scratch)), ("running", ["stop", "resume-source"]))
        run_ok("prove", a)


@test
def nothing_to_resume(scratch):
    result = run("load", "sim:", "-i", "null:", "--no-start", "--resume-command", "true")
    equal(result.code, 2)
    contains(result.err, "nothing would run")


main()
