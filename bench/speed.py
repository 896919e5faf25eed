#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""speed.py: how fast vfmig saves and loads, beside real QEMUs and the bare system calls, by turns; see doc/speed.md."""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
os.environ.setdefault("VFMIG", os.path.join(TOP, "build", "vfmig"))
sys.path.insert(0, os.path.join(TOP, "tests", "shim"))
import qemu  # noqa: E402
import speed_profile  # noqa: E402
import tap  # noqa: E402  (qemu knows the way to it)

BENCH = os.path.join(os.path.dirname(tap.VFMIG), "bench")
ID = "0000:00:01.0/vfio"
GIB = 1 << 30
UNMAPPED_SHARE = 32  # a QEMU takes minutes for a GiB that is not mapped
SAVER_CPU, PEER_CPU = 0, 1
OFF = ["--no-digest"]


@contextlib.contextmanager
def on(cpu):
    """What is started here runs there."""
    before = os.sched_getaffinity(0)
    if ARGS.pin == "both" or (ARGS.pin == "peer" and cpu == PEER_CPU):
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def started(cpu, *command):
    with on(cpu):
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def listening(process):
    assert process.stdout.readline().startswith("listening"), "it does not listen"
    return process


def ended(process):
    out = process.communicate(timeout=900)[0]
    assert process.returncode == 0, "%r ended with %d" % (process.args, process.returncode)
    return out


def device(row, size):
    return "still=syscall,check=%s,size=%d,section=%d,%s" % (ARGS.check, size, ARGS.section, row["device"])


class Vfmig:
    name = "vfmig"

    def __init__(self, options=()):
        self.options = list(options)

    def run_shim(self, row, size, *command, **kwargs):
        with on(SAVER_CPU):
            return tap.start("shim", "-d", device(row, size), "--", tap.VFMIG, *command, **kwargs)

    def save(self, row, size, path, peer):
        more = ["--multifd", str(row["channels"])] if row.get("channels") else []
        result = tap.finish(self.run_shim(row, size, "save", "sysfs:{0}", "-o", "unix:" + path, "--no-return-path",
                                          "--json", *more, *self.options))
        assert result.code == 0, result.err
        said = json.loads(result.out.splitlines()[-1])
        return ended(peer), said["downtime_ns"] / 1e6

    def load(self, row, size, path, feed):
        process = self.run_shim(row, size, "load", "sysfs:{0}", "-i", "unix:" + path, "--discard", "--json")
        tap.read_event(process, event="listening")
        out = feed()
        result = tap.finish(process)
        assert result.code == 0, result.err
        return out, None


