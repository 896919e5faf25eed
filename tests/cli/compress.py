# SPDX-License-Identifier: BSD-3-Clause
"""compress.py: links that are compressed by zstd: all kinds, what zstd(1) makes of them, and what is no frame."""
import os
import shutil
import signal
import socket
import subprocess
import threading

import certificates
from tap import (Skip, contains, device, equal, finish, main, read_event, run_fails, run_ok, start, state_of, test)
from tap import run as run_any

MAGIC = bytes.fromhex("28b52ffd")
HEADER = MAGIC + bytes.fromhex("0050")  # of a frame: no checksum, a window of 1 MiB, the size is not told
ZSTD = ["--compress", "zstd"]
SIM = "sim:size=512K"


def zstd(*args, **kwargs):
    if not shutil.which("zstd"):
        raise Skip("no zstd(1) here")
    return subprocess.run(["zstd", "-q", *args], check=True, stdout=subprocess.PIPE, **kwargs).stdout


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def saved(scratch, *options, name="state.zst"):
    path = scratch + "/" + name
    result = run_ok("save", SIM, "-o", "file:" + path, "--json", *(options or ZSTD))
    return path, result.json_lines()[-1]


def loads(*link, **kwargs):
    result = run_ok("load", SIM, "-i", *link, "--json", **kwargs).json_lines()[-1]
    equal((result["result"], result["digest_verified"]), ("ok", True))
    return result


# ----------------------------------------------------------- files and pipes

@test
def a_file_is_what_zstd_reads(scratch):
    path, result = saved(scratch)
    plain, _ = saved(scratch, "--quiet", name="plain")
    equal(zstd("-dc", path), read(plain))
    equal(result["compressed_bytes"], os.path.getsize(path))
    equal(result["total_bytes"], os.path.getsize(plain))
    equal(loads("file:" + path)["compressed_bytes"], os.path.getsize(path))
    for level in "1", "7", "19":
        path, _ = saved(scratch, "--compress", "zstd:" + level)
        equal(zstd("-dc", path), read(plain))
        loads("file:" + path, "--compress", "zstd")


@test
def what_zstd_wrote_is_read(scratch):
    plain, _ = saved(scratch, "--quiet", name="plain")
    path = scratch + "/by-zstd"
    for options in ["-1"], ["-19"], ["--no-check"], ["-3", "-T2"]:
        zstd(*options, "-f", plain, "-o", path)
        loads("file:" + path)


@test
def pipes_commands_and_descriptors(scratch):
    path, _ = saved(scratch)
    with open(path, "rb") as f:
        loads("-", stdin=f)
    cat = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    loads("-", stdin=cat.stdout)
    equal(cat.wait(), 0)
    loads("exec:cat " + path)
    with open(path, "rb") as f:
        loads("fd:%d" % f.fileno(), pass_fds=[f.fileno()])
    run_ok("save", SIM, "-o", "exec:cat > %s/other" % scratch, *ZSTD)
    equal(read(scratch + "/other"), read(path))
    save = start("save", SIM, "-o", "-", *ZSTD, text=False)
    equal(save.communicate()[0], read(path))


@test
def inspect_reads_it(scratch):
    path, _ = saved(scratch)
    plain, _ = saved(scratch, "--quiet", name="plain")
    expected = run_ok("inspect", "--json", plain).out
    equal(run_ok("inspect", "--json", path).out, expected)
    equal(run_ok("inspect", "--json", "exec:cat " + path).out, expected)
    for name in "qemu-7.2-v1.stream", "qemu-10.0-v2-mtty.stream":
        golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", name)
        zstd("-f", golden, "-o", scratch + "/golden")
        equal(run_ok("inspect", "--json", scratch + "/golden").out, run_ok("inspect", "--json", golden).out)
    identity = "0000:00:01.0/vfio"
    for name, stream in ("a", plain), ("b", path):
        run_ok("inspect", stream, "--extract", identity, "-o", scratch + "/" + name)
    equal(read(scratch + "/a"), read(scratch + "/b"))


# ------------------------------------------------------------------- sockets

def moves(scratch, link, *both, save=(), interface="both"):
    """A device that works all the time: rounds, pings and answers, and the handover behind the stream."""
    options = ["--size", "4M", "--interface", interface]
    with device(scratch, "a", *options, "--start") as a, device(scratch, "b", *options) as b:
        load = start("load", b, "-i", link, "--json", *both)
        where = read_event(load, event="listening")["link"]
        result = run_ok("save", a, "-o", where, "--json", *ZSTD, *save, *both).json_lines()[-1]
        loaded = finish(load)
        equal((loaded.code, loaded.err), (0, ""))
        loaded = loaded.json_lines()[-1]
        equal((result["result"], loaded["result"]), ("ok", "ok"))
        assert loaded["digest_verified"] and 0 < loaded["compressed_bytes"] <= result["compressed_bytes"], loaded
        equal((state_of(a), state_of(b)), ("stopped", "running"))
        run_ok("prove", a, b)
        return result


