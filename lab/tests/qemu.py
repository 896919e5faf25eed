#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""qemu.py: real QEMUs and vfmig load what the other has saved, v1 with 7.2, v2 with 10.0."""
import guest
from tap import equal, main, run_ok, test

IDS = ['--id=0000:00:01.0/vfio', '--id=0000:00:02.0/vfio']


def uris(devices):
    return [device.uri for device in devices], IDS[:len(devices)]


def vfmig_save(path, devices, version, *options):
    names, ids = uris(devices)
    run_ok('save', *names, *ids, '-o', f'file:{path}', '--machine', f'pc-q35-{version}', *options)


def vfmig_load(path, devices):
    names, ids = uris(devices)
    run_ok('load', *names, *ids, '-i', f'file:{path}', '--discard')


def same_content(sources, destinations):
    for source, destination in zip(sources, destinations):
        assert any(source.read('content')), 'the source is empty'
        assert source.read('content') == destination.read('content'), 'the content differs'
        equal(destination.stats()['refused'], 0)


def v1_saved_by_qemu(scratch, sources, destinations):
    with guest.Qemu(scratch, '7.2', sources) as qemu:
        for number, source in enumerate(sources, 1):
            source.change(500 * number)
        qemu.save(f'{scratch}/stream')
    vfmig_load(f'{scratch}/stream', destinations)
    same_content(sources, destinations)


def v1_saved_by_vfmig(scratch, sources, destinations):
    for number, source in enumerate(sources, 1):
        source.change(500 * number)
    vfmig_save(f'{scratch}/stream', sources, '7.2')
    with guest.Qemu(scratch, '7.2', destinations, incoming=True) as qemu:
        qemu.load(f'{scratch}/stream')
        same_content(sources, destinations)


@test
def vfmig_loads_v1_of_qemu_7_2(scratch):
    with guest.V1('trapped') as source, guest.V1('mixed') as destination:
        v1_saved_by_qemu(scratch, [source], [destination])


@test
def vfmig_loads_v1_of_qemu_7_2_from_a_mapped_section(scratch):
    with guest.V1('mixed') as source, guest.V1('mapped') as destination:
        v1_saved_by_qemu(scratch, [source], [destination])


@test
def qemu_7_2_loads_v1_of_vfmig(scratch):
    with guest.V1('mapped') as source, guest.V1('trapped') as destination:
        v1_saved_by_vfmig(scratch, [source], [destination])


@test
def qemu_7_2_loads_v1_of_vfmig_into_a_mapped_section(scratch):
    with guest.V1('trapped') as source, guest.V1('mixed') as destination:
        v1_saved_by_vfmig(scratch, [source], [destination])


@test
def vfmig_loads_two_v1_devices_of_qemu_7_2(scratch):
    with guest.V1('trapped') as a, guest.V1('mapped') as b, guest.V1('mixed') as c, guest.V1('trapped') as d:
        v1_saved_by_qemu(scratch, [a, b], [c, d])


@test
def qemu_7_2_loads_two_v1_devices_of_vfmig(scratch):
    with guest.V1('mapped') as a, guest.V1('mixed') as b, guest.V1('trapped') as c, guest.V1('mapped') as d:
        v1_saved_by_vfmig(scratch, [a, b], [c, d])


def v2_saved_by_qemu(scratch, sources, destinations, running):
    values = [[0x10 + n, 0x80 + n] for n in range(len(sources))]
    for source, value in zip(sources, values):
        source.registers(value)
    with guest.Qemu(scratch, '10.0', sources) as qemu:
        if running:
            qemu.command('cont')
        else:
            qemu.command('cont')
            qemu.command('stop')
        qemu.save(f'{scratch}/stream')
    vfmig_load(f'{scratch}/stream', destinations)
    equal([destination.registers() for destination in destinations], values)


def v2_saved_by_vfmig(scratch, sources, destinations, *options):
    values = [[0x20 + n, 0x90 + n] for n in range(len(sources))]
    for source, value in zip(sources, values):
        source.registers(value)
    vfmig_save(f'{scratch}/stream', sources, '10.0', *options)
    with guest.Qemu(scratch, '10.0', destinations, incoming=True) as qemu:
        qemu.load(f'{scratch}/stream')
    equal([destination.registers() for destination in destinations], values)


@test
def vfmig_loads_v2_of_qemu_10_with_precopy(scratch):
    with guest.Mtty() as source, guest.Mtty() as destination:
        v2_saved_by_qemu(scratch, [source], [destination], True)


@test
def vfmig_loads_v2_of_qemu_10_without_precopy(scratch):
    with guest.Mtty() as source, guest.Mtty() as destination:
        v2_saved_by_qemu(scratch, [source], [destination], False)


@test
def qemu_10_loads_v2_of_vfmig_with_precopy(scratch):
    with guest.Mtty() as source, guest.Mtty() as destination:
        v2_saved_by_vfmig(scratch, [source], [destination])


@test
def qemu_10_loads_v2_of_vfmig_without_precopy(scratch):
    with guest.Mtty() as source, guest.Mtty() as destination:
        v2_saved_by_vfmig(scratch, [source], [destination], '--no-precopy')


@test
def vfmig_loads_two_devices_of_qemu_10(scratch):
    with guest.Mtty() as a, guest.Mtty() as b, guest.Mtty() as c, guest.Mtty() as d:
        v2_saved_by_qemu(scratch, [a, b], [c, d], True)


@test
def qemu_10_loads_two_devices_of_vfmig(scratch):
    with guest.Mtty() as a, guest.Mtty() as b, guest.Mtty() as c, guest.Mtty() as d:
        v2_saved_by_vfmig(scratch, [a, b], [c, d])


main()
