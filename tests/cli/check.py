# SPDX-License-Identifier: BSD-3-Clause
"""check.py: vfmig check: what it prints, in each form, what it does to a device and what it leaves."""
import json
import os
import re
import signal
import xml.etree.ElementTree

from tap import contains, device, equal, finish, main, run, run_ok, start, state_of, test

DOC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../doc/check.md")
ALL = ["sim:size=64K,interface=v2", "sim:size=64K", "sim:size=64K,map=trapped", "sim:size=64K,map=mixed",
       "sim:size=64K,access-width=4,map=trapped", "sim:size=8M,section=64K", "sim:size=64K,reserved=0xfff0",
       "sim:size=64K,interface=v2,p2p=no", "sim:size=64K,interface=v2,precopy=no", "sim:size=64K,precopy=no",
       "sim:size=64K,interface=v2,p2p=no,precopy=no", "sim:size=64K,interface=v2,dirty-log=no",
       "sim:size=64K,interface=v2,start,rate=100000", "sim:size=64K,start,rate=100000", "sim:opaque,interface=v2"]
ALWAYS = ["state-read", "data-read", "restored"]


def report_of(*args):
    report, = run("check", "--json", *args).json_lines()
    return report


def results(report, result):
    return [c["name"] for c in report["checks"] if c["result"] == result]


@test
def the_software_device_passes(scratch):
    for uri in ALL[:-1]:
        report = json.loads(run_ok("check", "--json", "--iterations=3", uri).out)
        equal((uri, results(report, "fail"), results(report, "quirk")), (uri, [], []))
        assert report["pass"] > 50, report


@test
def it_passes_over_vfio_user(scratch):
    for number, options in enumerate([["--interface=v2"], [], ["--map=mixed"], ["--map=trapped"], ["--dma=message"]]):
        with device(scratch, "d%d" % number, "--size=64K", *options) as uri:
            report = json.loads(run_ok("check", "--json", "--iterations=3", uri).out)
            equal((options, results(report, "fail")), (options, []))


@test
def a_thousand_saves_and_loads(scratch):
    for interface in ["v1", "v2"]:
        report = report_of("sim:size=16K,interface=" + interface, "--check=leaks")
        equal({c["name"]: c.get("note") for c in report["checks"]}["leaks"], "1000 times")


@test
def the_list_is_the_documents(scratch):
    with open(DOC, encoding="utf-8") as f:
        rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([v12 ]+) \| (.*) \| (.*) \|$", f.read(), re.M)
    listed = json.loads(run_ok("check", "--list", "--json").out)
    equal(rows, [(c["name"], c["interfaces"], c["rule"], c["source"]) for c in listed])
    text = run_ok("check", "--list").out.splitlines()
    equal([line.split()[0] for line in text], [c["name"] for c in listed])


@test
def a_failure_names_the_rule(scratch):
    result = run("check", "sim:size=64K,fault=zero-size@data-size")
    equal((result.code, result.err), (1, ""))
    contains(result.out, "\nfail  data-size: data_size is 0 with bytes pending\n      rule: data_size is above 0")
    contains(result.out, "\nskip  data-read: needs data_size, which has failed\n")
    assert re.search(r"^\d+ passed, 1 failed, \d+ skipped, 0 known quirks$", result.out, re.M), result.out


@test
def tap(scratch):
    result = run("check", "--tap", "--iterations=2", ALL[0], "sim:size=64K,fault=zero-size@data-size")
    equal((result.code, result.err), (1, ""))
    lines = [line for line in result.out.splitlines() if re.match(r"(not )?ok ", line)]
    for number, line in enumerate(lines, 1):
        assert re.match(r"(not )?ok %d - sim:\S+ [a-z0-9-]+( # SKIP .*)?$" % number, line), line
    equal(result.out.splitlines()[-1], "1..%d" % len(lines))
    bad, = [line for line in lines if line.startswith("not ok")]
    contains(bad, "data-size")
    contains(result.out, "  ---\n  message: \"data_size is 0 with bytes pending\"\n  rule: ")


