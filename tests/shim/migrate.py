#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real QEMUs, with a software device behind the shim: what one of them or vfmig saved, the other loads."""
import json
import os
import shutil
import socket

import qemu
import certificates  # qemu knows the way to it
import tap
from qemu import V7, V10, V11, Qemu
from tap import test

SIZE = "size=1M,section=64K,rate=2000"
LOG = (0x2000000, 64)  # its ring of entries, in the guest's memory
LOG_AREA = 4096
ID = "0000:00:01.0/vfio"
INITIAL = {V7: [], V10: ["initial=512K"], V11: ["initial=512K"]}  # what a switch has to wait for, where it is told


def sim(version, *more):
    return ",".join([SIZE, "interface=" + version.interface, *more])


def options(version, *more):
    return ["--" + o for o in sim(version, *more).split(",")]


def claim(uri):
    return json.loads(tap.run_ok("prove", "--json", uri).out)["devices"][0]


def saved_by_qemu(scratch, version, through="cat", **kwargs):
    """A QEMU at work, saved to a file; gives the file and the device's last step."""
    path = scratch + "/stream"
    source = Qemu(scratch, version, ["sim:" + sim(version)], **kwargs)
    source.do("cont")
    source.work(100, log=LOG)
    source.save(path, through)
    step = source.read(qemu.STEP)
    tap.equal(source.read(qemu.STEP), step)  # it has stopped
    assert source.read(qemu.LOGGED) > 0, "no DMA reached the guest's memory"
    source.quit()
    return path, step


def qemu_to_vfmig(scratch, version, **kwargs):
    path, step = saved_by_qemu(scratch, version, **kwargs)
    tap.contains(tap.run_ok("inspect", path).out, ID)
    with tap.device(scratch, "b", *options(version)) as b:
        tap.run_ok("load", b, "-i", "file:" + path)
        after = claim(b)
        tap.equal(after["loads"], 1)
        tap.equal(after["resumed_step"], step)


def vfmig_to_qemu(scratch, version, *save_options, through="cat", **kwargs):
    version.need()
    path = scratch + "/stream"
    with tap.device(scratch, "a", *options(version, "start")) as a, \
            tap.device(scratch, "b", *options(version)) as b:
        tap.run_ok("save", a, "-o", "file:" + path, "--machine", version.machine, "--id", ID, *save_options)
        destination = Qemu(scratch, version, [b], incoming=True, **kwargs)
        destination.load(path, through)
        destination.do("cont")
        destination.quit()
        tap.run_ok("prove", a, b)
        tap.equal(claim(b)["loads"], 1)


def qemu_to_qemu(scratch, version, count=1, **kwargs):
    devices = ["sim:%s,seed=%d" % (sim(version), i + 1) for i in range(count)]
    source = Qemu(scratch, version, devices, "source", **kwargs)
    source.do("cont")
    for i in range(count):
        source.work(100, i, (LOG[0] + i * LOG_AREA, LOG[1]))
    source.save(scratch + "/stream")
    steps = [source.read(qemu.STEP, i) for i in range(count)]
    source_logged = [source.read(qemu.LOGGED, i) for i in range(count)]
    logs = source.memory(LOG[0], count * LOG_AREA)
    source.quit()
    destination = Qemu(scratch, version, devices, "destination", incoming=True, **kwargs)
    destination.load(scratch + "/stream")
    # What the device wrote while its state and the memory were sent: a page not known as dirty would be old.
    tap.equal(destination.memory(LOG[0], count * LOG_AREA), logs)
    assert all(source_logged), "no DMA reached the guest's memory"
    destination.do("cont")
    for i in range(count):
        tap.equal(destination.read(qemu.RESUMED, i), steps[i])
    destination.quit()


@test
def qemu_7_2_saves_and_vfmig_loads(scratch):
    qemu_to_vfmig(scratch, V7)


@test
def vfmig_saves_and_qemu_7_2_loads(scratch):
    vfmig_to_qemu(scratch, V7)


@test
def vfmig_saves_without_pre_copy_and_qemu_7_2_loads(scratch):
    vfmig_to_qemu(scratch, V7, "--no-precopy")


