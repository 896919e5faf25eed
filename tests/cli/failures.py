# SPDX-License-Identifier: BSD-3-Clause
"""failures.py: what goes wrong under way: said clearly, and the device is left as promised."""
import json
import os
import signal
import socket
import struct

from tap import (contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start, state_of, test)


def at_work(scratch, *options):
    return device(scratch, "a", "--size", "4M", "--start", *options)


def works_again(uri):
    """It runs, and its work so far is right: nothing of it was lost to the attempt."""
    equal(state_of(uri), "running")
    run_ok("prove", uri)
    run_ok("save", uri, "-q", "-o", "null:")


@test
def reader_of_a_pipe_is_killed(scratch):
    with at_work(scratch) as uri:
        save = start("save", uri, "-o", "-", text=False)
        assert len(save.stdout.read(65536)) == 65536
        save.stdout.close()
        err = save.stderr.read().decode()
        equal(save.wait(), 1)
        save.stderr.close()
        contains(err, "vfmig save: standard output: the reader is gone")
        contains(err, "is now running: put back to what it was")
        works_again(uri)


@test
def json_on_standard_error_is_only_json(scratch):
    save = start("save", "sim:size=4M", "-o", "-", "--json", text=False)
    assert save.stdout.read(1) == b"Q"
    save.stdout.close()
    events = [json.loads(line) for line in save.stderr]
    save.stderr.close()
    equal(save.wait(), 1)
    equal((events[-1]["result"], events[-1]["errno"]), ("failed", "EPIPE"))
    contains(events[-1]["error"], "the reader is gone")


@test
def reader_command_fails(scratch):
    with at_work(scratch) as uri:
        err = run_fails("save", uri, "-o", "exec:head -c 100 > /dev/null; exit 9").err
        contains(err, "exit status 9")
        contains(err, "is now running")
        works_again(uri)


@test
def command_fails_at_the_end(scratch):
    """It got everything, and says that it could not keep it."""
    with at_work(scratch) as uri:
        err = run_fails("save", uri, "-o", "exec:cat > /dev/null; exit 9").err
        contains(err, "exit status 9")
        contains(err, "is now running: put back to what it was")
        works_again(uri)


@test
def command_ends_without_saying_what_became_of_the_stream(scratch):
    """As ssh does when its connection is lost: the other side may run."""
    for command in ("cat > /dev/null; exit 255", "cat > /dev/null; kill -9 $$"):
        with at_work(scratch) as uri:
            result = run("save", uri, "-o", "exec:" + command)
            equal(result.code, 3)
            contains(result.err, "the source stays stopped")
            contains(run_ok("probe", uri).out, "it is now: stopped")


@test
def sender_command_fails(scratch):
    path = scratch + "/state"
    run_ok("save", "sim:size=1M", "-q", "-o", "file:" + path)
    result = run_fails("load", "sim:size=1M", "-i", "exec:head -c 1000 %s; exit 3" % path)
    contains(result.err, "exit status 3")


@test
def peer_of_a_socket_goes(scratch):
    path = scratch + "/link"
    with at_work(scratch) as uri, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        save = start("save", uri, "-o", "unix:" + path)
        peer, _ = listener.accept()
        assert peer.recv(4096)
        peer.close()
        result = finish(save)
        equal(result.code, 1)
        contains(result.err, "vfmig save: unix:%s: " % path)
        contains(result.err, "is now running: put back to what it was")
        works_again(uri)


@test
def peer_of_tcp_resets(scratch):
    with at_work(scratch) as uri, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        save = start("save", uri, "-o", "tcp:127.0.0.1:%d" % listener.getsockname()[1])
        peer, _ = listener.accept()
        assert peer.recv(4096)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        result = finish(save)
        equal(result.code, 1)
        contains(result.err, "vfmig save: tcp:127.0.0.1:")
        works_again(uri)


@test
def sender_goes(scratch):
    path = scratch + "/state"
    run_ok("save", "sim:size=4M", "-q", "-o", "file:" + path)
    with device(scratch, "b", "--size", "4M") as uri:
        load = start("load", uri, "-i", "-", stdin=-1, text=False)
        with open(path, "rb") as stream:
            load.stdin.write(stream.read(3 << 20))
        load.stdin.close()
        load.stdin = None
        result = finish(load)
        equal(result.code, 1)
        contains(result.err.decode(), "vfmig load: ")
        contains(result.err.decode(), uri + " is now running")
        # running, but with nothing of the load in it
        run_ok("prove", uri)
        run_ok("load", uri, "-i", "file:" + path)