@test
def junit(scratch):
    """The name of a device may hold anything."""
    odd = "%s/<&\"'.sock" % scratch
    process = start("device", "vfio-user:" + odd, "--size=64K", "--fault=errno@to-resuming")
    assert process.stdout.readline().startswith("listening")
    out = run("check", "--junit", "--iterations=2", "vfio-user:" + odd, ALL[1]).out
    first, second = xml.etree.ElementTree.fromstring(out)
    equal((first.get("name"), first.get("failures"), second.get("failures")), ("vfio-user:" + odd, "1", "0"))
    for suite in (first, second):
        equal(int(suite.get("tests")), len(suite))
        equal(int(suite.get("skipped")), len(suite.findall("testcase/skipped")))
        assert sum(float(case.get("time")) for case in suite) <= float(suite.get("time")) + 0.001
    failure, = first.findall("testcase/failure")
    contains(failure.get("message"), "from running to resuming")
    contains(failure.text, "100b")
    process.terminate()
    finish(process)


@test
def json_has_the_times(scratch):
    report = report_of(ALL[0], "--iterations=2")
    equal((report["interface"], report["p2p"], report["pre_copy"]), ("v2", True, True))
    arcs = {(arc["from"], arc["to"]): arc["shortest_ns"] for arc in report["arcs"]}
    equal(len(arcs), 15)
    assert all(0 < ns < 1e9 for ns in arcs.values()), arcs
    for check in report["checks"]:
        assert check["rule"] and check["source"] and check["time_ns"] >= 0, check
    equal(sum(report[key] for key in ["pass", "fail", "skip", "quirk"]), len(report["checks"]))


@test
def slow_is_what_the_limit_says(scratch):
    uri = "sim:size=64K,interface=v2,fault=slow@to-stop:30"
    options = ["--iterations=1", "--check=time-arcs", "--check=arc-*"]
    equal(results(report_of(uri, *options), "fail"), [])
    slow = report_of(uri, "--limit=10", *options)
    equal(results(slow, "fail"), ["time-arcs"])
    why, = [c["why"] for c in slow["checks"] if c["result"] == "fail"]
    contains(why, "stop-and-copy to stopped 3")
    contains(why, "running-p2p to stopped 3")


@test
def some_checks(scratch):
    report = report_of(ALL[0], "--check", "load-*")
    equal([c["name"] for c in report["checks"]], ALWAYS[:2] + ["load-by-bytes", "load-odd", "load-1-mib"] +
          ALWAYS[2:])
    equal([c["name"] for c in report_of(ALL[0], "--check=flags")["checks"]], ["flags"])
    result = run("check", ALL[0], "--check=nonsense*")
    equal((result.code, result.out), (2, ""))
    contains(result.err, "--list")
    result = run("check", "sim:size=64K", "--check=arc-running-p2p-*")
    equal((result.code, result.out), (2, ""))
    equal(result.err, "vfmig check: sim:size=64K: " +
          "no check of that name applies to a v1 device; --list tells which do\n")


def stranger(scratch):
    """A software device that does not say that it is one."""
    path = scratch + "/config"
    with open(path, "wb") as f:
        f.write(b"\x86\x80\x01\x00".ljust(256, b"\0"))
    return "--config=" + path


@test
def a_stranger_is_asked_for(scratch):
    """Without --yes nothing but its identity is asked for."""
    with device(scratch, "a", "--size=64K", "--fault=disconnect@state-read#1", stranger(scratch)) as uri:
        refused = run("check", uri)
        equal((refused.code, refused.out), (2, ""))
        for part in ["this will", "reset it", "load its own state", "--yes"]:
            contains(refused.err, part)
    with device(scratch, "b", "--size=64K", stranger(scratch)) as uri:
        result = run_ok("check", uri, "--yes")
        contains(result.err, "reset it")
        contains(result.out, "skip  log-exact: only of the software device")
        equal(run_ok("check", uri, "--check=region").err, "")


def step_after(uri, step):
    """Waits for its work to be proven and beyond that step: the step then."""
    while True:
        now = json.loads(run_ok("prove", "--json", uri).out)["devices"][0]["step"]
        if now > step:
            return now


@test
def nothing_is_lost(scratch):
    """The device is at work, and works on where it was."""
    for interface in ["v1", "v2"]:
        with device(scratch, interface, "--size=64K", "--start", "--interface=" + interface) as uri:
            before = step_after(uri, 0)
            run_ok("check", "--iterations=3", uri)
            equal(state_of(uri), "running")
            assert step_after(uri, 0) >= before
            step_after(uri, before)


