#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""v1_module.py: our v1 module: trapped, mapped and mixed data sections, as the module counted them."""
import json

import guest
from tap import contains, equal, main, run_fails, run_ok, test


def data_sizes(stream):
    """The sizes of the DATA packets, as inspect shows them."""
    out = run_ok('inspect', '--json', stream).out
    sizes = []

    def walk(value):
        if isinstance(value, dict):
            if value.get('kind', value.get('flag', value.get('type'))) in ('data', 'DATA', 'DEV_DATA_STATE'):
                sizes.append(value['size'])
            for child in value.values():
                walk(child)
        elif isinstance(value, list):
            for child in value:
                walk(child)

    for line in out.splitlines():
        walk(json.loads(line))
    return [size for size in sizes if size]


def move(scratch, source_kind, destination_kind, *options, **parameters):
    stream = f'{scratch}/stream'
    with guest.V1(source_kind, **parameters) as source, guest.V1(destination_kind, **parameters) as destination:
        source.change(1000)
        content = source.read('content')
        run_ok('save', source.uri, '-o', f'file:{stream}', *options)
        counted, sizes = source.stats(), source.sizes('saved_sizes')
        equal(counted['refused'], 0)
        equal(counted['device_state'], 0)
        equal(sum(sizes), counted['saved_bytes'])
        if source_kind == 'mapped':
            equal(counted['trapped_reads'], 0)
        elif source_kind == 'trapped':
            equal((counted['trapped_reads'], counted['maps']), (counted['saved_bytes'], 0))
        else:
            assert 0 < counted['trapped_reads'] < counted['saved_bytes'], counted
        run_ok('load', destination.uri, '-i', f'file:{stream}', '--discard')
        counted = destination.stats()
        equal(counted['refused'], 0)
        equal(destination.sizes('loaded_sizes'), sizes)
        equal(counted['loaded_digest'], source.stats()['stopped_digest'])
        assert destination.read('content') == content, 'the content differs'
        return sizes


@test
def check_passes(scratch):
    """Its section is reached in every way; what it writes by DMA is its own business."""
    for kind in ['trapped', 'mapped', 'mixed']:
        with guest.V1(kind) as device:
            report = json.loads(run_ok('check', device.uri, '--yes', '--json', '--iterations=3').out)
        equal((kind, report['fail'], report['quirk']), (kind, 0, 0))
        assert report['pass'] > 45, report


@test
def trapped(scratch):
    assert len(move(scratch, 'trapped', 'trapped')) > 8


@test
def mapped(scratch):
    move(scratch, 'mapped', 'mapped')


@test
def mixed(scratch):
    move(scratch, 'mixed', 'mixed')


@test
def mapped_into_mixed(scratch):
    move(scratch, 'mapped', 'mixed')


@test
def without_precopy_data(scratch):
    move(scratch, 'mixed', 'trapped', precopy=0)


@test
def stopped_first(scratch):
    move(scratch, 'mapped', 'trapped', '--no-precopy')


@test
def data_section_that_takes_8_bytes_an_access(scratch):
    """The refusal that finds this out is one that the module counts: so not by move()."""
    with guest.V1(state_kib=128) as source, guest.V1(state_kib=128, access_bytes=8) as destination:
        source.change(100)
        run_ok('save', source.uri, '-o', f'file:{scratch}/stream')
        run_ok('load', destination.uri, '-i', f'file:{scratch}/stream', '--discard')
        equal(destination.stats()['loaded_digest'], source.stats()['stopped_digest'])


@test
def at_work_while_it_is_saved(scratch):
    with guest.V1('mixed', dirty_kib_s=4096) as source, guest.V1('mapped', dirty_kib_s=0) as destination:
        with open('/sys/module/vfmig_v1/parameters/dirty_kib_s', 'w') as f:
            f.write('4096')
        run_ok('save', source.uri, '-o', f'file:{scratch}/stream')
        with open('/sys/module/vfmig_v1/parameters/dirty_kib_s', 'w') as f:
            f.write('0')
        run_ok('load', destination.uri, '-i', f'file:{scratch}/stream', '--discard')
        equal(source.stats()['refused'], 0)
        assert source.stats()['saved_transactions'] > 9, source.stats()
        equal(destination.stats()['loaded_digest'], source.stats()['stopped_digest'])


@test
def device_of_another_size_is_refused(scratch):
    with guest.V1() as source, guest.V1(state_kib=1024) as destination:
        run_ok('save', source.uri, '-o', f'file:{scratch}/stream')
        run_fails('load', destination.uri, '-i', f'file:{scratch}/stream', '--discard')
        equal(destination.stats()['device_state'] & 4, 0)
        contains(destination.read('content')[:4096].hex(), '00' * 4096)


main()
