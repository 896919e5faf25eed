#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iommu.py: two real functions in one group of an emulated IOMMU, and why they do not open or migrate."""
import json
import os
import subprocess

import guest
from tap import Skip, contains, equal, main, run_fails, run_ok, test

PCI = '/sys/bus/pci/devices'
IOMMUFD = os.environ.get('LAB_KERNEL') == 'iommufd'


def functions():
    """The two network functions behind the bridge."""
    found = []
    for name in sorted(os.listdir(PCI)):
        with open(f'{PCI}/{name}/class') as f:
            if f.read().startswith('0x0200'):
                found.append(name)
    assert len(found) == 2, found
    return found


def reason(function):
    """What the list of all devices says of it."""
    devices = json.loads(run_ok('devices', '--json').out)['devices']
    return [device['reason'] for device in devices if device['uri'] == f'pci:{function}']


def put(path, text):
    with open(path, 'w') as f:
        f.write(text)


def bind(function, driver):
    if os.path.exists(f'{PCI}/{function}/driver'):
        put(f'{PCI}/{function}/driver/unbind', function)
    put(f'{PCI}/{function}/driver_override', driver)
    put('/sys/bus/pci/drivers_probe', function)


def bind_both():
    """To vfio-pci, with leave to open them."""
    for function in functions():
        bind(function, 'vfio-pci')
    for module in 'vfio_iommu_type1', 'iommufd':
        parameter = f'/sys/module/{module}/parameters/allow_unsafe_interrupts'
        if os.path.exists(parameter):
            put(parameter, 'Y')


@test
def driver_in_the_way(scratch):
    first, _ = functions()
    bind(first, 'e1000')
    said = run_fails('probe', f'pci:{first}').err
    contains(said, 'e1000')
    contains(said, 'vfio-pci')
    equal(reason(first), ['driver-in-the-way'])


@test
def group_not_viable(scratch):
    first, second = functions()
    bind(first, 'vfio-pci')
    bind(second, 'e1000')
    said = run_fails('probe', f'pci:{first}').err
    contains(said, 'not viable')
    contains(said, f'{second} (e1000)')
    equal(reason(first), ['group-not-viable'])


@test
def container_or_iommufd_that_refuses(scratch):
    """The emulated IOMMU does not remap interrupts, which VFIO takes for unsafe."""
    for function in functions():
        bind(function, 'vfio-pci')
    said = run_fails('probe', f'pci:{functions()[0]}').err
    contains(said, 'iommufd refuses' if IOMMUFD else 'container refuses')
    contains(said, 'allow_unsafe_interrupts')


@test
def no_migration_interface(scratch):
    bind_both()
    contains(run_ok('probe', f'pci:{functions()[0]}').out, 'migration')
    contains(run_fails('save', f'pci:{functions()[0]}', '-o', 'null:').err, 'migration')
    equal(reason(functions()[0]), ['no-migration'])


@test
def written_pages_behind_an_iommu(scratch):
    """Nobody asks this IOMMU what was written, so a container takes all for written, each time; also at the unmap."""
    bind_both()
    with guest.Dirty(f'pci:{functions()[0]}') as client:
        equal(client.fails('start device 4096'), 'ENOTSUP')
        client.map(0, 70)
        client.say('start mappings 4096')
        equal(client.report(0, 70), list(range(70)))
        equal(client.report(guest.PAGE, 5), list(range(5)))
        equal(client.unmap(0, 70), list(range(70)))


@test
def page_table_that_logs_nothing(scratch):
    """It is tried, and the device is attached without it."""
    if not IOMMUFD:
        raise Skip('needs the kernel with iommufd')
    bind_both()
    with guest.Dirty(f'pci:{functions()[0]}', 'cdev') as client:
        client.map(0, 70)
        equal(client.fails('start mappings 4096'), 'ENOTSUP')
        client.map(70 * guest.PAGE, 1)


subprocess.run(['modprobe', '-a', 'e1000', 'vfio-pci'], check=True)
main()
