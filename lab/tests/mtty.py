#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""mtty.py: the kernel's v2 sample device, by group, and by its own file where the kernel has iommufd."""
import json
import os
import socket
import struct
import sys

import guest
from tap import Skip, contains, equal, finish, main, run, run_fails, run_ok, start, test

VALUES = [0xa5, 0x3c]
ACCESS = '--access=' + ('cdev' if os.environ.get('LAB_KERNEL') == 'iommufd' else 'group')


def saved(scratch, *options):
    """A stream of a device whose registers hold VALUES."""
    stream = f'{scratch}/stream'
    with guest.Mtty() as source:
        source.registers(VALUES)
        run_ok('save', ACCESS, source.uri, '-o', f'file:{stream}', *options)
        equal(json.loads(run_ok('probe', ACCESS, '--json', source.uri).out)['migration']['state'], 'stopped')
    return stream


SAVING = {'STOP_COPY', 'PRE_COPY', 'PRE_COPY_P2P'}


def walk(device, start, end, state):
    """One request of the uAPI's, what it says of it: the state then, and whether a data_fd came. None: refused."""
    device.reset()
    first = device.set_state(start)
    if start == 'RESUMING':  # whose way out wants a whole state
        os.write(first, state)
    fd = guest.vfio.said(device.set_state, end)
    for opened in {first, fd} - {-1, 'EINVAL'}:
        os.close(opened)
    return (device.state(), None if fd == 'EINVAL' else fd >= 0)


def whole_state(device):
    fd = device.set_state('STOP_COPY')
    state = os.read(fd, 4096)
    os.close(fd)
    return state


@test
def state_walk_as_the_uapi_says(scratch):
    """All pairs but STOP_COPY to pre-copy: forbidden, and Linux 6.12 never returns from it."""
    with guest.Mtty() as mdev:
        device = guest.vfio.Device(mdev.uuid)
        state = whole_state(device)
        for start in guest.vfio.STATES[1:]:
            for end in guest.vfio.STATES:
                if start == 'STOP_COPY' and end in SAVING - {'STOP_COPY'}:
                    continue
                new_fd = start != end and (end == 'RESUMING' or (end in SAVING and start not in SAVING))
                expected = (start, None) if end == 'ERROR' else (end, new_fd)
                equal((start, end, walk(device, start, end, state)), (start, end, expected))
        device.close()


def loaded_registers(scratch, stream, uri):
    """Of a device that a load has handed to another program."""
    out = f'{scratch}/registers'
    run_ok('load', ACCESS, uri, '-i', f'file:{stream}', f'--exec=python3 {__file__} registers {out}')
    with open(out) as f:
        return json.load(f)


@test
def check_finds_its_quirks_and_nothing_else(scratch):
    """As doc/check.md has it: "check: why" of each that does not pass, for both kernels."""
    with guest.Mtty() as device:
        report = json.loads(run_ok('check', ACCESS, device.uri, '--yes', '--json').out)
    got = {c['name']: c['result'] for c in report['checks'] if c['result'] != 'pass'}
    with open(os.path.join(guest.TOP, 'doc/check.md'), encoding='utf-8') as f:
        rows = [line.strip('|\n ').split(' | ') for line in f.read().split('\n## mtty')[1].splitlines()
                if line.startswith('| ')]
    column = rows[0].index('with iommufd' if os.environ.get('LAB_KERNEL') == 'iommufd' else 'without iommufd')
    equal(got, {row[0]: row[column] for row in rows[2:] if row[column] != 'pass'})


@test
def probe_names_the_device_and_its_interface(scratch):
    with guest.Mtty() as device:
        got = json.loads(run_ok('probe', ACCESS, '--json', device.uri).out)
        equal(got['migration']['interface'], 'v2')
        contains(run_ok('probe', ACCESS, device.uri).out, 'v2')


@test
def save_and_load_with_precopy(scratch):
    with guest.Mtty() as destination:
        equal(loaded_registers(scratch, saved(scratch), destination.uri), VALUES)


@test
def save_and_load_without_precopy(scratch):
    with guest.Mtty() as destination:
        equal(loaded_registers(scratch, saved(scratch, '--no-precopy'), destination.uri), VALUES)


@test
def load_without_an_owner_is_refused(scratch):
    stream = saved(scratch)
    with guest.Mtty() as destination:
        destination.registers([1, 2])
        refused = run('load', ACCESS, destination.uri, '-i', f'file:{stream}')
        equal(refused.code, 2)
        contains(refused.err, '--discard')
        equal(destination.registers(), [1, 2])


@test
def given_away_it_runs_on_in_the_receiver(scratch):
    """As to a VMM, which listens; this process is the receiver."""
    stream = saved(scratch)
    with guest.Mtty() as destination, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f'{scratch}/give')
        listener.listen(1)
        giver = start('load', ACCESS, destination.uri, '-i', f'file:{stream}', f'--give=unix:{scratch}/give')
        with listener.accept()[0] as peer:
            fd = socket.recv_fds(peer, 1, 1)[1][0]
        result = finish(giver)
        equal((result.code, result.err), (0, ''))
        device = guest.vfio.Device(fd=fd)
        equal(device.state(), 'RUNNING')
        equal(guest.scratch_registers(device), VALUES)
        device.close()


@test
def load_of_95_of_96_bytes_is_refused(scratch):
    """The state of a QEMU stream, which nobody has a digest of, cut short inside whole framing."""
    with guest.Mtty() as source, guest.Qemu(scratch, '10.0', [source]) as qemu:
        qemu.save(f'{scratch}/whole')
    with open(f'{scratch}/whole', 'rb') as f:
        whole = f.read()
    data = (0xffffffffef100004).to_bytes(8, 'big')
    at = whole.rindex(data) + 8
    size = int.from_bytes(whole[at:at + 8], 'big')
    equal(size, 72)
    with open(f'{scratch}/cut', 'wb') as f:
        f.write(whole[:at] + (size - 1).to_bytes(8, 'big') + whole[at + 8:at + 8 + size - 1] + whole[at + 8 + size:])
    with guest.Mtty() as destination:
        said = run_fails('load', ACCESS, destination.uri, '-i', f'file:{scratch}/cut', '--discard').err
        contains(said, 'Invalid argument')


@test
def dma_logging_starts_reports_and_stops(scratch):
    """What vfmig will ask of a device; a kernel without iommufd has no iterator for the bitmap."""
    if os.environ.get('LAB_KERNEL') != 'iommufd':
        raise Skip('needs the kernel with iommufd')
    ranges, bitmap = bytearray(struct.pack('QQ', 0, 1 << 20)), bytearray(32)
    with guest.Mtty() as mdev:
        device = guest.vfio.Device(mdev.uuid)
        start = struct.pack('QIIQ', 4096, 1, 0, guest.vfio.address(ranges))
        report = struct.pack('QQQQ', 0, 1 << 20, 4096, guest.vfio.address(bitmap))
        device.feature(guest.vfio.SET | guest.vfio.LOGGING_START, start)
        device.feature(guest.vfio.GET | guest.vfio.LOGGING_REPORT, report)
        device.feature(guest.vfio.SET | guest.vfio.LOGGING_STOP)
        device.close()
    equal(bytes(bitmap), bytes(32))


if sys.argv[1:2] == ['registers']:
    fd = int(os.environ['VFMIG_DEVICE_FD'])
    with open(sys.argv[2], 'w') as result:
        json.dump(guest.scratch_registers(guest.vfio.Device(fd=fd)), result)
else:
    main()