@test
def live_over_unix(scratch):
    moves(scratch, "unix:%s/link" % scratch)


@test
def live_over_tcp(scratch):
    moves(scratch, "tcp:127.0.0.1:0")


@test
def live_over_tls(scratch):
    creds = ["--tls-creds", certificates.psk(scratch, "qemu:" + 32 * "a5")]
    moves(scratch, "tcp:127.0.0.1:0", *creds)
    moves(scratch, "unix:%s/link" % scratch, *creds)


@test
def by_several_connections(scratch):
    for more in [], ["--tls-creds", certificates.psk(scratch, "qemu:" + 32 * "a5")]:
        moves(scratch, "unix:%s/link" % scratch, "--multifd", "4", *more, interface="v2")
        moves(scratch, "tcp:127.0.0.1:0", "--multifd", "2", *more, save=["--no-precopy"], interface="v2")


@test
def channels_that_a_load_does_not_expect(scratch):
    link = "unix:%s/link" % scratch
    with device(scratch, "a", "--size", "1M", "--interface", "v2", "--start") as a:
        load = start("load", SIM + ",interface=v2", "-i", link, "--json")
        read_event(load, event="listening")
        run_fails("save", a, "-o", link, "--multifd", "2", *ZSTD)
        contains(finish(load).err, "say how many (--multifd)")
        equal(state_of(a), "running")


@test
def both_sides_may_say_it(scratch):
    moves(scratch, "unix:%s/link" % scratch, *ZSTD)


@test
def without_a_return_path(scratch):
    link = "unix:%s/link" % scratch
    load = start("load", SIM, "-i", link, "--json")
    read_event(load, event="listening")
    run_ok("save", SIM, "-o", link, "--no-return-path", *ZSTD)
    result = finish(load)
    equal((result.code, result.json_lines()[-1]["digest_verified"]), (0, True))


# -------------------------------------------------------------------- ratios

def memory(scratch, data):
    return ["--memory", "ram=" + write(scratch + "/memory", data)]


@test
def a_state_of_one_byte_becomes_next_to_nothing(scratch):
    """Zero pages are no bytes in a stream, so these have another one."""
    size = 32 << 20
    path = scratch + "/state.zst"
    result = run_ok("save", SIM, *memory(scratch, b"\x01" * size), "-o", "file:" + path, "--json", *ZSTD)
    result = result.json_lines()[-1]
    assert result["total_bytes"] > size, result
    assert result["compressed_bytes"] - (512 << 10) < size / 100, result
    run_ok("load", SIM, "--memory", "ram=%s/loaded,size=32M" % scratch, "-i", "file:" + path)
    equal(read(scratch + "/loaded"), b"\x01" * size)


@test
def a_state_that_cannot_be_compressed_hardly_grows(scratch):
    _, result = saved(scratch)  # this device's looks like noise
    assert result["compressed_bytes"] < result["total_bytes"] * 1.01, result
    text = run_ok("save", SIM, "-o", "null:", *ZSTD).out
    contains(text, "compressed ")
    contains(text, " to 1)")


# ------------------------------------------------------------ what is broken

def refused(data, *says, options=(), scratch):
    """By load, which leaves nothing loaded, and by inspect; from a file and by a pipe."""
    path = write(scratch + "/broken", data)
    for link in "file:" + path, "exec:cat " + path:
        for command in ["load", SIM, "-i", link, *options], ["inspect", link]:
            if command[0] == "inspect" and options:
                continue
            result = run_fails(*command)
            assert any(s in result.err for s in says), (result.err, says)


@test
def one_that_is_cut(scratch):
    data = read(saved(scratch)[0])
    for length in 5, 17, 4096, 4097, len(data) // 2, len(data) - 5000:
        refused(data[:length], "ends in the middle of a zstd frame", scratch=scratch)
    refused(data[:4], "ends in the middle of a zstd frame", scratch=scratch)
    refused(data[:3], "the stream ends in the middle of the header", scratch=scratch)
    # Only the end of the frame is missing: a file has to be whole, a pipe's reader knows enough before.
    path = write(scratch + "/cut", data[:-2])
    contains(run_fails("load", SIM, "-i", "file:" + path).err, "ends in the middle of a zstd frame")


