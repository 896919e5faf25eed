#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""devices.py: what the commands say of all that a real machine has."""
import json
import os

import guest
from tap import contains, equal, main, run_ok, test


def listed(*options):
    return {device['uri']: device for device in json.loads(run_ok('devices', '--json', *options).out)['devices']}


@test
def all_that_the_machine_has_are_listed(scratch):
    with guest.Mtty() as serial, guest.V1() as old:
        found = listed()
        text = run_ok('devices').out
        for mdev, driver in (serial, 'mtty'), (old, 'vfmig_v1'):
            contains(found[mdev.uri]['driver'], driver)
            equal(found[mdev.uri]['migrates'], 'unknown')
            contains(found[mdev.uri]['message'], f'vfmig probe {mdev.uri}')
        functions = [name for name in os.listdir('/sys/bus/pci/devices') if f'pci:{name}' in found]
        assert functions, 'no PCI function is listed'
        for name in functions:
            equal(found[f'pci:{name}']['migrates'], 'no')
            assert found[f'pci:{name}']['reason'] in ('driver-in-the-way', 'no-driver'), found[f'pci:{name}']
        for uri, device in found.items():
            contains(text, uri + '\n')
            for part in device['message'].split('; ', 1):
                contains(text, part)


@test
def opened_they_say_how_they_migrate(scratch):
    with guest.Mtty() as serial, guest.V1() as old, guest.V1(precopy=0) as stopped:
        found = listed('--open')
        text = run_ok('devices', '--open').out
        equal([found[mdev.uri]['migrates'] for mdev in (serial, old, stopped)], ['yes'] * 3)
        equal([found[mdev.uri]['interface'] for mdev in (serial, old)], ['v2', 'v1'])
        equal([found[mdev.uri]['p2p'] for mdev in (serial, old)], [True, False])
        assert found[serial.uri]['precopy']
        contains(text, 'v2')
        contains(text, 'v1')


@test
def probe_of_each_says_what_it_is(scratch):
    with guest.Mtty() as serial, guest.V1('mixed') as old:
        for mdev, interface in (serial, 'v2'), (old, 'v1'):
            found = json.loads(run_ok('probe', '--json', mdev.uri).out)
            equal((found['migration']['possible'], found['migration']['interface']), (True, interface))
            equal(found['migration']['state'], 'running')
            text = run_ok('probe', mdev.uri).out
            contains(text, f'by interface {interface}')
            contains(text, 'running')


@test
def a_device_in_use_names_its_user(scratch):
    with guest.Mtty() as mdev:
        user = guest.vfio.Device(mdev.uuid)
        device = listed('--open')[mdev.uri]
        user.close()
        equal(device['migrates'], 'no')
        contains(device['message'], str(os.getpid()))


main()
