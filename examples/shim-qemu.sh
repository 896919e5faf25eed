#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# shim-qemu.sh: QEMU 7.2 saves a software device without VFIO in the kernel; vfmig loads the state elsewhere.
set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# QEMU's standard input is its monitor. -S: no guest is needed to migrate a device.
vfmig shim --device size=1M -- qemu-system-x86_64 -accel tcg -S -display none -nodefaults -machine pc-q35-7.2 -m 64M \
	-device 'vfio-pci,sysfsdev={0},x-enable-migration=on' -monitor stdio >"$dir/monitor" <<MONITOR
migrate exec:cat>$dir/stream
info migrate
quit
MONITOR
vfmig inspect "$dir/stream"
vfmig load sim:size=1M -i "file:$dir/stream" --discard
