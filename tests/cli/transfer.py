# SPDX-License-Identifier: BSD-3-Clause
"""transfer.py: a device's state through every kind of link, and what is said about it."""
import json
import os
import re
import socket
import subprocess

from tap import VFMIG, contains, device, equal, finish, main, read_event, run, run_ok, start, state_of, test


def at_work(scratch):
    return device(scratch, "a", "--size", "4M", "--start")


def idle(scratch, *options):
    return device(scratch, "b", "--size", "4M", *options)


def prove_moved(source, destination):
    """The destination did the source's work, and no step was lost, repeated or altered."""
    equal(state_of(source), "stopped")
    equal(state_of(destination), "running")
    run_ok("prove", source, destination)


def move(scratch, save_link, load_link):
    with at_work(scratch) as source, idle(scratch) as destination:
        load = start("load", destination, "-i", load_link)
        run_ok("save", source, "-o", save_link)
        result = finish(load)
        equal((result.code, result.err), (0, ""))
        contains(result.out, "digests        verified")
        prove_moved(source, destination)


def move_by_file(scratch, save_link, load_link):
    with at_work(scratch) as source, idle(scratch) as destination:
        run_ok("save", source, "-o", save_link)
        run_ok("load", destination, "-i", load_link)
        prove_moved(source, destination)


@test
def by_file(scratch):
    move_by_file(scratch, "file:%s/state" % scratch, "file:%s/state" % scratch)
    assert sorted(os.listdir(scratch)) == ["state"], os.listdir(scratch)


@test
def by_commands(scratch):
    move_by_file(scratch, "exec:gzip -1 > %s/state" % scratch, "exec:gzip -dc %s/state" % scratch)


@test
def by_a_port_that_the_kernel_chooses(scratch):
    with at_work(scratch) as source, idle(scratch) as destination:
        load = start("load", destination, "-i", "tcp:127.0.0.1:0", "--json")
        link = read_event(load, event="listening")["link"]
        assert not link.endswith(":0"), link
        run_ok("save", source, "-o", link)
        equal(finish(load).code, 0)
        prove_moved(source, destination)


@test
def events_beside_the_text(scratch):
    out, into = os.pipe()
    result = run("save", "sim:size=64K", "-o", "file:%s/state" % scratch, "--events", "fd:%d" % into, pass_fds=[into])
    os.close(into)
    with open(out, encoding="utf-8") as f:
        events = [json.loads(line) for line in f]
    equal((result.code, events[-1]["result"]), (0, "ok"))
    contains(result.out, "downtime")
    for wrong in [["--events", "fd:77"], ["--events", "1"], ["--events", "fd:1", "--json"]]:
        equal(run("save", "sim:", "-o", "null:", *wrong).code, 2)


@test
def a_watcher_that_goes_away_ends_nothing(scratch):
    with at_work(scratch) as source:
        out, into = os.pipe()
        os.close(out)
        run_ok("save", source, "-o", "null:", "--events", "fd:%d" % into, pass_fds=[into])
        os.close(into)
        equal(state_of(source), "stopped")


@test
def by_unix_socket(scratch):
    move(scratch, "unix:%s/link" % scratch, "unix:%s/link" % scratch)


@test
def by_the_v2_interface(scratch):
    """Both ends by device features over vfio-user; then back, into a device of the v1 interface."""
    with device(scratch, "a", "--size", "4M", "--start", "--interface", "v2") as a, \
            idle(scratch, "--interface", "v2") as b, device(scratch, "c", "--size", "4M") as c:
        for source, destination in (a, b), (b, c):
            contains(run_ok("probe", source).out, "v1" if source == c else "v2")
            load = start("load", destination, "-i", "unix:%s/link" % scratch)
            run_ok("save", source, "-o", "unix:%s/link" % scratch)
            equal(finish(load).code, 0)
            prove_moved(source, destination)


@test
def to_a_socket_that_only_stores(scratch):
    with at_work(scratch) as source, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(scratch + "/sink")
        listener.listen(1)
        save = start("save", source, "-o", "unix:%s/sink" % scratch, "--no-return-path")
        with listener.accept()[0] as peer, open(scratch + "/state", "wb") as state:
            while data := peer.recv(1 << 20):
                state.write(data)
        equal(finish(save).code, 0)
        with idle(scratch) as destination:
            run_ok("load", destination, "-i", "file:%s/state" % scratch)
            prove_moved(source, destination)