class Qemu:
    def __init__(self, name, version, preload=None):
        self.name, self.version, self.preload = name, version, preload

    def started(self, scratch, row, size, **kwargs):
        if self.preload:
            os.environ["LD_PRELOAD"] = self.preload
        try:
            with on(SAVER_CPU):
                q = qemu.Qemu(scratch, self.version, ["sim:" + device(row, size)], more=["-m", "4M"],
                              options=",x-migration-multifd-transfer=on" if row.get("channels") else "", **kwargs)
        finally:
            os.environ.pop("LD_PRELOAD", None)
        parameters = {"max-bandwidth": 1 << 40, "downtime-limit": 2000000}
        if row.get("channels"):
            q.do("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            parameters["multifd-channels"] = row["channels"]
        q.do("migrate-set-parameters", **parameters)
        return q

    def save(self, row, size, path, peer):
        with tempfile.TemporaryDirectory() as scratch:
            q = self.started(scratch, row, size)
            q.do("cont")
            q.do("migrate", uri="unix:" + path)
            out = ended(peer)  # not asked meanwhile: its main loop shares the CPU
            said = q.migrated()["downtime"]
            q.quit()
            return out, said

    def load(self, row, size, path, feed):
        with tempfile.TemporaryDirectory() as scratch:
            q = self.started(scratch, row, size, incoming=True)
            q.do("migrate-incoming", uri="unix:" + path)
            out = feed()
            q.migrated()
            q.quit()
            return out, None


class Limit:
    def __init__(self, name, mode):
        self.name, self.mode = name, mode

    def start(self, size, path):
        return started(SAVER_CPU, BENCH + "/speed_limits", self.mode, path, str(size), str(ARGS.section))

    def save(self, _, size, path, peer):
        ended(self.start(size, path))
        return ended(peer), None

    def load(self, _, size, path, feed):
        process = listening(self.start(size, path))
        out = feed()
        ended(process)
        return out, None


Q7, Q10 = Qemu("QEMU 7.2", qemu.V7), Qemu("QEMU 10.0", qemu.V10)
ALIGNED = Qemu("QEMU 10.0, aligned", qemu.V10, BENCH + "/speed_align.so")
V1, V1_TRAPPED, V2 = "interface=v1", "interface=v1,map=trapped", "interface=v2"
ROWS = {
    "save-v1-mapped": {"device": V1, "who": [Vfmig(OFF), Q7, Limit("limit", "write")]},
    "save-v1-trapped": {"device": V1_TRAPPED, "who": [Vfmig(OFF), Q7, Limit("limit", "pread")], "slow": ["QEMU 7.2"]},
    "save-v2": {"device": V2, "who": [Vfmig(OFF), Q10, ALIGNED, Limit("limit", "pread")]},
    "load-v1-mapped": {"device": V1, "who": [Vfmig(), Q7, Limit("limit", "into")], "machine": "pc-q35-7.2"},
    "load-v2": {"device": V2, "who": [Vfmig(), Q10, Limit("limit", "pwrite")], "machine": "pc-q35-10.0"},
    "save-v2-2-connections": {"device": V2, "who": [Vfmig(OFF), Q10], "channels": 2},
    "downtime-v2-64M": {"device": V2, "who": [Vfmig(OFF), Q10, Limit("limit", "pread")], "size": 64 << 20},
    "save-v1-mapped-digest": {"device": V1, "who": [Vfmig(), Q7, Vfmig(OFF)]},
}
ROWS["save-v1-mapped-digest"]["who"][2].name = "vfmig, no digest"


def record(row, size, scratch):
    """The stream that all loads of a row read: vfmig's, in the machine's memory."""
    path = scratch + "/stream"
    tap.run_ok("save", "sim:" + device(row, size), "-o", "file:" + path, "--machine", row["machine"], "--id", ID,
               *OFF)
    return path


def measure(row, who, size, stream):
    """One run: milliseconds, CPU s/GiB of who saves or loads and of the other end."""
    with tempfile.TemporaryDirectory() as scratch:
        path = scratch + "/link"
        if stream:
            out, said = who.load(row, size, path, lambda: ended(
                started(PEER_CPU, BENCH + "/speed_peer", "feed", path, stream if not isinstance(who, Limit) else
                        stream + ".raw")))
        else:
            peer = listening(started(PEER_CPU, BENCH + "/speed_peer", "drain", path,
                                     str(row.get("channels", 0) + 1)))
            out, said = who.save(row, size, path, peer)
    got = json.loads(out)
    ns = got["last_ns"] - got["first_ns"]
    seconds, gib = ns / 1e9, size / GIB
    return {"pid": got["peer_pid"], "first_ns": got["first_ns"], "last_ns": got["last_ns"],
            "arrived": got["bytes"], "ms": ns / 1e6, "gib_s": gib / seconds, "said_downtime_ms": said,
            "cpu_s_gib": got["peer_cpu_ns"] / 1e9 / gib, "peer_cpu_s_gib": got["own_cpu_ns"] / 1e9 / gib}


def measured(row, who, size, stream, lost):
    """The first run in which all arrived: a QEMU with multifd and no return path now and then loses the end."""
    while True:
        got = measure(row, who, size, stream)
        if got["arrived"] >= size:
            return got
        lost.append({"who": who.name, "missing": size - got["arrived"]})
        assert isinstance(who, Qemu) and len(lost) < 20, "%s: bytes are missing: %r" % (who.name, lost)


def summary(runs):
    result = {}
    for key in ("ms", "gib_s", "cpu_s_gib", "peer_cpu_s_gib", "said_downtime_ms"):
        values = [r[key] for r in runs if r[key] is not None]
        if values:
            result[key] = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return result


@contextlib.contextmanager
def streams(row, size):
    """What the loads of a row read, and beside it (.raw) what the limit reads; None: it saves."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        stream = record(row, size, scratch) if "machine" in row else None
        if stream:
            with open(stream + ".raw", "wb") as f:
                f.truncate(size)
                for at in range(0, size, 1 << 20):
                    f.write(b"\x5a" * (1 << 20))
        yield stream


def those_asked_for(row, size):
    """Who, and the size of its state."""
    for who in row["who"]:
        if not ARGS.who or who.name in ["vfmig", *ARGS.who]:
            yield who, size // UNMAPPED_SHARE if who.name in row.get("slow", []) else size


def run_row(name):
    row = ROWS[name]
    size = min(ARGS.size, row.get("size", ARGS.size))
    runs, lost = {}, []
    with streams(row, size) as stream:
        for _ in range(ARGS.rounds):
            for who, its in those_asked_for(row, size):
                runs.setdefault(who.name, []).append(measured(row, who, its, stream, lost))
    result = {"bytes": size, "runs": runs, "lost": lost, "summary": {who: summary(r) for who, r in runs.items()}}
    print_row(name, result)
    return result


def profile_row(name):
    """CPU s/GiB by what they went into: medians of each kind."""
    row = ROWS[name]
    size = min(ARGS.size, row.get("size", ARGS.size))
    splits = {}
    with streams(row, size) as stream:
        for _ in range(ARGS.rounds):
            for who, its in those_asked_for(row, size):
                one = speed_profile.profiled(lambda w=who, i=its: measure(row, w, i, stream))
                splits.setdefault(who.name, []).append({**one, "all": sum(one.values())})
    kinds = {kind for split in splits.values() for one in split for kind in one}
    table_of = {kind: [statistics.median(one.get(kind, 0) for one in split) for split in splits.values()]
                for kind in kinds}
    print("%s: CPU s/GiB\n  %-30s%s" % (name, "", "".join("%20s" % who for who in splits)))
    for kind in sorted(kinds, key=lambda k: (k == "all", -max(table_of[k]))):
        print("  %-30s%s" % (kind, "".join("%20.3f" % n for n in table_of[kind])))
    sys.stdout.flush()


def print_row(name, result):
    ours = result["summary"]["vfmig"]
    print("%s, %d MiB" % (name, result["bytes"] >> 20))
    for who, s in result["summary"].items():
        speed, cpu = s["gib_s"], s["cpu_s_gib"]["median"]
        line = "  %-20s %7.2f GiB/s (%.2f to %.2f)" % (who, speed["median"], speed["least"], speed["most"])
        line += "  %7.3f CPU s/GiB (other end %.3f)" % (cpu, s["peer_cpu_s_gib"]["median"])
        line += "  vfmig: %7.2fx, CPU %.2fx" % (ours["gib_s"]["median"] / speed["median"],
                                                ours["cpu_s_gib"]["median"] / max(cpu, 1e-9))
        if "said_downtime_ms" in s:
            line += "  downtime said %.1f ms" % s["said_downtime_ms"]["median"]
        print(line)
    sys.stdout.flush()


def table(results, path):
    """Medians of this run; doc/speed.md has several runs in one."""
    lines = ["| work | who | GiB/s (least to most) | CPU s/GiB | vfmig's throughput / CPU against it |",
             "| --- | --- | --- | --- | --- |"]
    for row, r in results.items():
        ours = r["summary"]["vfmig"]
        for who, s in r["summary"].items():
            g, cpu = s["gib_s"], s["cpu_s_gib"]["median"]
            ratio = "" if who == "vfmig" else "%.2fx / %.2fx" % (
                ours["gib_s"]["median"] / g["median"], ours["cpu_s_gib"]["median"] / max(cpu, 1e-9))
            lines.append("| %s | %s | %.2f (%.2f to %.2f) | %.3f | %s |" % (row, who, g["median"], g["least"],
                                                                           g["most"], cpu, ratio))
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([*lines, ""]))


def plot(results, path):
    """A bar for each median, a line from the least to the most."""
    bars = [(row, who, s["gib_s"]) for row, r in results.items() for who, s in r["summary"].items()]
    most = max(g["most"] for _, _, g in bars)
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" width="820" height="%d" font-family="sans-serif" font-size="12">'
             % (22 * len(bars) + 50), '<rect width="100%" height="100%" fill="white"/>',
             '<text x="10" y="18">GiB/s: median, least to most</text>']
    for i, (row, who, g) in enumerate(bars):
        y, scale = 30 + 22 * i, 400 / most
        colour = "#2b6cb0" if who == "vfmig" else "#a0aec0"
        lines.append('<text x="10" y="%d">%s: %s</text>' % (y + 13, row, who))
        lines.append('<rect x="320" y="%d" width="%.1f" height="16" fill="%s"/>' % (y, g["median"] * scale, colour))
        lines.append('<path d="M%.1f %dH%.1f" stroke="black"/>' % (320 + g["least"] * scale, y + 8,
                                                                  320 + g["most"] * scale))
        lines.append('<text x="%.1f" y="%d">%.2f</text>' % (330 + g["most"] * scale, y + 13, g["median"]))
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([*lines, "</svg>", ""]))


def size_of(text):
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1], 0)
    return int(text[:-1] if shift else text) << shift


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--row", action="append", choices=list(ROWS), help="only this one; may be repeated")
    p.add_argument("--who", action="append", choices=sorted({who.name for row in ROWS.values() for who in row["who"]}),
                   help="beside vfmig only this one; may be repeated")
    p.add_argument("--profile", action="store_true", help="only the CPU time, by what it goes into (perf, root)")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--size", type=size_of, default=GIB, help="of the state (1G)")
    p.add_argument("--section", type=size_of, default=16 << 20, help="data section, of whole MiB (16M)")
    p.add_argument("--check", choices=["all", "spot"], default="spot", help="what a loading device looks at")
    p.add_argument("--pin", choices=["none", "peer", "both"], default="none",
                   help="the other end to CPU 1 (peer), and who saves or loads to CPU 0 (both)")
    p.add_argument("--output", default=os.path.join(os.path.dirname(tap.VFMIG), "bench", "speed"),
                   help="writes OUTPUT.json, OUTPUT.svg and OUTPUT.md")
    return p.parse_args()


def main():
    results, failed = {}, []
    for name in ARGS.row or ROWS:
        try:
            if ARGS.profile:
                profile_row(name)
            else:
                results[name] = run_row(name)
        except (AssertionError, tap.Skip, OSError, subprocess.SubprocessError) as why:
            print("%s: %s" % (name, why), flush=True)
            failed.append(name)
    if results:
        with open(ARGS.output + ".json", "w", encoding="utf-8") as f:
            json.dump({"rounds": ARGS.rounds, "section": ARGS.section, "pin": ARGS.pin, "rows": results}, f, indent=1)
        plot(results, ARGS.output + ".svg")
        table(results, ARGS.output + ".md")
    sys.exit(1 if failed else 0)


ARGS = arguments()
main()