def cancelled(uri, number, *options):
    save = start("save", uri, "--json", *options)
    read_event(save, event="phase", phase="pre-copy")
    save.send_signal(number)
    result = read_event(save, event="result")
    err = save.stderr.read()
    equal(save.wait(), 1)
    save.stdout.close()
    save.stderr.close()
    equal((result["result"], result["errno"], result["source_may_run"]), ("cancelled", "ECANCELED", True))
    equal([d["state"] for d in result["devices"]], ["running"])
    contains(err, "vfmig save: cancelled")
    contains(err, "is now running: put back to what it was")
    equal(state_of(uri), "running")


@test
def cancel_while_the_link_is_full(scratch):
    """The command reads nothing."""
    with at_work(scratch) as uri:
        cancelled(uri, signal.SIGINT, "-o", "exec:exec sleep 1000")
        works_again(uri)


def restless(scratch):
    """Dirties pages faster than it gives them away: pre-copy never ends by itself."""
    return device(scratch, "n", "--size", "4M", "--section", "64K", "--start", "--rate", "10000", "--fault",
                  "slow@data-size:10")


@test
def cancel_while_the_device_never_converges(scratch):
    with restless(scratch) as uri:
        cancelled(uri, signal.SIGTERM, "--downtime-limit", "1", "-o", "null:")


@test
def cancelled_load(scratch):
    with device(scratch, "b", "--size", "4M") as uri:
        load = start("load", uri, "--json", "-i", "-", stdin=-1)
        read_event(load, event="phase")
        load.send_signal(signal.SIGINT)
        result = read_event(load, event="result")
        equal(load.wait(), 1)
        load.stdin.close()
        load.stdout.close()
        load.stderr.close()
        equal(result["result"], "cancelled")
        equal(state_of(uri), "running")
        run_ok("prove", uri)


@test
def failed_save_leaves_no_file(scratch):
    out = scratch + "/out"
    os.mkdir(out)
    with at_work(scratch, "--fault", "errno@to-stopcopy") as uri:
        run_fails("save", uri, "-o", "file:%s/state" % out)
        equal(os.listdir(out), [])
        with open(out + "/state", "w") as old:
            old.write("old")
        run_fails("save", uri, "-o", "file:%s/state" % out)
        equal(os.listdir(out), ["state"])
        equal(open(out + "/state").read(), "old")
        equal(state_of(uri), "running")


@test
def cancelled_save_leaves_no_file(scratch):
    out = scratch + "/out"
    os.mkdir(out)
    with restless(scratch) as uri:
        cancelled(uri, signal.SIGINT, "--downtime-limit", "1", "-o", "file:%s/state" % out)
        equal(os.listdir(out), [])


@test
def no_terminal_for_the_stream(scratch):
    master, terminal = os.openpty()
    result = run("save", "sim:", "-o", "-", stdout=terminal)
    os.close(terminal)
    os.close(master)
    equal(result.code, 1)
    contains(result.err, "is a terminal")


@test
def full_disk(scratch):
    with at_work(scratch) as uri:
        contains(run_fails("save", uri, "-o", "file:/dev/full").err, "No space left on device")
        works_again(uri)


@test
def damaged_file(scratch):
    path = scratch + "/state"
    run_ok("save", "sim:size=1M", "-q", "-o", "file:" + path)
    with open(path, "r+b") as f:
        f.seek(500000)
        byte = f.read(1)
        f.seek(500000)
        f.write(bytes([byte[0] ^ 1]))
    with device(scratch, "b", "--size", "1M") as uri:
        result = run_fails("load", uri, "-i", "file:" + path)
        contains(result.err, "vfmig load: ")
        run_ok("prove", uri)


@test
def not_a_stream(scratch):
    for link in ["null:", "file:/dev/null", "exec:echo nonsense", "file:" + __file__]:
        run_fails("load", "sim:size=64K", "-i", link)


@test
def require_digest(scratch):
    path = scratch + "/state"
    run_ok("save", "sim:size=64K", "-q", "-o", "file:" + path)
    run_ok("load", "sim:size=64K", "-q", "--require-digest", "-i", "file:" + path)
    run_ok("save", "sim:size=64K", "-q", "--no-digest", "-o", "file:" + path)
    contains(run_fails("load", "sim:size=64K", "--require-digest", "-i", "file:" + path).err, "no digest")
    contains(run_ok("load", "sim:size=64K", "-i", "file:" + path).out, "none in the stream")
    contains(run_ok("inspect", path).out, "written without digests")


@test
def dma_file_that_cannot_be(scratch):
    contains(run_fails("save", "sim:", "-o", "null:", "--dma", scratch + "/none@0").err, "No such file")
    open(scratch + "/empty", "w").close()
    contains(run_fails("save", "sim:", "-o", "null:", "--dma", scratch + "/empty@0").err, "is empty")


main()