@test
def compressed_files_by_way_of_zstd(scratch):
    if not shutil.which("zstd"):
        raise tap.Skip("no zstd(1) here")
    for i, version in enumerate([V7, V10]):
        for move in qemu_to_vfmig, vfmig_to_qemu:
            at = "%s/%d%s" % (scratch, i, move.__name__)
            os.mkdir(at)
            if move == qemu_to_vfmig:
                move(at, version, through="zstd -q")
            else:
                move(at, version, "--compress", "zstd", through="zstd -qdc")


@test
def a_qemu_sends_a_compressed_stream_away(scratch):
    link = "unix:%s/link" % scratch
    with tap.device(scratch, "a", *options(V7, "start")) as a, tap.device(scratch, "b", *options(V7)) as b:
        destination = Qemu(scratch, V7, [b], incoming=True)
        destination.do("migrate-incoming", uri=link)
        save = tap.run_fails("save", a, "-o", link, "--machine", V7.machine, "--id", ID, "--compress", "zstd")
        tap.contains(save.err, "if it is a QEMU: none reads a compressed stream (--compress)")
        tap.equal(tap.state_of(a), "running")


def free_address():
    """tcp: on a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return "tcp:127.0.0.1:%d" % s.getsockname()[1]


def use(process, channels, *capabilities):
    """Turns a QEMU's migration capabilities on, with multifd if there are channels."""
    names = [*capabilities, *(["multifd"] if channels else [])]
    process.do("migrate-set-capabilities", capabilities=[{"capability": n, "state": True} for n in names])
    if channels:
        process.do("migrate-set-parameters", **{"multifd-channels": channels})


def by_channels(channels):
    """vfmig's options, and the device's."""
    return (["--multifd", str(channels)], ",x-migration-multifd-transfer=on") if channels else ([], "")


def by_tls(creds):
    return ["--tls-creds", creds] if creds else []


def live_from_qemu(scratch, version, link, return_path, channels=0, *capabilities, creds=None, load_options=(),
                   device=(), source_device=(), qemu_options=(), downtime_limit_ms=None):
    """A QEMU at work moves straight into a waiting vfmig."""
    more_options, device_options = by_channels(channels)
    source = Qemu(scratch, version, ["sim:" + sim(version, *INITIAL[version], *source_device)], options=device_options,
                  more=qemu_options)
    if creds:
        source.use_tls(creds, "client")
    use(source, channels, *(["return-path"] if return_path else []), *capabilities)
    if downtime_limit_ms:
        source.do("migrate-set-parameters", **{"downtime-limit": downtime_limit_ms})
    source.do("cont")
    source.work(100)
    with tap.device(scratch, "b", *options(version, *device)) as b:
        load = tap.start("load", b, "-i", link, "--json", *load_options, *more_options, *by_tls(creds))
        source.migration("migrate", uri=tap.read_event(load, event="listening")["link"])
        result = tap.finish(load)
        tap.equal(result.code, 0)
        step = source.read(qemu.STEP)
        tap.equal((claim(b)["loads"], claim(b)["resumed_step"]), (1, step))
    source.quit()


def live_to_qemu(scratch, version, link, channels=0, *more, capabilities=(), creds=None, device=(),
                 qemu_options=()):
    version.need()
    save_options, device_options = by_channels(channels)
    with tap.device(scratch, "a", *options(version, "start", *device)) as a, \
            tap.device(scratch, "b", *options(version, *device)) as b:
        destination = Qemu(scratch, version, [b], incoming=True, options=device_options, more=qemu_options)
        if creds:
            destination.use_tls(creds, "server")
        use(destination, channels, *capabilities)
        destination.do("migrate-incoming", uri=link)
        tap.run_ok("save", a, "-o", link, "--machine", version.machine, "--id", ID, *save_options, *more,
                   *by_tls(creds))
        destination.migrated()
        destination.do("cont")
        destination.quit()
        tap.run_ok("prove", a, b)


@test
def qemu_7_2_moves_live_to_vfmig(scratch):
    live_from_qemu(scratch, V7, "unix:%s/link" % scratch, False)


@test
def qemu_10_0_moves_live_to_vfmig(scratch):
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, False)


@test
def qemu_10_0_moves_live_to_vfmig_with_a_return_path(scratch):
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, True)


@test
def qemu_10_0_moves_live_to_vfmig_over_tcp_with_a_return_path(scratch):
    live_from_qemu(scratch, V10, "tcp:127.0.0.1:0", True)


