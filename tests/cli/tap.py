# SPDX-License-Identifier: BSD-3-Clause
"""tap.py: tests of the command as TAP, and the processes that they start."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

VFMIG = os.environ.get("VFMIG", "build/vfmig")
LIMIT = 60  # seconds for a test, each of which should take a moment: a hang is a failure
_tests = []
_started = []


class Skip(Exception):
    pass


def test(function):
    """Marks a test: a function of a scratch directory."""
    _tests.append(function)
    return function


def _too_long(*_):
    raise AssertionError("nothing happened for %d seconds" % LIMIT)


def _end_processes():
    """Those that a failed test has left behind."""
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait()
    _started.clear()


def main():
    signal.signal(signal.SIGALRM, _too_long)
    only = sys.argv[1:]
    tests = [t for t in _tests if not only or t.__name__ in only]
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for number, function in enumerate(tests, 1):
        scratch = tempfile.mkdtemp(prefix="vfmig-cli-")
        name = "%d - %s" % (number, function.__name__.replace("_", " "))
        signal.alarm(LIMIT)
        try:
            function(scratch)
            print("ok " + name, flush=True)
        except Skip as why:
            print("ok %s # SKIP %s" % (name, why), flush=True)
        except Exception:
            failed += 1
            print("not ok " + name)
            sys.stdout.flush()
            traceback.print_exc()
        finally:
            signal.alarm(0)
            _end_processes()
            shutil.rmtree(scratch)
    sys.exit(1 if failed else 0)


def equal(got, expected):
    assert got == expected, "got %r, expected %r" % (got, expected)


def contains(text, part):
    assert part in text, "expected %r in %r" % (part, text)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json_lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def _signals_as_ever():
    """One that is ignored at the start stays so, and whoever started the tests may have ignored some."""
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGXCPU,
                   signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def start(*args, **kwargs):
    """Starts vfmig; texts, unless text=False."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options.update(kwargs)
    process = subprocess.Popen([VFMIG, *args], preexec_fn=_signals_as_ever, **options)
    _started.append(process)
    return process


def finish(process):
    out, err = process.communicate()
    return Result(process.returncode, out, err)


def run(*args, **kwargs):
    return finish(start(*args, **kwargs))


def run_ok(*args, **kwargs):
    result = run(*args, **kwargs)
    assert result.code == 0, "%r: exit %d: %r" % (args, result.code, result.err)
    return result


def run_fails(*args, **kwargs):
    """Exit 1, and nothing but lines that say what is wrong."""
    result = run(*args, **kwargs)
    assert result.code == 1, "%r: exit %d, expected 1: %r" % (args, result.code, result.err)
    assert result.err.startswith("vfmig %s: " % args[0]), result.err
    return result


@contextlib.contextmanager
def device(scratch, name, *options):
    """A software device in a process of its own; gives its URI."""
    uri = "vfio-user:%s/%s.sock" % (scratch, name)
    process = start("device", uri, *options, stderr=subprocess.DEVNULL)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening"), "device said %r" % line
        yield uri
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def state_of(uri):
    """The state that the device says it is in."""
    return json.loads(run_ok("probe", "--json", uri).out)["migration"]["state"]


def takes_signals(process):
    """Has it come so far that they cancel it or ask it, and no longer end it?"""
    assert process.poll() is None, process.stderr.read()
    with open("/proc/%d/status" % process.pid, encoding="ascii") as f:
        blocked = [line.split()[1] for line in f if line.startswith("SigBlk:")]
    return int(blocked[0], 16) >> (signal.SIGUSR1 - 1) & 1


def read_event(process, **wanted):
    """Reads JSON lines of a process until one has these members."""
    for line in process.stdout:
        event = json.loads(line)
        if all(event.get(k) == v for k, v in wanted.items()):
            return event
    raise AssertionError("it ended without %r: %r" % (wanted, process.stderr.read()))
