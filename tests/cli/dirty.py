# SPDX-License-Identifier: BSD-3-Clause
"""dirty.py: how fast and where a device writes memory, and what that makes of a save."""
import json
import signal

from tap import Skip, contains, device, equal, finish, main, run, run_fails, run_ok, start, state_of, test

PAGE, WIRE = 4096, 4104
RATE, SLOTS = 5000, 64
HERE = 0x300000  # where the device writes, one MiB being a range
AT_WORK = "start,rate=%d,log=%d/%d,scatter" % (RATE, HERE, SLOTS)


def memory(scratch, more=""):
    return ["--memory", "ram=%s/ram,size=16M%s" % (scratch, more)]


def dirty(scratch, uri, *more):
    return run_ok("dirty", uri, *memory(scratch), "--json", *more).json_lines()


def watch(scratch, uri, enough, *more, more_memory=""):
    """Every line up to the first that is enough, and the exit after a signal then."""
    process = start("dirty", uri, *memory(scratch, more_memory), "--json", "--watch", "--interval", "100", *more)
    lines = []
    for text in process.stdout:
        lines.append(json.loads(text))
        if enough(lines[-1]):
            break
    process.send_signal(signal.SIGINT)
    result = finish(process)
    equal((result.code, result.err), (0, ""))
    return lines


def has_all_slots(line):
    return line["working_set_pages"] == SLOTS


@test
def a_rate_that_the_device_can_have(scratch):
    lines = dirty(scratch, "sim:start,rate=%d,log=0/4096,scatter" % RATE, "--interval", "200", "--watch",
                  "--count", "4")
    equal(len(lines), 4)
    for n, line in enumerate(lines, 1):
        assert line["elapsed_ns"] >= n * 200e6, line
        equal(line["pages_per_s"], round(line["pages"] * 1e9 / line["interval_ns"]))
        assert abs(line["bytes_per_s"] - line["pages_per_s"] * PAGE) <= PAGE, line
    # The engine makes up for 100 ms in which it did not run.
    elapsed = lines[-1]["elapsed_ns"] / 1e9
    assert 0 < sum(line["pages"] for line in lines) <= RATE * (elapsed + 0.15), lines
    assert lines[-1]["working_set_pages"] <= sum(line["pages"] for line in lines), lines


@test
def an_engine_that_is_off_writes_nothing(scratch):
    line, = dirty(scratch, "sim:rate=%d,log=0/%d,scatter" % (RATE, SLOTS), "--interval", "100", "--bandwidth", "1M")
    equal((line["pages"], line["pages_per_s"], line["working_set_pages"], line["ranges"]), (0, 0, 0, []))
    equal((line["needed_bytes_per_s"], line["forecast"]["most_downtime_ns"]), (0, 0))
    equal(line["forecast"]["within_limit"], "yes")


@test
def where_the_device_writes(scratch):
    """In one range of a block, and none in a block that it has nothing to do with."""
    other = ["--memory", "other=%s/other,size=1M,iova=256M" % scratch]
    line = watch(scratch, "sim:" + AT_WORK, has_all_slots, *other)[-1]
    part, = line["ranges"]
    equal((part["block"], part["offset"], part["length"], part["iova"]), ("ram", HERE, 1 << 20, HERE))
    equal((part["pages"], part["working_set_pages"]), (line["pages"], SLOTS))
    equal(line["memory_pages"], (17 << 20) / PAGE)


@test
def ranges_by_iova_and_number(scratch):
    """The block lies elsewhere, and is cut into halves, between which the slots lie."""
    uri = "sim:start,rate=%d,log=%d/%d,scatter" % (RATE, (1 << 30) + (8 << 20) - 32 * PAGE, SLOTS)
    line = watch(scratch, uri, has_all_slots, "--ranges", "2", more_memory=",iova=1G")[-1]
    equal([(p["offset"], p["iova"]) for p in line["ranges"]], [(0, 1 << 30), (8 << 20, (1 << 30) + (8 << 20))])
    equal(sum(p["pages"] for p in line["ranges"]), line["pages"])
    equal([p["working_set_pages"] for p in line["ranges"]], [SLOTS / 2, SLOTS / 2])


@test
def which_log_tells(scratch):
    for interface, log in [("v1", "mappings"), ("v2", "device")]:
        line = watch(scratch, "sim:%s,interface=%s" % (AT_WORK, interface), lambda line: line["pages"])[-1]
        equal((line["log"], line["log_page_bytes"]), (log, PAGE))


@test
def no_log_is_an_error(scratch):
    for interface in ["v1", "v2"]:
        result = run_fails("dirty", "sim:%s,dirty-log=no,interface=%s" % (AT_WORK, interface), *memory(scratch))
        contains(result.err, "nobody logs")
        equal(result.out, "")


