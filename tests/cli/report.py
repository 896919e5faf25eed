# SPDX-License-Identifier: BSD-3-Clause
"""report.py: what a report shows is what the run's events say; it fetches nothing, and text in it is only text."""
import html.parser
import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

from tap import VFMIG, contains, equal, finish, main, run, run_fails, run_ok, start, test

SVG = "{http://www.w3.org/2000/svg}"


def report_of(scratch, text, kind="html"):
    run_file, out = scratch + "/run.json", "%s/out.%s" % (scratch, kind)
    with open(run_file, "w", encoding="utf-8", errors="surrogateescape") as f:
        f.write(text)
    result = run_ok("report", run_file, "-o", out)
    equal((result.out, result.err), ("", ""))
    with open(out, encoding="utf-8") as f:
        return f.read()


class Page(html.parser.HTMLParser):
    """Its elements, attributes, text; every element that is opened is closed."""
    EMPTY = ("meta", "link", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.names, self.attributes, self.texts = [], set(), set(), []
        self.feed(text)
        self.close()
        equal(self.open, [])

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        equal(self.open.pop(), tag)

    def handle_data(self, data):
        self.texts.append(data)

    def text(self):
        return " ".join(" ".join(self.texts).split())


ELEMENTS = set("html head meta title style body h1 h2 p div b span ul li svg g text tspan rect line path table tr th "
               "td".split())


def page_of(scratch, text):
    page = report_of(scratch, text)
    parsed = Page(page)
    assert parsed.names <= ELEMENTS, parsed.names - ELEMENTS
    assert not [a for a in parsed.attributes if a.startswith("on") or a in ("src", "href")], parsed.attributes
    assert not re.search(r"url\(|@import|http", page.replace("http-equiv", "")), "something that would be fetched"
    contains(page, "default-src 'none'")
    return parsed.text()


def svg_of(scratch, text):
    return svg_text(report_of(scratch, text, "svg"))


def svg_text(document):
    """All texts of the SVG, which is whole; nothing lies outside of it."""
    root = ElementTree.fromstring(document)
    equal(root.tag, SVG + "svg")
    left, top, width, height = (float(n) for n in root.get("viewBox").split())
    for e in root.iter():
        assert e.tag.removeprefix(SVG) in ELEMENTS, e.tag
        if e.tag in (SVG + "text", SVG + "rect", SVG + "line"):
            x, y = float(e.get("x", e.get("x1"))), float(e.get("y", e.get("y1")))
            assert left <= x <= left + width and top <= y <= top + height, (e.tag, e.attrib)
    return " ".join(" ".join(root.itertext()).split())


def saved(scratch, *options, uri="sim:size=4M,start"):
    return run("save", uri, "-o", "file:%s/state" % scratch, "--json", *options).out


def shown_ns(ns):
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= unit:
            value = ns / unit
            return "%.*f %s" % (2 if value < 10 else 1 if value < 100 else 0, value, name)
    return "%d ns" % ns


def shown_bytes(count):
    return "%.1f MiB" % (count / 1048576) if count >= 1 << 20 else "%.1f KiB" % (count / 1024)


@test
def a_save_and_a_load(scratch):
    save = saved(scratch)
    load = run_ok("load", "sim:size=4M", "-i", "file:%s/state" % scratch, "--json").out
    for events in (save, load):
        result = json.loads(events.splitlines()[-1])
        for text in (page_of(scratch, events), svg_of(scratch, events)):
            contains(text, "The %s was done in %s, the devices were stopped for %s" % (
                result["command"], shown_ns(result["elapsed_ns"]), shown_ns(result["downtime_ns"])))
            for ns in result["downtime_steps"].values():
                contains(text, "%s · %.0f %%" % (shown_ns(ns), 100 * ns / result["downtime_ns"]))
            for name in ("The downtime", "The run", "Rate", "pre-copy", "Most of the downtime went into"):
                contains(text, name)
            contains(text, result["devices"][0]["uri"])


@test
def what_was_compressed(scratch):
    events = saved(scratch, "--compress", "zstd")
    contains(page_of(scratch, events), "all of it on the link, compressed %s" % shown_bytes(
        json.loads(events.splitlines()[-1])["compressed_bytes"]))


@test
def pending_and_what_a_stop_would_have_meant(scratch):
    events = saved(scratch, "--max-bandwidth", "8M", "--downtime-limit", "50")
    for text in (page_of(scratch, events), svg_of(scratch, events)):
        contains(text, "Pending")
        contains(text, "Expected downtime")
        contains(text, "the dashed line is the limit, 50.0 ms")


@test
def the_longest_step_is_named(scratch):
    for fault, step, name in (("slow@to-stop:300", "settle_ns", "settle (out of stop-and-copy)"),
                              ("slow@config-read:300", "state_ns", "state (config space)")):
        events = saved(scratch, uri="sim:size=64K,start,fault=" + fault)
        ns = json.loads(events.splitlines()[-1])["downtime_steps"][step]
        contains(page_of(scratch, events), "Most of the downtime went into %s: %s" % (name, shown_ns(ns)))


@test
def a_failure(scratch):
    events = saved(scratch, uri="sim:size=64K,start,fault=errno@to-stop")
    error = json.loads(events.splitlines()[-1])["error"]
    for text in (page_of(scratch, events), svg_of(scratch, events)):
        contains(text, "The save failed after")
        contains(text.replace(" ", ""), error.replace(" ", ""))
        contains(text, "The devices were put back to what they were before.")


@test
def pre_copy_that_does_not_converge(scratch):
    events = saved(scratch, "--max-bandwidth", "1M", "--precopy-timeout", "200")
    for text in (page_of(scratch, events), svg_of(scratch, events)):
        contains(text, "The save failed after")
        contains(text, "The devices were never stopped; at the end")
        assert "The downtime" not in text, text


@test
def longer_than_the_limit(scratch):
    events = saved(scratch, "--downtime-limit", "1", uri="sim:size=64K,start,fault=slow@to-stop:150")
    contains(page_of(scratch, events), "is longer than the limit of 1.00 ms.")


@test
def several_devices(scratch):
    uris = ["sim:size=64K,start,interface=v2,seed=%d" % i for i in range(1, 9)]
    ids = [word for i in range(8) for word in ("--id", "device-%d/vfio" % i)]
    out = run_ok("save", *uris, *ids, "-o", "null:", "--json").out
    text = page_of(scratch, out)
    for i, uri in enumerate(uris):
        contains(text, "%s device-%d/vfio stopped" % (uri, i))
    contains(svg_of(scratch, out), "%s, device-7/vfio is now stopped" % uris[7])


@test
def a_run_that_was_cut_off(scratch):
    lines = saved(scratch).splitlines(keepends=True)
    short = "".join(lines[:-1])
    contains(page_of(scratch, short), "The file ends before the result:")
    contains(page_of(scratch, short + lines[-1][:40]), "before the result, in the middle of a line:")
    page_of(scratch, "".join(lines[:4]))


@test
def both_sides_of_a_move(scratch):
    """One below the other, in a page and in an SVG that is as high as both."""
    link, names = "unix:%s/link" % scratch, ["%s/%s.json" % (scratch, side) for side in ("save", "load")]
    load = start("load", "sim:size=4M,interface=v2", "-i", link, "--json")
    outs = [run_ok("save", "sim:size=4M,start,interface=v2", "-o", link, "--json").out, finish(load).out]
    for name, out in zip(names, outs):
        with open(name, "w", encoding="utf-8") as f:
            f.write(out)
    for kind, read in (("html", lambda text: Page(text).text()), ("svg", svg_text)):
        run_ok("report", *names, "-o", scratch + "/both." + kind)
        with open(scratch + "/both." + kind, encoding="utf-8") as f:
            text = read(f.read())
        contains(text, "The save was done")
        contains(text.partition("The save was done")[2], "The load was done")
        equal(text.count("Most of the downtime"), 2)
    run_fails("report", names[0], scratch + "/none", "-o", scratch + "/x.html")
    equal(run("report", *names * 5, "-o", scratch + "/x.html").code, 2)


HOSTILE = ("<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'&amp;--></style></svg>]]>", "\x1b[2J\0",
           "\u202egnp.exe", "x" * 5000, "]]>&lt;", "\ufffe\uffff", "%s%n", "\U0001f600" * 300)


@test
def text_is_only_text(scratch):
    events = [json.loads(line) for line in saved(scratch).splitlines()]
    for bad in HOSTILE:
        for event in events:
            for key in ("uri", "id", "link", "time", "message", "error", "session"):
                if key in event or event["event"] in ("result", "begin"):
                    event[key] = bad
            for one in event.get("devices", []):
                one.update(uri=bad, id=bad, state=bad)
        events.insert(1, {"event": "log", "level": "warning", "message": bad})
        text = "\n".join(json.dumps(e) for e in events)
        shown = page_of(scratch, text)
        if bad.isascii() and bad.isprintable():
            contains(shown, " ".join(bad.split()))
        svg_of(scratch, text)


@test
def numbers_are_only_numbers(scratch):
    events = [json.loads(line) for line in saved(scratch).splitlines()]
    for bad in (0, 1, -1, 2**63 - 1, 2**64 - 1, 2**70, 1.5, "1", None, [], {}, 1e400):
        for where in range(len(events)):
            changed = json.loads(json.dumps(events))
            for key, value in changed[where].items():
                if isinstance(value, int):
                    changed[where][key] = bad
            for key in changed[where].get("downtime_steps", {}):
                changed[where]["downtime_steps"][key] = bad
            text = "\n".join(json.dumps(e).replace("Infinity", "1e400") for e in changed)
            assert "nan" not in page_of(scratch, text).lower()
            svg_of(scratch, text)


@test
def many_states_that_took_no_time(scratch):
    """All are not looked at for each: that would take minutes."""
    lines = saved(scratch).splitlines()
    state = next(e for e in map(json.loads, lines) if e["event"] == "state")
    last = json.loads(lines[-1])["elapsed_ns"]
    lines[-1:-1] = [json.dumps(dict(state, state="error", elapsed_ns=last))] * 150000
    page = report_of(scratch, "\n".join(lines))
    contains(page, "The save was done")
    assert "error 0" not in page


@test
def files_that_are_wrong(scratch):
    path = scratch + "/run.json"

    def refused(content, *parts):
        with open(path, "wb") as f:
            f.write(content)
        err = run_fails("report", path, "-o", scratch + "/out.html").err
        contains(err, path)
        for part in parts:
            contains(err, part)
        assert not os.path.exists(scratch + "/out.html")

    state = b'{"event":"state","uri":"%d","state":"running","elapsed_ns":1}\n'
    refused(b"", "no events in it")
    refused(b"hello\n", "line 1: no JSON", "at byte 0")
    refused(b'{"event":"phase","phase":"setup"}\nx\n', "line 2: no JSON")
    refused(b'{"event":"phase","phase":"setup"}\n{"a":1}\n', "line 2: no event, expected what")
    refused(b'{"event":"phase","phase":"setup"}\n\0', "byte 34 is 0")
    refused(b'{"event":"phase","phase":"\xff"}\n', "line 1: no JSON")
    refused(b"[" * 1000 + b"\n", "line 1")
    refused(b"".join(state % i for i in range(65)), "more than 64 devices")
    refused(b" " * ((1 << 20) + 1) + b"\n", "line 1: more than 1048576 bytes")
    contains(run_fails("report", scratch + "/none", "-o", scratch + "/out.html").err, "No such file")


@test
def a_name_is_a_path(scratch):
    """Whatever it begins with: a folder may hold a name that somebody else has chosen."""
    name, vfmig = "exec:id>pwned;.json", os.path.abspath(VFMIG)
    with open(os.path.join(scratch, name), "w", encoding="utf-8") as f:
        f.write(saved(scratch))
    made = subprocess.run([vfmig, "report", name, "-o", "out.html"], cwd=scratch, check=False)
    assert not os.path.exists(scratch + "/pwned")
    equal((made.returncode, os.path.exists(scratch + "/out.html")), (0, True))


@test
def from_and_to_standard_streams(scratch):
    events = saved(scratch)
    with open(scratch + "/in", "w", encoding="utf-8") as f:
        f.write(events)
    with open(scratch + "/in", encoding="utf-8") as f:
        out = run_ok("report", "-", "-o", "-", stdin=f).out
    equal(out, report_of(scratch, events))


@test
def a_long_run_is_not_a_long_report(scratch):
    """100000 looks: the curves have a point for each two pixels."""
    begin = {"event": "begin", "command": "save", "link": "unix:/a", "downtime_limit_ns": 300000000}
    status = {"event": "progress", "phase": "pre-copy", "setup_bytes": 1, "precopy_bytes": 1, "stop_copy_bytes": 0,
              "rounds": 1, "bandwidth_bytes_per_s": 1, "downtime_ns": 0}
    lines = [json.dumps(begin)]
    for i in range(100000):
        lines.append(json.dumps(dict(status, elapsed_ns=i * 250000000, total_bytes=i << 20,
                                     pending_bytes=(100000 - i) << 20, expected_downtime_ns=(100001 - i) << 20)))
    page = report_of(scratch, "\n".join(lines))
    assert len(page) < 100000, len(page)
    contains(Page(page).text(), "1.0 MiB/s")


main()