@test
def vfmig_moves_live_to_qemu_7_2(scratch):
    live_to_qemu(scratch, V7, "unix:%s/link" % scratch)


@test
def vfmig_moves_live_to_qemu_10_0(scratch):
    live_to_qemu(scratch, V10, "unix:%s/link" % scratch)


@test
def vfmig_moves_live_to_qemu_10_0_over_tcp(scratch):
    live_to_qemu(scratch, V10, free_address())


def moves_by_channels(channels, kind):
    """Both ways, and so that the channels carry all of a state: what has no pre-copy is sent when it is stopped."""
    where = {"unix": lambda scratch: "unix:%s/link" % scratch, "tcp": lambda scratch: free_address()}[kind]
    whole = ["size=8M", "precopy=no"]

    def qemu_to_vfmig_live(scratch):
        live_from_qemu(scratch, V10, where(scratch), True, channels)

    def whole_qemu_to_vfmig(scratch):
        # QEMU takes the little that it has sent of idle memory for the link's bandwidth: with its own limit of 300 ms
        # it sometimes goes on for ever, with nothing left to send but those 8 MiB.
        live_from_qemu(scratch, V10, where(scratch), True, channels, source_device=whole, device=whole,
                       downtime_limit_ms=60000)

    def vfmig_to_qemu_live(scratch):
        live_to_qemu(scratch, V10, where(scratch), channels)

    def whole_vfmig_to_qemu(scratch):
        live_to_qemu(scratch, V10, where(scratch), channels, device=whole)

    for function in (qemu_to_vfmig_live, whole_qemu_to_vfmig, vfmig_to_qemu_live, whole_vfmig_to_qemu):
        function.__name__ = "%s_by_%d_channels_over_%s" % (function.__name__, channels, kind)
        test(function)


moves_by_channels(2, "unix")
moves_by_channels(4, "unix")
moves_by_channels(2, "tcp")
moves_by_channels(4, "tcp")


@test
def qemu_10_0_moves_live_to_vfmig_by_2_channels_without_a_return_path(scratch):
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, False, 2)


UUID = "12345678-9abc-def0-1234-56789abcdef0"


@test
def qemu_10_0_with_a_uuid_moves_live_to_vfmig_by_2_channels(scratch):
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, True, 2, load_options=["--uuid", UUID],
                   qemu_options=["-uuid", UUID])


@test
def vfmig_moves_live_to_qemu_10_0_with_a_uuid_by_2_channels(scratch):
    live_to_qemu(scratch, V10, "unix:%s/link" % scratch, 2, "--uuid", UUID, qemu_options=["-uuid", UUID])


@test
def qemu_10_0_moves_live_to_vfmig_that_acknowledges_the_switch(scratch):
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, True, 0, "switchover-ack")


@test
def qemu_10_0_moves_live_to_vfmig_by_2_channels_and_an_acknowledged_switch(scratch):
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, True, 2, "switchover-ack")


@test
def qemu_10_0_moves_live_to_a_vfmig_whose_device_has_no_pre_copy(scratch):
    """It needs nothing before the switch, and only --switchover-ack tells that this has to be said."""
    live_from_qemu(scratch, V10, "unix:%s/link" % scratch, True, 0, "switchover-ack",
                   load_options=["--switchover-ack"], device=["precopy=no"])


@test
def vfmig_moves_live_to_qemu_10_0_that_acknowledges_the_switch(scratch):
    live_to_qemu(scratch, V10, "unix:%s/link" % scratch, 0, "--switchover-ack",
                 capabilities=("return-path", "switchover-ack"))


@test
def vfmig_moves_live_to_qemu_10_0_by_2_channels_and_an_acknowledged_switch(scratch):
    live_to_qemu(scratch, V10, free_address(), 2, "--switchover-ack", capabilities=("return-path", "switchover-ack"))


def by_certificates(scratch):
    return certificates.Authority(scratch).creds("both")


def by_a_key(scratch):
    return certificates.psk(scratch, "qemu:" + 32 * "a5")


def live_by_tls_from_qemu(scratch, version, creds, return_path, channels=0):
    live_from_qemu(scratch, version, "tcp:127.0.0.1:0", return_path, channels, creds=creds)


def live_by_tls_to_qemu(scratch, version, creds, channels=0):
    live_to_qemu(scratch, version, free_address(), channels, creds=creds)


