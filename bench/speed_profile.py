# SPDX-License-Identifier: BSD-3-Clause
"""speed_profile.py: where the CPU time of a run goes, by perf(1), for bench/speed.py --profile."""
import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HZ = 5000
# The first whose two patterns are both found: one of the innermost function, one of the whole stack.
KINDS = [
    ("copy out of the device", r"^_copy_to_iter", r"\n(shmem_file_read_iter|generic_file_read_iter)"),
    ("copy into the device", r"^_copy_from_iter|^copy_page_from_iter_atomic", r"\ngeneric_perform_write"),
    ("rest of reading or writing it", r"", r"\n(__x64_sys_pread64|__x64_sys_pwrite64|shmem_file_read_iter|"
                                          r"generic_perform_write|shmem_file_write_iter|generic_file_read_iter)"),
    ("waking somebody", r"", r"\n(try_to_wake_up|sock_def_readable|unix_write_space|futex_wake|wake_up_q|__wake_up.*)"),
    ("copy into the socket", r"^_copy_from_iter|^copy_page_from_iter", r"\nunix_stream_sendmsg"),
    ("copy out of the socket", r"^_copy_to_iter", r"\nunix_stream_read"),
    ("rest of the socket", r"", r"\n(unix_stream_sendmsg|unix_stream_read|unix_poll|skb_|sock_)"),
    ("page faults", r"", r"\n(asm_exc_page_fault|exc_page_fault)"),
    ("waiting and yielding", r"", r"\n(schedule|__schedule|do_sys_poll|do_futex|__x64_sys_sched_yield|exit_to_user.*)"),
    ("copy in user space", r"mem(move|cpy|pcpy)", r""),
    ("digest", r"XXH", r""),
]


@contextlib.contextmanager
def recorded(path):
    """Everything that runs on the machine, into that file."""
    if not shutil.which("perf"):
        sys.exit("--profile needs perf (linux-perf)")
    (control, enable), (said, answer) = os.pipe(), os.pipe()
    perf = subprocess.Popen(["perf", "record", "-q", "-a", "-g", "-k", "mono", "-e", "cpu-clock", "-F", str(HZ),
                             "-D", "-1", "--control", "fd:%d,%d" % (control, answer), "-o", path],
                            stderr=subprocess.DEVNULL, pass_fds=[control, answer])
    os.close(control)
    os.close(answer)
    try:
        os.write(enable, b"enable\n")
        assert os.read(said, 16), "perf does not record"
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait()
        os.close(enable)
        os.close(said)


def kind_of(stack):
    inner, whole = stack[0], "\n" + "\n".join(stack)
    for name, first, any_of in KINDS:
        if re.search(first, inner) and re.search(any_of, whole):
            return name
    return "rest"


def shares(path, got):
    """How much of the CPU time of the process that was measured, meanwhile, is of which kind."""
    script = subprocess.run(["perf", "script", "-i", path, "--ns", "-F", "pid,time,ip,sym"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=True).stdout
    result = collections.Counter()
    for sample in script.split("\n\n"):
        lines = sample.strip("\n").split("\n")
        head = re.match(r"\s*(\d+)\s+(\d+)\.(\d{9}):", lines[0])
        if not head or int(head[1]) != got["pid"] or len(lines) < 2:
            continue
        if got["first_ns"] <= int(head[2] + head[3]) <= got["last_ns"]:
            result[kind_of([(line.split() + ["?", "?"])[1] for line in lines[1:]])] += 1
    assert result, "perf saw nothing of process %d" % got["pid"]
    return {kind: n / result.total() for kind, n in result.items()}


def profiled(run):
    """CPU seconds for each GiB, by kind; run() says who ("pid"), from when to when ("first_ns", "last_ns") and all of
    them ("cpu_s_gib"), of which not all may have been seen."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "perf.data")
        with recorded(path):
            got = run()
        return {kind: share * got["cpu_s_gib"] for kind, share in shares(path, got).items()}
