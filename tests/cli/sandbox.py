# SPDX-License-Identifier: BSD-3-Clause
"""sandbox.py: what a load can no longer do once it looks at the stream, and what it can do as an ordinary user."""
import glob
import os
import signal
import socket

from tap import Skip, VFMIG, contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start, test

LIBRARY = os.environ["VFMIG_FORBIDDEN"]
NOBODY = 65534
ORDINARY = 65533
KILLED = -signal.SIGSYS


def saved(scratch):
    run_ok("save", "sim:size=64K", "-o", "file:%s/state" % scratch)
    return "file:%s/state" % scratch


def preloaded(**env):
    return dict(os.environ, LD_PRELOAD=LIBRARY, **env)


def status(pid, task):
    with open("/proc/%d/task/%s/status" % (pid, task), encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


@test
def a_forbidden_call_ends_it(scratch):
    stream = saved(scratch)
    for call in "socket", "execve", "ptrace", "kill", "tgkill", "ioctl", "mprotect", "setuid":
        result = run("load", "sim:size=64K", "-i", stream, env=preloaded(FORBIDDEN=call))
        contains(result.err, "calling %s\n" % call)
        equal((call, result.code), (call, KILLED))
        assert "%s: " % call not in result.err, result.err


@test
def so_does_one_of_a_thread_that_was_there_before(scratch):
    stream = saved(scratch)
    with device(scratch, "a", "--size", "64K") as uri:
        result = run("load", uri, "-i", stream, env=preloaded(FORBIDDEN="socket", FORBIDDEN_IN_THREAD="1"))
        contains(result.err, "calling socket\n")
        equal(result.code, KILLED)


@test
def a_file_is_only_refused(scratch):
    result = run("load", "sim:size=64K", "-i", saved(scratch), env=preloaded(FORBIDDEN="openat"))
    contains(result.err, "openat: EACCES\n")
    equal(result.code, 0)


@test
def without_the_sandbox_nothing_is_forbidden(scratch):
    result = run("load", "sim:size=64K", "-i", saved(scratch), "--no-sandbox", "--json",
                 env=preloaded(FORBIDDEN="socket"))
    contains(result.err, "socket: done\n")
    contains(result.out, "no sandbox: --no-sandbox")
    equal(result.code, 0)


@test
def a_kernel_without_filters_is_an_error(scratch):
    with device(scratch, "a", "--size", "64K", "--start") as uri:
        result = run("load", uri, "-i", saved(scratch), env=preloaded(NO_SECCOMP="1"))
        equal(result.code, 1)
        contains(result.err, "takes no seccomp filter")
        contains(result.err, "--no-sandbox")


@test
def every_thread_is_confined(scratch):
    stream = saved(scratch)
    with device(scratch, "a", "--size", "64K") as uri:
        process = start("load", uri, "-i", stream, "--hold", "--json")
        read_event(process, event="result")
        tasks = [os.path.basename(t) for t in glob.glob("/proc/%d/task/*" % process.pid)]
        assert len(tasks) > 1, tasks
        user = NOBODY if os.getuid() == 0 else os.getuid()
        for task in tasks:
            s = status(process.pid, task)
            equal((s["Seccomp"], s["NoNewPrivs"], int(s["CapPrm"], 16), int(s["CapEff"], 16)), ("2", "1", 0, 0))
            equal(s["Uid"].split(), [str(user)] * 4)
            if os.getuid() == 0:
                equal((s["Gid"].split(), s["Groups"].strip()), ([str(NOBODY)] * 4, ""))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        equal(process.returncode, 0)


@test
def an_ordinary_user_loads_by_what_it_was_handed(scratch):
    """The device's socket, which it may reach, and a listening socket that somebody else has opened."""
    os.chmod(scratch, 0o755)
    with device(scratch, "a", "--size", "4M", "--start") as a, device(scratch, "b", "--size", "4M") as b, \
            socket.socket(socket.AF_UNIX) as listener:
        os.chmod(scratch + "/b.sock", 0o666)
        listener.bind(scratch + "/link")
        listener.listen(1)
        who = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []} if os.getuid() == 0 else {}
        try:
            load = start("load", b, "-i", "fd:%d" % listener.fileno(), pass_fds=[listener.fileno()], **who)
        except PermissionError as e:
            raise Skip("%s is out of an ordinary user's reach" % VFMIG) from e
        run_ok("save", a, "-o", "unix:%s/link" % scratch)
        equal(finish(load).code, 0)
        run_ok("prove", a, b)


@test
def the_socket_s_name_is_removed_by_another(scratch):
    """In a folder that nobody may write to."""
    with device(scratch, "a", "--size", "64K", "--start") as a, device(scratch, "b", "--size", "64K") as b:
        load = start("load", b, "-i", "unix:%s/link" % scratch)
        run_ok("save", a, "-o", "unix:%s/link" % scratch)
        equal(finish(load).code, 0)
        assert not os.path.exists(scratch + "/link")


@test
def an_exec_link_s_command_that_does_not_end_is_killed(scratch):
    pid = scratch + "/pid"
    run_fails("load", "sim:size=64K", "-i", "exec:echo $$ >%s; echo 'this is no stream'; exec sleep 100 >&-" % pid)
    with open(pid, encoding="ascii") as f:
        assert not os.path.exists("/proc/%s" % f.read().strip())


@test
def the_resume_command_is_outside(scratch):
    run_ok("load", "sim:size=64K", "-i", saved(scratch), "--resume-command",
           "id -u >%s/who; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status >>%s/who" % (scratch, scratch))
    with open(scratch + "/who", encoding="ascii") as f:
        equal(f.read().split(), [str(os.getuid()), "NoNewPrivs:", "0", "Seccomp:", "0"])


main()
