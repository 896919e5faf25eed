# SPDX-License-Identifier: BSD-3-Clause
"""python_binding.py: python/vfmig.py: its structs are the header's, and it probes, saves and loads devices."""
import ctypes
import errno
import logging
import os
import re
import subprocess
import threading

import vfmig
from tap import contains, device, equal, main, run_ok, test

HEADER = os.environ["VFMIG_HEADER"]
STRUCTS = {"error": vfmig._Error, "device_options": vfmig._DeviceOptions, "link_options": vfmig._LinkOptions,
           "save_options": vfmig._SaveOptions, "load_options": vfmig._LoadOptions, "status": vfmig.Status}


@test
def structs_are_those_of_the_header(scratch):
    lines = ["#include <stdio.h>", "#include <vfmig.h>", "int main(void) {"]
    expected = []
    for name, struct in STRUCTS.items():
        lines.append('printf("%%s %%zu\\n", "%s", sizeof(struct vfmig_%s));' % (name, name))
        expected.append("%s %d" % (name, ctypes.sizeof(struct)))
        for field, _ in struct._fields_:
            place = "(struct vfmig_%s *)0)->%s" % (name, field)
            lines.append('printf("%s.%s %%zu %%zu\\n", (size_t)&(%s, sizeof((%s));' % (name, field, place, place))
            expected.append("%s.%s %d %d" % (name, field, getattr(struct, field).offset, getattr(struct, field).size))
    with open(scratch + "/layout.c", "w", encoding="utf-8") as f:
        f.write("\n".join(lines + ["return 0; }\n"]))
    subprocess.run(["cc", "-I", os.path.dirname(HEADER), scratch + "/layout.c", "-o", scratch + "/layout"], check=True)
    equal(subprocess.check_output([scratch + "/layout"], text=True).splitlines(), expected)
    # A field that fits into the padding changes no size.
    text = re.sub(r"/\*.*?\*/", "", open(HEADER, encoding="utf-8").read(), flags=re.S)
    for name, struct in STRUCTS.items():
        body = re.search(r"struct vfmig_%s \{(.*?)\n\};" % name, text, re.S).group(1)
        equal(len(re.findall("[,;]", re.sub(r"\([^()]*\);", ";", body))), len(struct._fields_))


@test
def probe(scratch):
    equal("vfmig " + vfmig.version(), run_ok("--version").out.strip())
    with device(scratch, "a", "--size", "1M", "--start") as uri:
        with vfmig.Device(uri, interface="v1") as a:
            equal((a.name, a.state), (uri, "running"))
        with vfmig.Device(uri) as a:
            equal(a.state, "running")


@test
def a_file_and_back(scratch):
    link, steps = "file:%s/state" % scratch, []
    with device(scratch, "a", "--size", "4M", "--start") as a, device(scratch, "b", "--size", "4M") as b:
        with vfmig.Device(a) as source, vfmig.Device(b) as destination:
            saved = vfmig.save(source, link, steps.append, downtime_limit_ns=50_000_000)
            equal(saved.phase_name, "done")
            assert saved.total_bytes > 4 << 20 and saved.downtime_ns > 0 and len(steps) > 4
            equal(source.state, "stopped")
            loaded = vfmig.load(destination, link, no_start=True)
            equal((loaded.total_bytes, loaded.digest_verified, destination.state), (saved.total_bytes, True, "stopped"))
            vfmig.load({"0000:00:01.0/vfio": destination}, link, require_digest=True)
        run_ok("prove", a, b)


@test
def from_one_to_the_other(scratch):
    with device(scratch, "a", "--size", "1M", "--start") as a, device(scratch, "b", "--size", "1M") as b:
        with vfmig.Device(a) as source, vfmig.Device(b) as destination:
            where, listens, result = [], threading.Event(), []

            def listening(link):
                where.append(link)
                listens.set()
            thread = threading.Thread(target=lambda: result.append(
                vfmig.load(destination, "tcp:127.0.0.1:0", listening=listening)))
            thread.start()
            assert listens.wait(30)
            vfmig.save(source, where[0])
            thread.join()
            equal(result[0].phase_name, "done")
        run_ok("prove", a, b)


@test
def memory_by_dma(scratch):
    with open(scratch + "/memory", "w+b") as f, device(scratch, "a", "--size", "1M", "--log", "0x1000/64") as uri:
        f.truncate(1 << 16)
        with vfmig.Device(uri) as a:
            a.dma_map(0, 1 << 16, f.fileno())
            a.dma_unmap(0, 1 << 16)
            try:
                a.dma_unmap(0, 1 << 16)
                raise AssertionError("unmapped twice")
            except vfmig.Error:
                pass


@test
def errors_say_what_the_library_says(scratch):
    try:
        vfmig.Device("nonsense:")
        raise AssertionError("opened")
    except vfmig.Error as e:
        equal(e.errno, errno.EINVAL)
        contains(e.strerror, "vfio-user:/PATH")
    with device(scratch, "a", "--size", "1M", "--start", "--fault", "errno@to-stopcopy") as uri:
        with vfmig.Device(uri) as a:
            for wrong in [{"no_such_option": 1}, {"no_start": True}]:
                try:
                    vfmig.save(a, "null:", **wrong)
                    raise AssertionError("taken")
                except TypeError as e:
                    contains(str(e), list(wrong)[0])
            try:
                vfmig.save(a, "null:")
                raise AssertionError("saved")
            except vfmig.Error as e:
                contains(e.strerror, uri)
                equal((e.status.phase_name, e.status.source_may_run, a.state), ("failed", True, "running"))


@test
def an_exception_ends_it_as_a_cancel_does(scratch):
    def stop(_):
        raise KeyboardInterrupt
    with device(scratch, "a", "--size", "1M", "--start") as uri, vfmig.Device(uri) as a:
        try:
            vfmig.save(a, "file:%s/state" % scratch, stop)
            raise AssertionError("saved")
        except KeyboardInterrupt:
            pass
        equal((a.state, os.listdir(scratch)), ("running", ["a.sock"]))


@test
def its_log_is_pythons(scratch):
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append((record.levelname, record.getMessage()))
    logger = logging.getLogger("vfmig")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Keep())
    with device(scratch, "a", "--size", "1M") as uri, vfmig.Device(uri) as a:
        vfmig.save(a, "null:")
        assert lines, "nothing was logged"


main()
