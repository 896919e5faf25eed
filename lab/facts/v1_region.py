#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""v1_region.py: a v1 device by group: its region's capabilities, one save, dirty pages of the type1 container."""
import ctypes
import fcntl
import mmap
import os
import struct

import vfio
from vfio import fact, said

UUID = '22222222-aaaa-0000-0000-00000000000'
PAGES, IOVA = 64, 0x100000
DIRTY_START, DIRTY_STOP, DIRTY_GET = 1, 2, 4


def region(device, kind):
    plain = device.region_info(9, 32)
    fact(f'{kind}: region 9 asked with argsz 32: argsz {struct.unpack_from("I", plain)[0]} needed, '
         f'cap_offset {struct.unpack_from("I", plain, 12)[0]}')
    flags, _, _, size, offset = struct.unpack_from('=IIIQQ', device.region_info(9), 4)
    fact(f'{kind}: region 9: flags {flags:#x}, size {size}, offset {offset:#x}')
    for ident, version, body in device.region_capabilities(9):
        if ident == 2:
            fact(f'{kind}: type capability {ident} version {version}: type, subtype %d, %d'
                 % struct.unpack_from('II', body))
        else:
            areas = [struct.unpack_from('QQ', body, 8 + 16 * i) for i in range(struct.unpack_from('I', body)[0])]
            fact(f'{kind}: sparse-mmap capability {ident} version {version}: areas (offset, size) {areas}')
    return offset


def save(device, kind, offset):
    def read(at, width):
        return int.from_bytes(os.pread(device.fd, width, offset + at), 'little')

    def set_state(bits):
        os.pwrite(device.fd, struct.pack('I', bits), offset)
        return read(0, 4)

    fact(f'{kind}: data_offset in RUNNING: {said(read, 16, 8)}; device_state read with 8 bytes: {said(read, 0, 8)}')
    fact(f'{kind}: device_state 101 written: {said(set_state, 5)}, then {read(0, 4):03b}')
    set_state(3)
    fact(f'{kind}: pre-copy: pending {read(8, 8)}, data_offset {read(16, 8)}, again {read(16, 8)}, '
         f'data_size {read(24, 8)}, pending after it {read(8, 8)}')
    set_state(2)
    count = 0
    while read(8, 8):
        read(16, 8), read(24, 8)
        count += 1
    fact(f'{kind}: stop-and-copy: {count} more transactions until pending is 0')
    fact(f'{kind}: from stop-and-copy to resuming: {said(set_state, 4)}, then {read(0, 4):03b}')


def dirty_pages(device, kind):
    """What the container calls dirty of what the device wrote."""
    for ident, version, body in device.iommu_capabilities():
        if ident == 1:
            fact(f'{kind}: type1 iova ranges, version {version}')
        elif ident == 2:
            fact(f'{kind}: type1 migration capability {ident} version {version}: flags, pgsize_bitmap, '
                 'max_dirty_bitmap_size %#x, %#x, %#x' % struct.unpack_from('I4xQQ', body))
        else:
            fact(f'{kind}: type1 capability {ident} version {version}')
    memory = mmap.mmap(-1, PAGES * 4096)
    where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(device.container, vfio.IOMMU_MAP_DMA, struct.pack('IIQQQ', 32, 3, where, IOVA, PAGES * 4096))

    def dirty(flags, iova=0, size=0):
        bitmap = bytearray(8)
        b = bytearray(struct.pack('IIQQQQQ', 48 if flags == DIRTY_GET else 8, flags, iova, size, 4096, 8,
                                  vfio.address(bitmap)))
        fcntl.ioctl(device.container, vfio.IOMMU_DIRTY_PAGES, b)
        return bitmap[::-1].hex()

    fact(f'{kind}: type1 dirty bitmap before start: {said(dirty, DIRTY_GET, IOVA, PAGES * 4096)}')
    dirty(DIRTY_START)
    fact(f'{kind}: at start: {dirty(DIRTY_GET, IOVA, PAGES * 4096)}')
    os.pwrite(device.fd, struct.pack('Q', IOVA + 8 * 4096), 8)
    os.pwrite(device.fd, struct.pack('Q', 5), 0x10)
    fact(f'{kind}: after 5 pages written by vfio_dma_rw from page 8: {dirty(DIRTY_GET, IOVA, PAGES * 4096)}')
    fact(f'{kind}: asked again: {dirty(DIRTY_GET, IOVA, PAGES * 4096)}')
    fact(f'{kind}: asked for a part of the mapping: {said(dirty, DIRTY_GET, IOVA, PAGES // 2 * 4096)}')
    dirty(DIRTY_STOP)
    words = [struct.unpack_from('Q', memory, page * 4096)[0] for page in range(16)]
    fact(f'{kind}: first words of the first 16 pages: {words}')


def main():
    for number, kind in enumerate(('trapped', 'mapped', 'mixed')):
        vfio.create('vfmig_v1', kind, UUID + str(number))
        device = vfio.Device(UUID + str(number))
        offset = region(device, kind)
        save(device, kind, offset)
        device.reset()
        if kind == 'trapped':
            dirty_pages(device, kind)
        device.close()


main()
