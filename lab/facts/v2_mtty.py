#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""v2_mtty.py: what the kernel does for a v2 device: arcs and data_fd, ends of data, a load cut short, reset."""
import fcntl
import os
import struct

import vfio
from vfio import fact, said

SOURCE, DESTINATION = '11111111-aaaa-0000-0000-000000000001', '11111111-aaaa-0000-0000-000000000002'

# Linux 6.12's vfio_mig_get_next_state() looks for a way from STOP_COPY back into pre-copy for ever: the system call
# never returns, and the thread cannot be killed. The uAPI forbids these arcs; a program must never ask.
NEVER_COMES_BACK = {('STOP_COPY', 'PRE_COPY'), ('STOP_COPY', 'PRE_COPY_P2P')}


def fd_word(fd):
    return fd if isinstance(fd, str) or fd < 0 else 'an fd'


def every_arc(device):
    """From each state that can be reached to each state that there is."""
    ways = {'RUNNING': [], 'STOP': ['STOP'], 'STOP_COPY': ['STOP_COPY'], 'RUNNING_P2P': ['RUNNING_P2P'],
            'PRE_COPY': ['PRE_COPY'], 'PRE_COPY_P2P': ['PRE_COPY_P2P'], 'RESUMING': ['RESUMING']}
    for start, way in ways.items():
        for end in vfio.STATES:
            if (start, end) in NEVER_COMES_BACK:
                continue
            device.reset()
            fds = [device.set_state(state) for state in way]
            fd = said(device.set_state, end)
            fact(f'mtty: {start} -> {end}: {fd_word(fd)}, then in {device.state()}')
            for opened in [fd, *fds]:
                if isinstance(opened, int) and opened >= 0:
                    os.close(opened)


def save(device):
    device.reset()
    fd = device.set_state('PRE_COPY')
    info = bytearray(struct.pack('IIQQ', 24, 0, 0, 0))
    fcntl.ioctl(fd, vfio.MIG_GET_PRECOPY_INFO, info)
    fact('mtty: precopy info in PRE_COPY: initial_bytes %d, dirty_bytes %d' % struct.unpack('8xQQ', info))
    data = os.read(fd, 4096)
    fact(f'mtty: first read in PRE_COPY: {len(data)} bytes; the next: {said(os.read, fd, 4096)}')
    size = struct.unpack('Q', device.feature(vfio.GET | vfio.MIG_DATA_SIZE, bytes(8)))[0]
    fact(f'mtty: stop_copy_length in PRE_COPY: {size}')
    fact(f'mtty: PRE_COPY -> STOP_COPY: data_fd {device.set_state("STOP_COPY")}: the first one goes on')
    fact(f'mtty: precopy info in STOP_COPY: {said(fcntl.ioctl, fd, vfio.MIG_GET_PRECOPY_INFO, info)}')
    rest = os.read(fd, 4096)
    fact(f'mtty: read in STOP_COPY: {len(rest)} bytes; the next: {len(os.read(fd, 4096))} bytes, the end')
    device.set_state('STOP')
    fact(f'mtty: read after STOP: {said(os.read, fd, 4096)}')
    os.close(fd)
    return data + rest


def load(device, data):
    device.reset()
    fd = device.set_state('RESUMING')
    written = os.write(fd, data)
    result = said(device.set_state, 'STOP')
    fact(f'mtty: RESUMING, {written} bytes, -> STOP: {result}, then in {device.state()}')
    os.close(fd)


def logging(device):
    def feature(flags, data=b''):
        answer = said(device.feature, flags, data)
        return answer if isinstance(answer, str) else 'done'

    start = struct.pack('QIIQ', 4096, 0, 0, 0)
    fact(f'mtty: DMA_LOGGING_START without ranges: {feature(vfio.SET | vfio.LOGGING_START, start)}')
    ranges = bytearray(struct.pack('QQ', 0, 1 << 20))
    start = struct.pack('QIIQ', 4096, 1, 0, vfio.address(ranges))
    fact(f'mtty: DMA_LOGGING_START of 1 MiB: {feature(vfio.SET | vfio.LOGGING_START, start)}')
    fact(f'mtty: a second DMA_LOGGING_START: {feature(vfio.SET | vfio.LOGGING_START, start)}')
    bitmap = bytearray(32)
    report = struct.pack('QQQQ', 0, 1 << 20, 4096, vfio.address(bitmap))
    fact(f'mtty: DMA_LOGGING_REPORT: {feature(vfio.GET | vfio.LOGGING_REPORT, report)}, bits set: '
         f'{sum(bin(byte).count("1") for byte in bitmap)}')
    fact(f'mtty: DMA_LOGGING_STOP: {feature(vfio.SET | vfio.LOGGING_STOP)}')


def main():
    vfio.create('mtty', '1', SOURCE)
    vfio.create('mtty', '1', DESTINATION)
    source, destination = vfio.Device(SOURCE), vfio.Device(DESTINATION)
    flags = struct.unpack('Q', source.feature(vfio.GET | vfio.MIGRATION, bytes(8)))[0]
    fact(f'mtty: migration flags {flags:#x} (1 STOP_COPY, 2 P2P, 4 PRE_COPY)')
    for feature in range(0, 14):
        fact(f'mtty: PROBE of feature {feature}: {said(source.feature, vfio.PROBE | feature) or "supported"}')
    every_arc(source)
    data = save(source)
    load(destination, data[:-1])
    load(destination, data)
    logging(source)
    info = bytearray(struct.pack('IIII', 16, 0, 0, 0))
    fcntl.ioctl(source.fd, vfio.DEVICE_GET_INFO, info)
    fact(f'mtty: device flags {struct.unpack("4xI8x", info)[0]:#x} (1 RESET, 2 PCI); VFIO_DEVICE_RESET: '
         f'{said(source.reset)}')


main()
