# SPDX-License-Identifier: BSD-3-Clause
"""signals.py: what cancels, wherever the command is; what is ignored; and what SIGUSR1 is answered."""
import json
import os
import signal
import socket
import subprocess

from tap import (VFMIG, contains, device, equal, finish, main, read_event, run_ok, start, state_of, takes_signals,
                 test)

CANCELLING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGXCPU)


def last_json(out):
    return json.loads(out.splitlines()[-1])


def read_until(pipe, part):
    for line in pipe:
        if part in line:
            return line
    raise AssertionError("it ended without %r" % part)


@test
def a_save_is_cancelled_by_each(scratch):
    """The terminal that goes away, too: the command reads nothing, so the device is stopped all the while."""
    with device(scratch, "a", "--size", "4M", "--interface", "v2", "--start") as uri:
        for number in CANCELLING:
            save = start("save", uri, "--no-precopy", "--json", "-o", "exec:exec sleep 1000")
            read_event(save, event="state", state="stop-and-copy")
            save.send_signal(number)
            result = finish(save)
            equal((number, result.code), (number, 1))
            last = last_json(result.out)
            equal((last["result"], last["source_may_run"]), ("cancelled", True))
            assert "outcome" not in last, last
            contains(result.err, "vfmig save: cancelled")
            equal(state_of(uri), "running")
        run_ok("prove", uri)


@test
def a_load_is_cancelled_by_each(scratch):
    stream = scratch + "/state"
    run_ok("save", "sim:size=4M,interface=v2", "-q", "-o", "file:" + stream)
    with open(stream, "rb") as f:
        half = f.read(2 << 20)
    with device(scratch, "b", "--size", "4M", "--interface", "v2") as uri:
        for number in CANCELLING:
            load = start("load", uri, "--json", "-i", "-", stdin=subprocess.PIPE, text=False)
            load.stdin.write(half)
            load.stdin.flush()
            for line in load.stdout:
                if json.loads(line).get("state") == "resuming":
                    break
            load.send_signal(number)
            out, err = load.communicate()
            equal((number, load.returncode), (number, 1))
            equal(last_json(out.decode())["result"], "cancelled")
            contains(err.decode(), "is now running, with nothing of the load at work in it")
            equal(state_of(uri), "running")


@test
def a_load_that_waits_for_its_source(scratch):
    path = scratch + "/link"
    for number in CANCELLING:
        load = start("load", "sim:size=64K", "-i", "unix:" + path, "--json")
        read_event(load, event="listening")
        load.send_signal(number)
        result = finish(load)
        equal((number, result.code), (number, 1))
        contains(result.err, "vfmig load: cancelled while waiting for the other side on unix:" + path)
        contains(result.err, "sim:size=64K is now running: nothing was done to it")
        last = last_json(result.out)
        equal((last["event"], last["result"], last["errno"]), ("result", "cancelled", "ECANCELED"))
        assert not os.path.exists(path), "the socket was left"


@test
def a_load_that_waits_on_tcp(scratch):
    load = start("load", "sim:size=64K", "-i", "tcp:127.0.0.1:0", "--json")
    read_event(load, event="listening")
    load.send_signal(signal.SIGTERM)
    result = finish(load)
    equal(result.code, 1)
    contains(result.err, "vfmig load: cancelled while waiting for the other side on tcp:127.0.0.1:")


@test
def while_a_device_is_opened(scratch):
    """Its server has accepted and says nothing."""
    path = scratch + "/mute.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        for command in (["save", "vfio-user:" + path, "-o", "null:"],
                        ["load", "vfio-user:" + path, "-i", "unix:%s/link" % scratch]):
            process = start(*command)
            peer, _ = listener.accept()
            assert peer.recv(1)
            process.send_signal(signal.SIGHUP)
            result = finish(process)
            peer.close()
            equal((command[0], result.code), (command[0], 1))
            contains(result.err, "cancelled while opening vfio-user:" + path)
            contains(result.err, "vfio-user:%s: nothing was done to it" % path)


@test
def while_a_save_connects(scratch):
    """Nobody listens yet."""
    with device(scratch, "a", "--size", "64K", "--start") as uri:
        save = start("save", uri, "-o", "unix:%s/link" % scratch)
        while not takes_signals(save):
            pass
        line = ""
        while "opening unix:" not in line:
            save.send_signal(signal.SIGUSR1)
            line = save.stderr.readline()
            contains(line, "vfmig save: opening ")
        save.send_signal(signal.SIGQUIT)
        result = finish(save)
        equal(result.code, 1)
        contains(result.err, "cancelled while opening unix:%s/link" % scratch)
        contains(result.err, uri + " is now running: nothing was done to it")
        equal(state_of(uri), "running")


