# SPDX-License-Identifier: BSD-3-Clause
"""browser.py: reports as a real Chromium without a network shows them: what is drawn is as long as what is told.

REPORT_SHOTS: a folder to leave the pages and screenshots in, for somebody to look at.
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cli"))
from tap import Skip, contains, device, equal, finish, main, run, run_ok, start, test  # noqa: E402

CHROMIUM = shutil.which("chromium")
WIDTH, HEIGHT = 1080, 1900
# Of what a figure's axes have of the window, and the colours in them: report_draw.h, report_draw.c.
RED, BLUE, ORANGE = (0xc0, 0x39, 0x2b), (0x2f, 0x6f, 0xb3), (0xd9, 0x7b, 0x29)
AXIS = (975 - 190) / 1000


def chromium(scratch, path, *options):
    if not CHROMIUM:
        raise Skip("there is no chromium here (Debian's package of that name)")
    profile = tempfile.mkdtemp(dir=scratch)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
               "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
               "--user-data-dir=" + profile, *options, "file://" + path]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, HOME=scratch), check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def unfilter(raw, width, height, bytes_per_pixel):
    """PNG's rows as they were before each was written as differences to what is left of it and above."""
    rows, above, step = [], bytearray(width * bytes_per_pixel), width * bytes_per_pixel + 1
    for start_of in range(0, height * step, step):
        kind, row = raw[start_of], bytearray(raw[start_of + 1:start_of + step])
        for i in range(len(row) if kind else 0):
            left, corner = (row[i - bytes_per_pixel], above[i - bytes_per_pixel]) if i >= bytes_per_pixel else (0, 0)
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = above[i]
            elif kind == 3:
                guess = (left + above[i]) // 2
            else:
                far = [abs(above[i] - corner), abs(left - corner), abs(left + above[i] - 2 * corner)]
                guess = (left, above[i], corner)[far.index(min(far))]
            row[i] = (row[i] + guess) & 0xff
        rows.append(row)
        above = row
    return rows


class Picture:
    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        equal(data[:8], b"\x89PNG\r\n\x1a\n")
        self.width, self.height, depth, kind = struct.unpack(">IIBB", data[16:26])
        equal(depth, 8)
        self.size = {2: 3, 6: 4}[kind]
        packed, at = b"", 8
        while at < len(data):
            length, = struct.unpack(">I", data[at:at + 4])
            if data[at + 4:at + 8] == b"IDAT":
                packed += data[at + 8:at + 8 + length]
            at += 12 + length
        self.rows = unfilter(zlib.decompress(packed), self.width, self.height, self.size)

    def longest(self, color):
        """How many pixels of this colour stand side by side at most, over all rows."""
        wanted = bytes(color) + (b"\xff" if self.size == 4 else b"")
        most = 0
        for row in self.rows:
            here = 0
            for at in range(0, len(row), self.size) if wanted[:3] in row else ():
                here = here + 1 if row[at:at + self.size] == wanted else 0
                most = max(most, here)
        return most

    def edge_is_white(self, pixels):
        return all(set(row[-pixels * self.size:]) == {0xff} for row in self.rows)


def picture(scratch, name, path, width=WIDTH, height=HEIGHT):
    shots = os.environ.get("REPORT_SHOTS", scratch)
    shot = "%s/%s-%d.png" % (shots, name, width)
    chromium(scratch, path, "--window-size=%d,%d" % (width, height), "--screenshot=" + shot)
    return Picture(shot)


def report_of(scratch, name, events, kind="html"):
    run_file, out = "%s/%s.json" % (scratch, name), "%s/%s.%s" % (os.environ.get("REPORT_SHOTS", scratch), name, kind)
    with open(run_file, "w", encoding="utf-8") as f:
        f.write(events)
    run_ok("report", run_file, "-o", out)
    return os.path.abspath(out)


def about(got, expected, within):
    assert abs(got - expected) <= within, "got %r, expected about %r" % (got, expected)