@test
def one_with_bytes_changed(scratch):
    data = read(saved(scratch)[0])
    for at in list(range(4, 64)) + list(range(64, len(data), len(data) // 40)):
        changed = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1:]
        path = write(scratch + "/changed", changed)
        result = run_fails("load", SIM, "-i", "file:" + path)
        contains(result.err, "offset 0x")
        assert "is now running" not in result.err or "with nothing of the load" in result.err, result.err


@test
def damage_in_a_file_is_found_before_the_device_is_touched(scratch):
    path, _ = saved(scratch)
    data = read(path)
    write(path, data[:-5000] + b"damage" + data[-4994:])
    with device(scratch, "b", "--size", "512K", "--fault", "errno@to-resuming") as b:
        result = run_fails("load", b, "-i", "file:" + path)
        contains(result.err, "offset 0x")
        assert "Input/output error" not in result.err, result.err
        contains(run_fails("load", b, "-i", "file:" + path, "--no-verify-first").err, "Input/output error")


@test
def one_with_a_wrong_checksum(scratch):
    data = read(saved(scratch)[0])
    path = write(scratch + "/changed", data[:-1] + bytes([data[-1] ^ 1]))
    contains(run_fails("load", SIM, "-i", "file:" + path).err, "checksum")


@test
def one_with_bytes_behind_it(scratch):
    data = read(saved(scratch)[0])
    for tail in b"\0", b"more", data, MAGIC, bytes.fromhex("502a4d18 04000000 00000000"):
        path = write(scratch + "/longer", data + tail)
        for command in ["load", SIM, "-i", "file:" + path], ["inspect", path]:
            contains(run_fails(*command).err, "more bytes behind the end of the zstd frame")
    stream, _ = saved(scratch, "--quiet", name="plain")
    path = write(scratch + "/longer", zstd("-c", input=read(stream) + b"\0"))
    contains(run_fails("load", SIM, "-i", "file:" + path).err, "more bytes behind the stream's end")


@test
def one_that_wants_much_memory(scratch):
    stream, _ = saved(scratch, "--quiet", name="plain")
    long = zstd("--ultra", "-22", "--long=27", "-c", stdin=open(stream, "rb"))
    refused(long, "more than 8 MiB of memory", scratch=scratch)
    refused(MAGIC + b"\x00\xff" + bytes(16), "more than 8 MiB of memory", scratch=scratch)


@test
def one_that_is_something_else(scratch):
    refused(zstd("-c", input=b"no stream" * 1000), "offset 0x0: ", scratch=scratch)
    refused(HEADER + b"\xff\xff\xff" + bytes(100), "compressed offset 0x", scratch=scratch)
    plain, _ = saved(scratch, "--quiet", name="plain")
    refused(read(plain), "the other side does not compress", options=ZSTD, scratch=scratch)


@test
def one_of_nothing_without_an_end(scratch):
    """Empty blocks for ever: the load goes on, and hears that it is to end."""
    link = scratch + "/link"
    load = start("load", SIM, "-i", "unix:" + link, "--json")
    read_event(load, event="listening")
    flooded = threading.Event()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(link)

        def flood():
            try:
                s.sendall(HEADER)
                for i in range(1 << 20):
                    s.sendall(bytes(3 << 16))
                    if i == 100:
                        flooded.set()
            except OSError:
                pass
        thread = threading.Thread(target=flood)
        thread.start()
        flooded.wait()
        load.send_signal(signal.SIGINT)
        result = finish(load)
        thread.join()
    equal((result.code, result.json_lines()[-1]["result"]), (1, "cancelled"))


# ------------------------------------------------------------ the other side

@test
def a_destination_that_cannot_read_it(scratch):
    """As a QEMU does: it looks at the first four bytes and goes."""
    with device(scratch, "a", "--size", "256K", "--start") as a, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(scratch + "/sink")
        listener.listen(1)
        save = start("save", a, "-o", "unix:%s/sink" % scratch, *ZSTD)
        connection = listener.accept()[0]
        equal(connection.recv(4), MAGIC)
        connection.close()
        result = finish(save)
        equal(result.code, 1)
        contains(result.err, "if it is a QEMU: none reads a compressed stream (--compress)")
        equal(state_of(a), "running")


@test
def a_reader_that_takes_its_time_can_be_cancelled(scratch):
    with device(scratch, "a", "--size", "4M", "--start") as a:
        ends = os.pipe()
        save = start("save", a, "-o", "fd:%d" % ends[1], "--json", *ZSTD, pass_fds=[ends[1]], stdout=subprocess.PIPE)
        os.close(ends[1])
        read_event(save, event="phase", phase="pre-copy")
        save.send_signal(signal.SIGINT)
        equal(finish(save).json_lines()[-1]["result"], "cancelled")
        os.close(ends[0])
        equal(state_of(a), "running")


@test
def levels_that_there_are_not(scratch):
    for what in "zstd:0", "zstd:20", "zstd:", "zstd:x", "zstd:1x", "zstd:-1", "gzip", "zstd1", "":
        result = run_any("save", SIM, "-o", "file:%s/no" % scratch, "--compress", what)
        equal(result.code, 2)
        contains(result.err, "expected zstd or zstd:LEVEL")


main()
