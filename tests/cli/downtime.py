# SPDX-License-Identifier: BSD-3-Clause
"""downtime.py: what the downtime consists of, and in which states the devices were when."""
import calendar
import time

from tap import device, equal, finish, main, run, run_ok, start, test

SLOW_NS = 300_000_000
SAVE = ["stop_prepare_ns", "stop_ns", "complete_ns", "settle_ns", "state_ns", "finish_ns", "confirm_ns"]
LOAD = ["receive_ns", "complete_ns", "agree_ns", "start_prepare_ns", "start_ns"]


def result_of(out, names):
    events = out.json_lines()
    for event in events:
        if "downtime_steps" in event:
            equal(list(event["downtime_steps"]), names)
            equal(sum(event["downtime_steps"].values()), event["downtime_ns"])
        elif event["event"] in ("phase", "progress"):
            equal(event["downtime_ns"], 0)
    return events[-1]


def longest(event):
    return max(event["downtime_steps"], key=event["downtime_steps"].get)


def slow_save(step, *options, uri="sim:size=64K,start"):
    def body(scratch):
        result = result_of(run_ok("save", uri, "-o", "file:%s/state" % scratch, "--json", *options), SAVE)
        equal(longest(result), step)
        assert result["downtime_steps"][step] >= SLOW_NS, result
    body.__name__ = "saves_" + step
    test(body)


def slow_load(step, *options, **members):
    def body(scratch):
        link = "unix:%s/link" % scratch
        fault = ["--fault", members["fault"]] if "fault" in members else []
        with device(scratch, "b", "--size", "64K", "--interface", "v2", *fault) as uri:
            load = start("load", uri, "-i", link, "--json", *options)
            save = run_ok("save", "sim:size=64K,start,interface=v2", "-o", link, "--json")
            result = result_of(finish(load), LOAD)
        equal(longest(result), step)
        assert result["downtime_steps"][step] >= SLOW_NS, result
        # The source waits for all that comes after its stream.
        equal(longest(result_of(save, SAVE)), "confirm_ns")
    body.__name__ = "loads_" + step
    test(body)


slow_save("stop_prepare_ns", "--stop-command", "sleep 0.3")
slow_save("stop_ns", uri="sim:size=64K,start,fault=slow@to-stopcopy:300")
slow_save("complete_ns", uri="sim:size=64K,start,precopy=no,map=trapped,fault=slow@data-read#1:300")
slow_save("settle_ns", uri="sim:size=64K,start,fault=slow@to-stop:300")
slow_save("state_ns", uri="sim:size=64K,start,fault=slow@config-read:300")
slow_load("complete_ns", fault="slow@config-read#2:300")
slow_load("agree_ns", fault="slow@to-stop:300")
slow_load("start_ns", "--resume-command", "sleep 0.3")


@test
def saves_confirm_ns(scratch):
    """A command that has the whole stream, and takes its time to end."""
    out = run_ok("save", "sim:size=64K,start", "-o", "exec:cat > %s/state; sleep 0.3" % scratch, "--json")
    equal(longest(result_of(out, SAVE)), "confirm_ns")


@test
def a_failure_has_the_steps_that_were_begun(scratch):
    uri = "sim:size=64K,start,fault=errno@to-stop"
    steps = run("save", uri, "-o", "file:%s/state" % scratch, "--json").json_lines()[-1]["downtime_steps"]
    assert steps["complete_ns"] and steps["settle_ns"], steps
    equal((steps["state_ns"], steps["finish_ns"], steps["confirm_ns"]), (0, 0, 0))


@test
def states_of_devices(scratch):
    """With P2P each goes through all of them; times do not go back."""
    link = "unix:%s/link" % scratch
    uris = ["sim:size=64K,start,interface=v2,seed=%d" % i for i in (1, 2)]
    ids = ["--id", "a", "--id", "b"]
    load = start("load", *uris, "-i", link, "--json", *ids)
    saved = run_ok("save", *uris, "-o", link, "--json", *ids).json_lines()
    loaded = finish(load).json_lines()
    for events, states in ((saved, ["running", "pre-copy", "pre-copy-p2p", "stop-and-copy", "stopped"]),
                           (loaded, ["running", "resuming", "stopped", "running-p2p", "running"])):
        told = [e for e in events if e["event"] == "state"]
        for uri, name in zip(uris, "ab"):
            mine = [e for e in told if e["id"] == name]
            equal([e["state"] for e in mine], states)
            equal({e["uri"] for e in mine}, {uri})
        times = [e["elapsed_ns"] for e in told]
        equal(times, sorted(times))
        equal(times[0], 0)


@test
def begin_comes_before_all_else(scratch):
    options = ["--json", "--downtime-limit", "7"]
    saved = run_ok("save", "sim:size=64K", "-o", "file:%s/state" % scratch, *options).json_lines()
    loaded = run_ok("load", "sim:size=64K", "-i", "file:%s/state" % scratch, "--json").json_lines()
    for events, command, limit in ((saved, "save", 7_000_000), (loaded, "load", None)):
        begin = next(e for e in events if e["event"] != "log")
        equal((begin["event"], begin["command"], begin["link"]), ("begin", command, "file:%s/state" % scratch))
        equal(begin.get("downtime_limit_ns"), limit)
        age = time.time() - calendar.timegm(time.strptime(begin["time"], "%Y-%m-%dT%H:%M:%SZ"))
        assert -2 < age < 60, begin


main()