def moved(scratch):
    """Two devices over a socket; the driver takes 60 ms to leave stop-and-copy, the stop command 40 ms."""
    link = "unix:%s/link" % scratch
    options = ["--interface", "v2", "--size", "8M"]
    ids = ["--id", "0000:00:01.0/vfio", "--id", "0000:00:02.0/vfio"]
    with device(scratch, "a", *options, "--start", "--fault", "slow@to-stop:60") as a, \
            device(scratch, "b", *options, "--start") as b, device(scratch, "c", *options) as c, \
            device(scratch, "d", *options) as d:
        load = start("load", c, d, *ids, "-i", link, "--json")
        save = run_ok("save", a, b, *ids, "-o", link, "--json", "--max-bandwidth", "24M", "--downtime-limit", "100",
                      "--stop-command", "sleep 0.04").out
        return save, finish(load).out


@test
def a_move_as_it_is_drawn(scratch):
    save, load = moved(scratch)
    result = json.loads(save.splitlines()[-1])
    shown = picture(scratch, "save", report_of(scratch, "save", save))
    scale = WIDTH - 40  # the page is that wide, as its style says
    settle = result["downtime_steps"]["settle_ns"] / result["downtime_ns"]
    # Above a quarter of the downtime a step is red, and there is no other red bar of that length.
    about(shown.longest(RED), settle * AXIS * scale, 4)
    stopped = result["downtime_ns"] / result["elapsed_ns"]
    assert shown.longest(BLUE) > (1 - stopped) * AXIS * scale * 0.9, "no bar of pre-copy"
    assert shown.edge_is_white(8)
    picture(scratch, "load", report_of(scratch, "load", load))
    one = picture(scratch, "save-svg", report_of(scratch, "save", save, "svg"))
    about(one.longest(RED), settle * AXIS * 1000, 4)
    # On something narrow all of it is there, smaller.
    narrow = picture(scratch, "save", report_of(scratch, "save", save), width=600)
    about(narrow.longest(RED), settle * AXIS * (600 - 40), 4)
    assert narrow.edge_is_white(8)


@test
def one_that_does_not_converge(scratch):
    events = run("save", "sim:size=16M,start,rate=20000", "-o", "null:", "--json", "--max-bandwidth", "16M",
                 "--precopy-timeout", "1500").out
    shown = picture(scratch, "failed", report_of(scratch, "failed", events))
    assert shown.longest(BLUE) > 0.9 * AXIS * (WIDTH - 40), "no bar of pre-copy"
    equal(shown.longest(ORANGE), 0)


@test
def on_paper(scratch):
    save, _ = moved(scratch)
    pdf = scratch + "/save.pdf"
    chromium(scratch, report_of(scratch, "paper", save), "--no-pdf-header-footer", "--print-to-pdf=" + pdf)
    with open(pdf, "rb") as f:
        pages = len(re.findall(rb"/Type\s*/Page\b", f.read()))
    assert 1 <= pages <= 3, pages


@test
def text_is_only_text(scratch):
    """What Chromium makes of the page has no element of the events' making, and the longest words are broken."""
    save, _ = moved(scratch)
    events = [json.loads(line) for line in save.splitlines()]
    bad = "</title></svg></style><script>document.title='x'</script><img src=http://x/ onerror=alert(1)>" + "y" * 400
    for event in events:
        for one in [event] + event.get("devices", []):
            one.update({key: bad for key in ("uri", "id", "link", "message", "session", "time") if key in one})
    events.insert(1, {"event": "log", "level": "warning", "message": bad})
    path = report_of(scratch, "hostile", "\n".join(json.dumps(e) for e in events))
    page = chromium(scratch, path, "--dump-dom")
    assert not re.search(r"<(script|img)", page), "an element that the page does not have"
    equal(len(re.findall("<svg", page)), 5)
    contains(page, "&lt;script&gt;document.title='x'&lt;/script&gt;")
    assert picture(scratch, "hostile", path).edge_is_white(8)


main()