@test
def the_working_set(scratch):
    """It grows to all the slots and no further; pages count once however often they are written."""
    before = 0
    for line in watch(scratch, "sim:" + AT_WORK, has_all_slots):
        assert before <= line["working_set_pages"] <= SLOTS, line
        assert line["pages"] <= SLOTS, line
        before = line["working_set_pages"]


def check_forecast(line):
    f, pages = line["forecast"], line["pages"]
    per_s = pages * WIRE * 1e9 / line["interval_ns"]
    assert abs(f["load"] * f["bandwidth_bytes_per_s"] - per_s) < 1, line
    equal(f["converges"], f["load"] < 1)
    needed = max(per_s, pages * WIRE * 1e9 / line["downtime_limit_ns"])
    assert abs(line["needed_bytes_per_s"] - needed) <= 1, line
    equal(f["most_pages"], pages if f["converges"] else line["working_set_pages"])
    equal(f["least_pages"], 0 if f["converges"] else pages)
    for which in ["least", "most"]:
        ns = f[which + "_pages"] * WIRE * 1e9 / f["bandwidth_bytes_per_s"]
        assert abs(f[which + "_downtime_ns"] - ns) <= 1, line
    limit = line["downtime_limit_ns"]
    equal(f["within_limit"], "yes" if f["most_downtime_ns"] <= limit else
          "no" if f["least_downtime_ns"] > limit else "perhaps")
    return f["converges"], f["within_limit"]


@test
def what_a_bandwidth_makes_of_it(scratch):
    """64 pages, most of them written in a tenth of a second, are 257 KiB of stream."""
    for bandwidth, limit, expected in [("1G", "300", (True, "yes")), ("8M", "10", (True, "perhaps")),
                                       ("100K", "300", (False, "no")), ("100K", "60000", (False, "yes"))]:
        line = watch(scratch, "sim:" + AT_WORK, lambda line: line["pages"] > SLOTS / 2, "--bandwidth", bandwidth,
                     "--downtime-limit", limit)[-1]
        equal(check_forecast(line), expected)
        first_pass = (16 << 20) / PAGE * WIRE * 1e9 / line["forecast"]["bandwidth_bytes_per_s"]
        assert abs(line["forecast"]["first_pass_ns"] - first_pass) <= 1, line


@test
def text(scratch):
    out = run_ok("dirty", "sim:" + AT_WORK, *memory(scratch), "--interval", "500", "--bandwidth", "1G").out
    for part in ["by what its memory is mapped through", "working set", "pre-copy converges", "0x300000"]:
        contains(out, part)
    lines = run_ok("dirty", "sim:" + AT_WORK, *memory(scratch), "--interval", "100", "--watch", "--count", "3",
                   "--bandwidth", "1K").out.splitlines()
    equal(len(lines), 4)
    contains(lines[0], "most of it in")
    for line in lines[1:]:  # the engine may have had no turn
        assert " 0 B/s " in line or "ram 0x300000+0x100000 (100 %)" in line and "does not converge" in line, lines


@test
def nobody_reads(scratch):
    """The log is ended in good order then, too."""
    process = start("dirty", "sim:" + AT_WORK, *memory(scratch), "--watch", "--interval", "100")
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    equal(process.wait(), 1)
    contains(err, "standard output")


def over_vfio_user(scratch, interface, log):
    """The device works on, and its log can be had again."""
    with device(scratch, "a", "--start", "--rate=%d" % RATE, "--log=%d/%d" % (HERE, SLOTS), "--scatter",
                "--interface=" + interface) as uri:
        for _ in range(2):
            result = run("dirty", uri, *memory(scratch), "--json", "--interval", "200")
            if "nobody logs" in result.err:
                raise Skip("no log of written pages over vfio-user")
            equal((result.code, result.err), (0, ""))
            line, = result.json_lines()
            equal((line["log"], [p["offset"] for p in line["ranges"]]), (log, [HERE]))
            assert 0 < line["pages"] <= SLOTS, line
            equal(state_of(uri), "running")


@test
def over_vfio_user_v1(scratch):
    over_vfio_user(scratch, "v1", "mappings")


@test
def over_vfio_user_v2(scratch):
    over_vfio_user(scratch, "v2", "device")


@test
def wrong_usage(scratch):
    for args, what in [(["sim:"], "which memory?"), ([*memory(scratch)], "which device?"),
                       (["sim:", *memory(scratch), "--count", "2"], "--watch"),
                       (["sim:", *memory(scratch), "--interval", "0"], "milliseconds"),
                       (["sim:", *memory(scratch), "--ranges", "0"], "--ranges"),
                       (["sim:", *memory(scratch), "--bandwidth", "0"], "--bandwidth"),
                       (["sim:", "--memory", "ram"], "NAME=PATH")]:
        result = run("dirty", *args)
        equal((result.code, result.out), (2, ""))
        contains(result.err, what)


main()