@test
def one_that_is_ignored_at_the_start_stays_so(scratch):
    """As nohup and a shell's background do it."""
    run_ok("save", "sim:size=4M,interface=v2", "-q", "-o", "file:%s/state" % scratch)
    with open(scratch + "/state", "rb") as f:
        stream = f.read()
    with device(scratch, "b", "--size", "4M", "--interface", "v2") as uri:
        load = subprocess.Popen(["sh", "-c", "trap '' HUP INT USR1; exec \"$0\" \"$@\"", VFMIG, "load", uri, "-i", "-",
                                 "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        load.stdin.write(stream[:2 << 20])
        load.stdin.flush()
        for line in load.stdout:
            if json.loads(line).get("state") == "resuming":
                break
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
            load.send_signal(number)
        _, err = load.communicate(stream[2 << 20:])
        equal((load.returncode, err), (0, b""))


@test
def a_second_one_does_not_end_it_half_way(scratch):
    with device(scratch, "a", "--size", "4M", "--interface", "v2", "--start") as uri:
        save = start("save", uri, "--no-precopy", "--json", "-o", "exec:exec sleep 1000")
        read_event(save, event="state", state="stop-and-copy")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            save.send_signal(number)
        result = finish(save)
        equal(result.code, 1)
        contains(result.err, "is now running: put back to what it was")
        equal(state_of(uri), "running")


@test
def where_it_stands(scratch):
    with device(scratch, "a", "--size", "4M", "--interface", "v2", "--start") as uri:
        save = start("save", uri, "--no-precopy", "-o", "exec:exec sleep 1000", "--events", "fd:1")
        read_event(save, event="state", state="stop-and-copy")
        save.send_signal(signal.SIGUSR1)
        line = read_until(save.stderr, "pending")
        contains(line, "vfmig save: stop-and-copy, ")
        contains(line, " sent, ")
        save.send_signal(signal.SIGTERM)
        equal(finish(save).code, 1)
    load = start("load", "sim:size=64K", "-i", "unix:%s/link" % scratch, "--json")
    read_event(load, event="listening")
    load.send_signal(signal.SIGUSR1)
    contains(load.stderr.readline(), "vfmig load: waiting for the other side on unix:%s/link" % scratch)
    load.send_signal(signal.SIGTERM)
    equal(finish(load).code, 1)


@test
def a_device_that_is_served(scratch):
    path = scratch + "/a.sock"
    for number in CANCELLING:
        served = start("device", "vfio-user:" + path, "--size", "64K")
        contains(served.stdout.readline(), "listening on ")
        served.send_signal(signal.SIGUSR1)
        contains(served.stderr.readline(), "vfmig device: vfio-user:%s is served, at step 0" % path)
        served.send_signal(number)
        result = finish(served)
        equal((number, result.code), (number, 0))
        assert not os.path.exists(path), "the socket was left"


@test
def a_command_that_has_all_of_the_stream_is_left_to_finish(scratch):
    """It may be another host's load: whether it runs there is not known."""
    gate, done = scratch + "/gate", scratch + "/done"
    os.mkfifo(gate)
    command = "cat > /dev/null; echo > %s; read x < %s; echo > %s" % (done + ".1", gate, done + ".2")
    os.mkfifo(done + ".1")
    os.mkfifo(done + ".2")
    with device(scratch, "a", "--size", "64K", "--start") as uri:
        save = start("save", uri, "--json", "-o", "exec:" + command)
        with open(done + ".1", encoding="ascii") as f:
            f.read()
        save.send_signal(signal.SIGTERM)
        result = finish_without_the_command(save)
        equal(result[0], 3)
        equal((result[1]["result"], result[1]["outcome"], result[1]["source_may_run"]),
              ("cancelled", "unknown", False))
        equal(state_of(uri), "stopped")
        with open(gate, "w", encoding="ascii") as f:
            f.write("\n")
        with open(done + ".2", encoding="ascii") as f:  # it goes on to its end
            equal(f.read(), "\n")


def finish_without_the_command(process):
    """The command has the same standard error, which therefore does not end."""
    last = read_event(process, event="result")
    code = process.wait()
    process.stdout.close()
    process.stderr.close()
    return code, last


@test
def a_stop_command_that_does_not_end(scratch):
    started, resumed = scratch + "/started", scratch + "/resumed"
    os.mkfifo(started)
    with device(scratch, "a", "--size", "64K", "--start") as uri:
        save = start("save", uri, "-o", "null:", "--stop-command", "echo > %s; exec sleep 1000" % started,
                     "--resume-command", "touch " + resumed)
        with open(started, encoding="ascii") as f:
            f.read()
        save.send_signal(signal.SIGTERM)
        result = finish(save)
        equal(result.code, 1)
        contains(result.err, "cancelled while --stop-command")
        equal(state_of(uri), "running")
        assert os.path.exists(resumed), "what was stopped was not resumed"


@test
def a_resume_command_that_does_not_end(scratch):
    started = scratch + "/started"
    os.mkfifo(started)
    run_ok("save", "sim:size=64K", "-q", "-o", "file:%s/state" % scratch)
    with device(scratch, "b", "--size", "64K") as uri:
        load = start("load", uri, "-i", "file:%s/state" % scratch, "--resume-command",
                     "echo > %s; exec sleep 1000" % started)
        with open(started, encoding="ascii") as f:
            f.read()
        load.send_signal(signal.SIGTERM)
        result = finish(load)
        equal(result.code, 1)
        contains(result.err, "cancelled while --resume-command")
        contains(result.err, "with nothing of the load at work in it")


main()