@test
def qemu_7_2_moves_live_to_vfmig_by_tls(scratch):
    live_by_tls_from_qemu(scratch, V7, by_certificates(scratch), False)


@test
def qemu_7_2_moves_live_to_vfmig_by_tls_and_a_key(scratch):
    live_by_tls_from_qemu(scratch, V7, by_a_key(scratch), False)


@test
def qemu_10_0_moves_live_to_vfmig_by_tls_with_a_return_path(scratch):
    live_by_tls_from_qemu(scratch, V10, by_certificates(scratch), True)


@test
def qemu_10_0_moves_live_to_vfmig_by_tls_and_a_key(scratch):
    live_by_tls_from_qemu(scratch, V10, by_a_key(scratch), False)


@test
def vfmig_moves_live_to_qemu_7_2_by_tls(scratch):
    live_by_tls_to_qemu(scratch, V7, by_certificates(scratch))


@test
def vfmig_moves_live_to_qemu_7_2_by_tls_and_a_key(scratch):
    live_by_tls_to_qemu(scratch, V7, by_a_key(scratch))


@test
def vfmig_moves_live_to_qemu_10_0_by_tls(scratch):
    live_by_tls_to_qemu(scratch, V10, by_certificates(scratch))


@test
def vfmig_moves_live_to_qemu_10_0_by_tls_and_a_key(scratch):
    live_by_tls_to_qemu(scratch, V10, by_a_key(scratch))


@test
def qemu_10_0_moves_live_to_vfmig_by_tls_and_2_channels(scratch):
    live_by_tls_from_qemu(scratch, V10, by_certificates(scratch), True, 2)


@test
def qemu_10_0_moves_live_to_vfmig_by_tls_and_a_key_and_2_channels(scratch):
    live_by_tls_from_qemu(scratch, V10, by_a_key(scratch), False, 2)


@test
def vfmig_moves_live_to_qemu_10_0_by_tls_and_2_channels(scratch):
    live_by_tls_to_qemu(scratch, V10, by_certificates(scratch), 2)


@test
def vfmig_moves_live_to_qemu_10_0_by_tls_and_a_key_and_2_channels(scratch):
    live_by_tls_to_qemu(scratch, V10, by_a_key(scratch), 2)


@test
def qemu_7_2_refuses_a_certificate(scratch):
    """It closes the connection without a word; until it has answered no device is touched."""
    V7.need()
    known, unknown = certificates.Authority(scratch), certificates.Authority(scratch, "another CA").creds("unknown")
    shutil.copy(known.cert, unknown)
    link = free_address()
    with tap.device(scratch, "a", *options(V7, "start"), "--fault", "errno@to-precopy") as a, \
            tap.device(scratch, "b", *options(V7)) as b:
        destination = Qemu(scratch, V7, [b], incoming=True)
        destination.use_tls(known.creds("known"), "server")
        destination.do("migrate-incoming", uri=link)
        result = tap.run_fails("save", a, "-o", link, "--machine", V7.machine, "--id", ID, "--tls-creds", unknown)
        tap.contains(result.err, "it may have refused this side's certificate")
        tap.equal(tap.state_of(a), "running")


def two(version):
    """What two devices are made of, and the ids that a QEMU gives them."""
    version.need()
    return ["sim:%s,seed=%d" % (sim(version), seed) for seed in (1, 2)], \
        ["--id=0000:00:01.0/vfio", "--id=0000:00:02.0/vfio"]


def two_of_qemu_to_vfmig(scratch, version):
    devices, ids = two(version)
    source = Qemu(scratch, version, devices)
    source.do("cont")
    for i in range(2):
        source.work(100 + 50 * i, i)
    source.save(scratch + "/stream")
    steps = [source.read(qemu.STEP, i) for i in range(2)]
    source.quit()
    with tap.device(scratch, "c", *options(version)) as c, tap.device(scratch, "d", *options(version)) as d:
        tap.run_ok("load", c, d, *ids, "-i", "file:%s/stream" % scratch)
        tap.equal([claim(uri)["resumed_step"] for uri in (c, d)], steps)