@test
def by_tcp(scratch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    move(scratch, "tcp:127.0.0.1:%d" % port, "tcp:127.0.0.1:%d" % port)


@test
def by_a_pipe(scratch):
    with at_work(scratch) as source, idle(scratch) as destination:
        save = start("save", source, "-o", "-", text=False)
        load = start("load", destination, "-i", "-", stdin=save.stdout)
        save.stdout.close()
        equal(finish(load).code, 0)
        equal(save.wait(), 0)
        contains(save.stderr.read().decode(), "\nsaved 4.")
        save.stderr.close()
        prove_moved(source, destination)


@test
def by_inherited_sockets(scratch):
    with at_work(scratch) as source, idle(scratch) as destination:
        ours, theirs = socket.socketpair()
        save = start("save", source, "-o", "fd:%d" % ours.fileno(), pass_fds=[ours.fileno()])
        load = start("load", destination, "-i", "fd:%d" % theirs.fileno(), pass_fds=[theirs.fileno()])
        ours.close()
        theirs.close()
        equal((finish(save).code, finish(load).code), (0, 0))
        prove_moved(source, destination)


@test
def from_standard_input_file(scratch):
    path = scratch + "/state"
    with at_work(scratch) as source, idle(scratch) as destination:
        with open(path, "wb") as out:
            equal(run("save", source, "-o", "-", stdout=out).code, 0)
        with open(path, "rb") as stream:
            equal(run("load", destination, "-i", "-", stdin=stream).code, 0)
        prove_moved(source, destination)


@test
def no_precopy(scratch):
    path = scratch + "/state"
    with at_work(scratch) as source, idle(scratch, "--precopy", "no") as destination:
        out = run_ok("save", source, "-o", "file:" + path, "--no-precopy", "--json").json_lines()
        equal((out[-1]["precopy_bytes"], out[-1]["rounds"]), (0, 0))
        assert out[-1]["stop_copy_bytes"] > 4 << 20
        run_ok("load", destination, "-i", "file:" + path)
        prove_moved(source, destination)


@test
def downtime_limit(scratch):
    """The more may be sent after the stop, the less is sent before it."""
    slow = "sim:size=4M,section=64K,fault=slow@data-size:10"
    before = [run_ok("save", slow, "-o", "null:", "--json", "--downtime-limit", limit).json_lines()[-1]["precopy_bytes"]
              for limit in ("1", "60000")]
    assert before[0] >= 4 << 20 and before[1] < before[0], before


@test
def no_start(scratch):
    path = scratch + "/state"
    with at_work(scratch) as source, idle(scratch) as destination:
        run_ok("save", source, "-o", "file:" + path)
        out = run_ok("load", destination, "-i", "file:" + path, "--no-start").out
        contains(out, destination + " is stopped")
        equal(state_of(destination), "stopped")


@test
def two_devices(scratch):
    path = "file:%s/state" % scratch
    ids = ["--id", "0000:00:02.0/vfio", "--id", "0000:00:03.0/vfio"]
    with device(scratch, "a", "--size", "1M", "--start", "--seed", "7") as a, \
         device(scratch, "b", "--size", "2M", "--start", "--seed", "8") as b, \
         device(scratch, "c", "--size", "1M", "--seed", "7") as c, \
         device(scratch, "d", "--size", "2M", "--seed", "8") as d:
        run_ok("save", a, b, *ids, "-o", path)
        run_ok("load", c, d, *ids, "-i", path)
        prove_moved(a, c)
        prove_moved(b, d)


@test
def dma_memory(scratch):
    memory = scratch + "/memory"
    with device(scratch, "a", "--size", "1M", "--start", "--log", "0x100000/64") as source:
        run_ok("save", source, "-o", "null:", "--dma", memory + "@0x100000:4K")
    equal(os.path.getsize(memory), 4096)


@test
def json_and_text_agree(scratch):
    """The same save twice, of devices that stand still: the same numbers."""
    options = ["sim:size=1M,seed=5", "-o", "null:", "--machine", "pc-i440fx-7.2"]
    text = run_ok("save", *options).out
    events = run_ok("save", *options, "--json").json_lines()
    result = events[-1]
    equal([e["event"] for e in events].count("result"), 1)
    equal((result["event"], result["command"], result["result"], result["error"]), ("result", "save", "ok", None))
    equal(result["devices"], [{"uri": options[0], "id": "0000:00:01.0/vfio", "state": "stopped"}])
    phases = [e["phase"] for e in events if e["event"] == "phase"]
    equal(phases[:2], ["setup", "pre-copy"])
    equal(result["phase"], "done")
    equal(result["total_bytes"], result["setup_bytes"] + result["precopy_bytes"] + result["stop_copy_bytes"])
    contains(text, "saved %.1f MiB in" % (result["total_bytes"] / 1048576))
    contains(text, ", %d rounds\n" % result["rounds"])
    contains(text, "  pre-copy       %.1f MiB\n" % (result["precopy_bytes"] / 1048576))
    contains(text, "  setup          %d B\n" % result["setup_bytes"])
    assert re.search(r"^  downtime +[0-9.]+ (ms|s)", text, re.M), text
    contains(text, "sim:size=1M,seed=5 is stopped")


@test
def load_result(scratch):
    path = "file:%s/state" % scratch
    saved = run_ok("save", "sim:size=1M", "-o", path, "--json").json_lines()[-1]
    loaded = run_ok("load", "sim:size=1M", "-i", path, "--json").json_lines()[-1]
    equal((loaded["result"], loaded["digest_verified"], loaded["total_bytes"]), ("ok", True, saved["total_bytes"]))
    equal(loaded["total_bytes"], os.path.getsize(path[5:]))
    equal(loaded["devices"], [{"uri": "sim:size=1M", "id": None, "state": "running"}])


@test
def json_goes_where_the_stream_does_not(scratch):
    result = run_ok("save", "sim:size=64K", "-o", "-", "--json", text=False)
    equal(result.out[:4], b"QEVM")
    events = [json.loads(line) for line in result.err.decode().splitlines()]
    equal(events[-1]["result"], "ok")


@test
def quiet_is_quiet(scratch):
    path = "file:%s/state" % scratch
    result = run_ok("save", "sim:size=64K", "-o", path, "-q")
    equal((result.out, result.err), ("", ""))
    result = run_ok("load", "sim:size=64K", "-i", path, "--quiet")
    equal((result.out, result.err), ("", ""))


@test
def progress_only_on_a_terminal(scratch):
    master, terminal = os.openpty()
    save = start("save", "sim:size=1M", "-o", "null:", stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while True:
            block = os.read(master, 4096)
            if not block:
                break
            seen += block
    except OSError:  # a terminal's end
        pass
    os.close(master)
    equal(finish(save).code, 0)
    contains(seen.decode(), "\rpre-copy: ")
    assert "\r" not in run_ok("save", "sim:size=1M", "-o", "null:").err


@test
def inspect_finds_what_was_saved(scratch):
    path = scratch + "/state"
    run_ok("save", "sim:size=1M", "-o", "file:" + path, "--id", "0000:00:05.0/vfio", "--machine", "pc-q35-9.9")
    out = run_ok("inspect", path).out
    contains(out, "pc-q35-9.9")
    contains(out, "0000:00:05.0/vfio")
    json.loads(run_ok("inspect", "--json", path).out)


@test
def as_a_shell_writes_it(scratch):
    command = "'%s' save sim:size=1M -o - | '%s' load sim:size=1M -i -" % (VFMIG, VFMIG)
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    equal(result.returncode, 0)
    contains(result.stdout, "loaded 1.")



@test
def one_memory_on_both_sides_is_refused_at_once(scratch):
    """Whichever side comes second says so, and the other one's link ends."""
    ram = "--memory=ram=%s/ram,size=1M" % scratch
    with at_work(scratch) as source, idle(scratch) as destination:
        load = start("load", destination, "-i", "unix:%s/link" % scratch, ram)
        save = start("save", source, "-o", "unix:%s/link" % scratch, ram)
        results = finish(save), finish(load)
        equal([r.code for r in results], [1, 1])
        text = "".join(r.err for r in results)
        contains(text, 'memory block "ram": a ')
        contains(text, " the same memory is under way, so both sides have the same file")
        contains(text, "leave the memory out on both sides (no --memory)")
        equal([state_of(uri) for uri in (source, destination)], ["running", "running"])
        run_ok("prove", source)


@test
def memory_of_a_save_that_was_killed(scratch):
    """While it is sent, nobody loads into it; a killed program keeps nobody out."""
    ram, path = "--memory=ram=%s/ram,size=1M" % scratch, scratch + "/state"
    with idle(scratch) as destination:
        run_ok("save", "sim:size=4M", "-o", "file:" + path, ram)
        save = start("save", "sim:size=4M,start", "-o", "exec:cat >/dev/null", ram, "--max-bandwidth", "1K", "--json")
        read_event(save, phase="pre-copy")
        result = run("load", destination, "-i", "file:" + path, ram)
        equal(result.code, 1)
        contains(result.err, "vfmig load: memory block \"ram\": a save of the same memory is under way")
        equal(state_of(destination), "running")
        save.kill()
        finish(save)
        run_ok("load", destination, "-i", "file:" + path, ram)


main()
