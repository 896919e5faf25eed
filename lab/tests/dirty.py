#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""dirty.py: the logs of written pages that a real kernel keeps, against the pages that were written, exactly.

Our module writes memory through a type1 container, and memory itself shows which pages it changed. mtty logs and never
writes. iommufd's page tables are tried with its mock device.
"""
import errno
import os
import random

import guest
from tap import Skip, equal, main, test

PAGE = guest.PAGE
MOCK_IOVA = 1 << 24  # where the mock's addresses begin
IOMMUFD = os.environ.get('LAB_KERNEL') == 'iommufd'


@test
def container_logs_each_page_and_no_other(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(0, 300)
        equal(client.say('start mappings 4096'), [PAGE])
        client.check(0, 300, [])
        client.write(0)  # the first page
        client.write(300 * PAGE - 1)  # the last
        client.write(64 * PAGE, PAGE)
        client.check(0, 300, [0, 64, 299])
        client.check(0, 300, [])
        client.write(10 * PAGE - 1, 2)  # over the end of a page
        client.write(20 * PAGE + 100, 3 * PAGE)  # over three
        client.check(0, 300, [9, 10, 20, 21, 22, 23])
        client.write(0, 256 * PAGE)
        client.check(0, 300, list(range(256)))
        client.check(0, 300, [])


@test
def container_with_two_mappings(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(16 * PAGE, 16)
        client.map(32 * PAGE, 70)
        client.say('start mappings 4096')
        client.write(32 * PAGE - 1, 2)  # from the one into the other
        client.write(101 * PAGE)
        client.check(16 * PAGE, 16, [15])
        client.check(32 * PAGE, 70, [0, 69])
        client.map(200 * PAGE, 2)  # while it logs
        client.write(201 * PAGE + 5)
        client.check(200 * PAGE, 2, [1])
        equal(client.fails(f'report mappings {16 * PAGE} {32 * PAGE} 4096'), 'EINVAL')


@test
def container_asked_for_parts_of_a_mapping(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(0, 256)
        client.say('start mappings 4096')
        for page in 1, 70, 130, 255:
            client.write(page * PAGE)
        client.check(64 * PAGE, 64, [6])
        client.write(71 * PAGE)
        client.write(2 * PAGE)
        client.check(0, 64, [1, 2])
        client.check(64 * PAGE, 192, [7, 66, 191])
        client.check(0, 256, [])


@test
def container_in_larger_pages(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(0, 256)
        equal(client.say('start mappings 65536'), [65536])
        client.write(17 * PAGE)
        client.write(30 * PAGE)
        client.write(255 * PAGE)
        equal(client.report(0, 256, 65536), [1, 15])
        equal(client.report(0, 256, 65536), [])


@test
def container_tells_at_the_unmap_what_was_written_last(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(0, 100)
        client.map(100 * PAGE, 4)
        client.say('start mappings 4096')
        client.write(5 * PAGE)
        client.write(80 * PAGE)
        client.check(0, 64, [5])  # keeps 80
        client.write(99 * PAGE)
        client.write(6 * PAGE, PAGE + 1)
        equal(client.unmap(0, 100), [6, 7, 80, 99])
        equal(client.unmap(100 * PAGE, 4), [])
        equal(client.fails(f'unmap mappings 0 {100 * PAGE} 4096'), 'ENOENT')
        equal(client.fails('write memory 0 1'), 'EINVAL')
        client.map(0, 100)  # a new one has nothing of the old one
        client.check(0, 5, [])
        equal(client.report(0, 100), [])


@test
def container_stopped_and_started_again(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(0, 8)
        equal(client.fails(f'report mappings 0 {8 * PAGE} 4096'), 'EINVAL')
        client.write(PAGE)
        client.say('start mappings 4096')
        client.write(2 * PAGE)
        equal(client.report(0, 1), [])  # keeps 2
        client.say('stop mappings')
        client.write(3 * PAGE)
        equal(client.fails(f'report mappings 0 {8 * PAGE} 4096'), 'EINVAL')
        client.say('start mappings 4096')
        equal(client.report(0, 8), [])
        client.write(4 * PAGE)
        equal(client.report(0, 8), [4])


@test
def container_and_a_thousand_writes_at_random(scratch):
    choose = random.Random(1)
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        client.map(0, 512)
        client.say('start mappings 4096')
        told = 0
        for _ in range(50):
            for _ in range(20):
                length = choose.choice([1, 2, 8, 100, PAGE, 3 * PAGE + 1])
                client.write(choose.randrange(512 * PAGE - length), length)
            first = choose.randrange(512)
            pages = choose.randint(1, 512 - first)
            changed = client.changed(first * PAGE, pages)
            equal(client.report(first * PAGE, pages), changed)
            told += len(changed)
        assert told > 500, told
        changed = client.changed(0, 512)
        equal(client.unmap(0, 512), changed)


@test
def log_of_a_device(scratch):
    """mtty's, which has nothing to tell; a kernel without iommufd starts it and cannot report."""
    with guest.Mtty() as mdev, guest.Dirty(mdev.uri, 'cdev' if IOMMUFD else 'group') as client:
        if not IOMMUFD:
            equal(client.fails('start device 4096'), 'ENOTSUP')
            return
        for _ in range(2):  # a log that was stopped can be started again
            equal(client.say('start device 4096'), [PAGE])
            equal(client.say(f'report device 0 {1 << 20} 4096'), [])
            equal(client.say(f'report device {PAGE} {PAGE} 4096'), [])
            client.map(0, 16)
            equal(client.say(f'unmap device 0 {16 * PAGE} 4096'), [])
            client.say('stop device')