@test
def a_signal_puts_it_back(scratch):
    with device(scratch, "a", "--size=4M", "--start", "--interface=v2") as uri:
        process = start("check", "--iterations=1000000", uri)
        for line in process.stdout:
            if line.startswith("pass  log-forgets"):
                break
        process.send_signal(signal.SIGINT)
        result = finish(process)
        equal((result.code, result.err), (1, ""))
        contains(result.out, "pass  restored\nskip  time-arcs: interrupted")
        equal(state_of(uri), "running")
        step_after(uri, step_after(uri, 0))


@test
def lost_between_checks(scratch):
    """Whether or not the check that is about it is among those that run."""
    for interface, arc in [("v1", "arc-stop-to-running"), ("v2", "arc-running-p2p-to-running")]:
        uri = "sim:size=64K,fault=hang@to-running,interface=" + interface
        result = run("check", uri, "--check=arc-*")
        equal((result.code, re.findall("^fail  ([a-z0-9-]+)", result.out, re.M)), (1, [arc]))
        result = run("check", uri, "--check=save-twice")
        equal((result.code, "\nfail" in result.out), (1, False))
        contains(result.err, "to running")


@test
def what_is_left_in_the_middle_is_not_judged(scratch):
    """What somebody's load has left there is not this command's to take out."""
    run_ok("save", "sim:size=64K", "-o", "file:%s/state" % scratch)
    with device(scratch, "a", "--size=64K", "--fault=errno@to-running#1", "--fault=errno@to-stop",
                "--fault=errno@reset") as uri:
        equal(run("load", uri, "-i", "file:%s/state" % scratch).code, 1)
        equal(state_of(uri), "resuming")
        report = report_of(uri)
        equal(results(report, "fail"), ["state-read"])
        contains([c["why"] for c in report["checks"] if c["result"] == "fail"][0], "vfmig recover")
        equal(state_of(uri), "resuming")


@test
def a_stopped_device_may_run_elsewhere(scratch):
    with device(scratch, "a", "--size=64K", "--start") as uri:
        run_ok("save", uri, "-o", "file:%s/state" % scratch)
        equal(state_of(uri), "stopped")
        report = report_of(uri)
        equal(results(report, "fail"), ["state-read"])
        equal(state_of(uri), "stopped")


@test
def without_a_reset(scratch):
    """What does not need one is judged all the same, also in a load of many pieces."""
    for interface, size in [("v1", "64K,section=4K"), ("v2", "3M")]:
        with device(scratch, interface, "--interface=" + interface, "--size=" + size.split(",")[0],
                    *["--" + o for o in size.split(",")[1:]], "--fault=errno@reset", "--start") as uri:
            report = report_of(uri, "--iterations=2")
            equal((interface, results(report, "fail")), (interface, ["reset"]))
            passed = results(report, "pass")
            for name in ["data-write", "arc-resuming-to-" + ("stop" if interface == "v2" else "running"), "load",
                         "log-exact", "restored"]:
                assert name in passed, (name, report)
            equal(state_of(uri), "running")


@test
def no_device(scratch):
    result = run("check", "vfio-user:%s/none" % scratch, "sim:size=64K,interface=v2", "--check=flags", "--timeout=200")
    equal(result.code, 1)
    contains(result.err, "vfmig check: vfio-user:")
    contains(result.out, "1 passed")
    equal(result.err.count("vfio-user:"), 1)
    result = run("check", "sim:", "--interface=v2")
    equal((result.code, result.out), (1, ""))
    contains(result.err, "v2")
    contains(run("check").err, "which device?")


@test
def the_watched_server(scratch):
    """A process that can be looked at, and one that is none."""
    with device(scratch, "a", "--size=64K") as uri:
        assert run("check", uri, "--check=leaks", "--iterations=5", "--server=%d" % os.getpid()).code == 0
        result = run("check", uri, "--check=leaks", "--iterations=5", "--server=2147483646")
        equal(result.code, 1)
        contains(result.out, "/proc/2147483646/fd")


main()
