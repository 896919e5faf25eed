# SPDX-License-Identifier: BSD-3-Clause
"""outputs.py: a reader that does not read what is printed holds nothing up; one that is late has the result."""
import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import subprocess

from tap import VFMIG, contains, device, equal, main, read_event, run, run_ok, start, state_of, takes_signals, test

F_SETPIPE_SZ = 1031
PAGE = 4096


@contextlib.contextmanager
def pipe_with_room(room):
    """A pipe of one page that nobody reads and that takes so many bytes more; gives both ends."""
    r, w = os.pipe()
    fcntl.fcntl(w, F_SETPIPE_SZ, PAGE)
    os.write(w, b"x" * (PAGE - room))
    try:
        yield r, w
    finally:
        for fd in (r, w):
            with contextlib.suppress(OSError):
                os.close(fd)


def save(uri, *options, **where):
    """Its exit status; what does not end within tap's limit has failed."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    streams.update(where)
    return run("save", uri, "-o", "null:", *options, **streams).code


@test
def a_pipe_that_nobody_reads(scratch):
    """Wherever it becomes full: before the beginning, in pre-copy, with the device stopped, at the result."""
    with device(scratch, "a", "--size", "1M", "--interface", "v2", "--start") as uri:
        for options, where in ((("--json",), "stdout"), ((), "stdout"), (("-v",), "stderr"), (("-q",), "stderr"),
                               (("--events", "fd:1"), "stdout")):
            with pipe_with_room(0) as (_, w):
                equal((options, save(uri, *options, **{where: w})), (options, 0))
            equal(state_of(uri), "stopped")
            run_ok("load", uri, "-i", "exec:%s save sim:size=1M,interface=v2 -q -o -" % VFMIG)
        for room in (600, 1200, 2000, 3000):
            with pipe_with_room(room) as (_, w):
                equal((room, save(uri, "--json", stdout=w)), (room, 0))
            equal(state_of(uri), "stopped")
            run_ok("load", uri, "-i", "exec:%s save sim:size=1M,interface=v2 -q -o -" % VFMIG)


@test
def a_terminal_and_a_socket_that_nobody_reads(scratch):
    for options in ("--json",), ("-v",):
        terminal, other = pty.openpty()
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        os.set_blocking(other, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(other, b"x" * 512)
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                theirs.send(b"x" * 512)
        os.set_blocking(other, True)
        theirs.setblocking(True)
        for full in other, theirs.fileno():
            equal(save("sim:size=1M", *options, stdout=full, stderr=full), 0)
        for fd in terminal, other:
            os.close(fd)
        ours.close()
        theirs.close()


@test
def a_signal_cancels_though_nobody_reads(scratch):
    with device(scratch, "a", "--size", "4M", "--interface", "v2", "--start") as uri, pipe_with_room(0) as (r, w):
        process = start("save", uri, "--no-precopy", "-o", "exec:exec sleep 1000", "--events", "fd:%d" % w,
                        pass_fds=[w], stdout=subprocess.DEVNULL)
        os.close(w)
        while not takes_signals(process):
            pass
        line = ""
        while "stop-and-copy" not in line:
            process.send_signal(signal.SIGUSR1)
            line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        contains(process.stderr.readline(), "vfmig save: cancelled")
        with open(r, encoding="utf-8", closefd=False) as f:  # in time for the result
            events = [json.loads(line) for line in f.read()[PAGE:].splitlines()]
        contains(process.stderr.read(), "is now running: put back to what it was")
        equal(process.wait(), 1)
        equal((events[0]["event"], events[-1]["event"], events[-1]["result"]), ("begin", "result", "cancelled"))
        equal(state_of(uri), "running")


@test
def progress_is_dropped_first_and_counted(scratch):
    """A reader that wakes up late has the beginning, the states and the result, each line whole."""
    with device(scratch, "n", "--size", "4M", "--section", "64K", "--start", "--rate", "10000", "--fault",
                "slow@data-size:10") as uri, pipe_with_room(0) as (r, w):
        process = start("save", uri, "-o", "null:", "--downtime-limit", "1", "--precopy-timeout", "2500", "--events",
                        "fd:%d" % w, pass_fds=[w], stdout=subprocess.DEVNULL)
        os.close(w)
        contains(process.stderr.readline(), "vfmig save: ")  # it has given up
        with open(r, encoding="utf-8", closefd=False) as f:
            events = [json.loads(line) for line in f.read()[PAGE:].splitlines()]
        process.stderr.read()
        equal(process.wait(), 1)
        equal((events[0]["event"], events[-1]["event"]), ("begin", "result"))
        assert any(e.get("state") == "pre-copy" for e in events), events
        assert events[-1]["dropped"] > 0, events[-1]


@test
def a_result_that_nobody_reads_is_dropped(scratch):
    """The exit status says how it went."""
    with pipe_with_room(0) as (r, w):
        process = start("save", "sim:size=64K,fault=errno@to-stopcopy", "-o", "null:", "--json", stdout=w,
                        stderr=subprocess.DEVNULL)
        os.close(w)
        equal(process.wait(), 1)
        with open(r, encoding="utf-8", closefd=False) as f:
            equal(f.read(), "x" * PAGE)


@test
def flags_of_others_stay(scratch):
    """The pipe is shared with other processes: O_NONBLOCK would be theirs, too."""
    with pipe_with_room(PAGE) as (_, w):
        before = fcntl.fcntl(w, fcntl.F_GETFL)
        process = start("load", "sim:size=64K", "-i", "unix:%s/link" % scratch, "--json", stderr=w)
        read_event(process, event="listening")
        equal(fcntl.fcntl(w, fcntl.F_GETFL), before)
        process.send_signal(signal.SIGTERM)
        equal(process.wait(), 1)
        equal(fcntl.fcntl(w, fcntl.F_GETFL), before)


main()