@test
def device_without_a_log(scratch):
    with guest.V1() as mdev, guest.Dirty(mdev.uri) as client:
        equal(client.fails('start device 4096'), 'ENOTSUP')


@test
def mediated_device_has_no_page_table(scratch):
    needs_iommufd()
    with guest.V1() as mdev, guest.Dirty(mdev.uri, 'cdev') as client:
        client.map(0, 16)
        equal(client.fails('start mappings 4096'), 'ENOTSUP')


def needs_iommufd():
    if not IOMMUFD:
        raise Skip('needs the kernel with iommufd')


def mock_client():
    needs_iommufd()
    return guest.Dirty('mock')


@test
def page_table_logs_each_page_and_no_other(scratch):
    with mock_client() as client:
        client.map(MOCK_IOVA, 300)
        equal(client.say('start mappings 4096'), [PAGE])
        equal(client.report(MOCK_IOVA, 300), [])
        client.write(MOCK_IOVA)
        client.write(MOCK_IOVA + 64 * PAGE + 3000)  # the mock's pages are half of ours
        client.write(MOCK_IOVA + 65 * PAGE, PAGE)
        client.write(MOCK_IOVA + 300 * PAGE - 1)
        equal(client.report(MOCK_IOVA, 300), [0, 64, 65, 299])
        equal(client.report(MOCK_IOVA, 300), [])


@test
def page_table_with_two_mappings_and_parts_of_them(scratch):
    with mock_client() as client:
        client.map(MOCK_IOVA, 128)
        client.say('start mappings 4096')
        other = MOCK_IOVA + 200 * PAGE
        client.map(other, 70)
        client.write(other, 70 * PAGE)
        client.write(MOCK_IOVA + 127 * PAGE)
        client.write(MOCK_IOVA)
        equal(client.report(other + 64 * PAGE, 6), list(range(6)))
        equal(client.report(other, 70), list(range(64)))
        equal(client.report(MOCK_IOVA + PAGE, 127), [126])
        equal(client.report(MOCK_IOVA, 128), [0])
        equal(client.report(other, 70), [])


@test
def page_table_stopped_and_started_again(scratch):
    with mock_client() as client:
        client.map(MOCK_IOVA, 16)
        equal(client.fails(f'write memory {MOCK_IOVA} 1'), 'EINVAL')  # nothing tracks
        client.say('start mappings 4096')
        client.write(MOCK_IOVA + PAGE)
        client.say('stop mappings')
        equal(client.fails(f'report mappings {MOCK_IOVA} {16 * PAGE} 4096'), 'EINVAL')
        client.say('start mappings 4096')
        equal(client.report(MOCK_IOVA, 16), [])


@test
def page_table_tells_all_at_an_unmap(scratch):
    """There is no bitmap with it, and a page written just before must not be lost."""
    with mock_client() as client:
        client.map(MOCK_IOVA, 70)
        client.say('start mappings 4096')
        client.write(MOCK_IOVA + 3 * PAGE)
        equal(client.unmap(MOCK_IOVA, 70), list(range(70)))
        equal(client.fails(f'write memory {MOCK_IOVA} 1'), 'ENOENT')


@test
def large_page_of_a_page_table_is_not_cut(scratch):
    """The kernel clears it whole and tells the part that was asked for: the rest must not be lost."""
    needs_iommufd()
    with guest.Dirty('mock-large-pages') as client:
        large = client.say('large memory')[0]
        client.say(f'map memory {MOCK_IOVA} {256 * PAGE} {large}')
        client.say('start mappings 4096')
        client.write(MOCK_IOVA + 9 * PAGE)
        equal(client.report(MOCK_IOVA, 2), [0, 1])  # it is a large page, and dirty as one
        equal(client.report(MOCK_IOVA + 100 * PAGE, 2), [0, 1])
        equal(client.report(MOCK_IOVA, 256), [n for n in range(2, 256) if n not in (100, 101)])
        equal(client.report(MOCK_IOVA, 256), [])


@test
def iommu_without_a_log(scratch):
    needs_iommufd()
    try:
        guest.Dirty('mock-without-log')
    except guest.Failed as failure:
        equal(failure.args[0], errno.EOPNOTSUPP)
    else:
        raise AssertionError('a page table that logs was made where none can be')


main()