def two_of_vfmig_to_qemu(scratch, version):
    _, ids = two(version)
    with tap.device(scratch, "a", *options(version, "start", "seed=1")) as a, \
            tap.device(scratch, "b", *options(version, "start", "seed=2")) as b, \
            tap.device(scratch, "c", *options(version)) as c, tap.device(scratch, "d", *options(version)) as d:
        tap.run_ok("save", a, b, *ids, "-o", "file:%s/stream" % scratch, "--machine", version.machine)
        destination = Qemu(scratch, version, [c, d], incoming=True)
        destination.load(scratch + "/stream")
        destination.do("cont")
        destination.quit()
        tap.run_ok("prove", a, c)
        tap.run_ok("prove", b, d)


@test
def qemu_7_2_saves_two_devices_and_vfmig_loads(scratch):
    two_of_qemu_to_vfmig(scratch, V7)


@test
def vfmig_saves_two_devices_and_qemu_7_2_loads(scratch):
    two_of_vfmig_to_qemu(scratch, V7)


@test
def qemu_10_0_saves_two_devices_and_vfmig_loads(scratch):
    two_of_qemu_to_vfmig(scratch, V10)


@test
def vfmig_saves_two_devices_and_qemu_10_0_loads(scratch):
    two_of_vfmig_to_qemu(scratch, V10)


@test
def qemu_10_0_moves_two_devices_live_to_vfmig_by_2_channels(scratch):
    devices, ids = two(V10)
    load_options, device_options = by_channels(2)
    source = Qemu(scratch, V10, devices, options=device_options)
    use(source, 2, "return-path")
    source.do("cont")
    for i in range(2):
        source.work(100 + 50 * i, i)
    with tap.device(scratch, "c", *options(V10)) as c, tap.device(scratch, "d", *options(V10)) as d:
        load = tap.start("load", c, d, *ids, "-i", "unix:%s/link" % scratch, "--json", *load_options)
        source.migration("migrate", uri=tap.read_event(load, event="listening")["link"])
        tap.equal(tap.finish(load).code, 0)
        steps = [source.read(qemu.STEP, i) for i in range(2)]
        tap.equal([claim(uri)["resumed_step"] for uri in (c, d)], steps)
    source.quit()


@test
def qemu_7_2_saves_and_qemu_7_2_loads(scratch):
    qemu_to_qemu(scratch, V7)


@test
def two_devices_in_qemu_7_2(scratch):
    qemu_to_qemu(scratch, V7, count=2)


@test
def qemu_10_0_saves_and_vfmig_loads(scratch):
    qemu_to_vfmig(scratch, V10)


@test
def qemu_10_0_saves_with_dirty_tracking_by_the_container_and_vfmig_loads(scratch):
    qemu_to_vfmig(scratch, V10, options=",x-device-dirty-page-tracking=off")


@test
def vfmig_saves_and_qemu_10_0_loads(scratch):
    vfmig_to_qemu(scratch, V10)


@test
def vfmig_saves_without_pre_copy_and_qemu_10_0_loads(scratch):
    vfmig_to_qemu(scratch, V10, "--no-precopy")


@test
def qemu_10_0_saves_and_qemu_10_0_loads(scratch):
    qemu_to_qemu(scratch, V10)


@test
def qemu_10_0_with_dirty_tracking_by_the_container(scratch):
    qemu_to_qemu(scratch, V10, options=",x-device-dirty-page-tracking=off")


@test
def qemu_11_saves_and_vfmig_loads(scratch):
    qemu_to_vfmig(scratch, V11)


@test
def vfmig_saves_and_qemu_11_loads(scratch):
    vfmig_to_qemu(scratch, V11)


@test
def qemu_11_moves_live_to_vfmig_with_a_return_path(scratch):
    live_from_qemu(scratch, V11, "unix:%s/link" % scratch, True)


@test
def qemu_11_moves_live_to_vfmig_by_2_channels(scratch):
    live_from_qemu(scratch, V11, "unix:%s/link" % scratch, True, 2)


@test
def vfmig_moves_live_to_qemu_11(scratch):
    live_to_qemu(scratch, V11, "unix:%s/link" % scratch)


@test
def vfmig_moves_live_to_qemu_11_by_2_channels(scratch):
    live_to_qemu(scratch, V11, "unix:%s/link" % scratch, 2)


@test
def two_devices_in_qemu_10_0(scratch):
    qemu_to_qemu(scratch, V10, count=2)


tap.main()
