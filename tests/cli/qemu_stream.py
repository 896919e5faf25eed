# SPDX-License-Identifier: BSD-3-Clause
"""qemu_stream.py: a stream that QEMU 7.2 wrote, loaded into a device that keeps any bytes."""
import os

from extract_reference import extract
from tap import contains, device, equal, main, run_fails, run_ok, state_of, test

STREAM = os.path.join(os.path.dirname(__file__), "..", "golden", "qemu-7.2-v1.stream")
ID, SECTION, TRANSACTION = "0000:00:01.0/vfio", 0x26, 65536


def opaque(scratch, *options):
    """A device whose config space is the one in the stream."""
    config = scratch + "/config"
    run_ok("inspect", STREAM, "--extract-config", ID, "-o", config)
    return device(scratch, "o", "--opaque", "--config", config, *options)


def expected_data():
    with open(STREAM, "rb") as f:
        return extract(f.read(), SECTION.to_bytes(4, "big"))


def load(scratch, *options, device_options=()):
    """Loads and returns what was loaded, and the transactions' sizes."""
    dump = scratch + "/dump"
    with opaque(scratch, "--dump", dump, *device_options) as uri:
        result = run_ok("load", uri, "-i", "file:" + STREAM, *options)
        equal(state_of(uri), "running")
    with open(dump, "rb") as data, open(dump + ".sizes") as sizes:
        return result, data.read(), [int(line) for line in sizes]


@test
def bytes_and_transactions_arrive(scratch):
    result, data, sizes = load(scratch, "--id", ID)
    expected = expected_data()
    assert data == expected, "%d bytes that differ from the %d expected" % (len(data), len(expected))
    equal(sizes, [TRANSACTION] * (len(expected) // TRANSACTION))
    contains(result.err, "digest")
    contains(result.out, "digests        none in the stream")


@test
def only_device_needs_no_id(scratch):
    equal(load(scratch)[1], expected_data())


@test
def json_result(scratch):
    result = load(scratch, "--json")[0]
    equal(result.json_lines()[-1]["digest_verified"], False)


@test
def digests_can_be_required(scratch):
    with opaque(scratch) as uri:
        contains(run_fails("load", uri, "-i", "file:" + STREAM, "--require-digest").err, "digest")
        equal(state_of(uri), "running")


@test
def another_id_is_not_in_it(scratch):
    with opaque(scratch) as uri:
        contains(run_fails("load", uri, "-i", "file:" + STREAM, "--id", "0000:00:09.0/vfio").err, "0000:00:09.0/vfio")


@test
def another_device_is_refused(scratch):
    with device(scratch, "x", "--opaque", "--config-size", "256") as uri:
        err = run_fails("load", uri, "-i", "file:" + STREAM).err
        contains(err, "vendor")
        contains(err, uri + " is now running")


@test
def transactions_keep_their_size(scratch):
    with opaque(scratch, "--section", "32K") as uri:
        contains(run_fails("load", uri, "-i", "file:" + STREAM).err, "65536")
    data, sizes = load(scratch, "--split-transactions", device_options=["--section", "32K"])[1:]
    equal(data, expected_data())
    assert max(sizes) <= 32768, sizes


main()
