# SPDX-License-Identifier: BSD-3-Clause
# Makefile: the few commands worth remembering. Meson does the work (HACKING.md).
#   make  make demo  make check  make bench  make install  make uninstall  make clean      PREFIX=/usr DESTDIR=/tmp/x
BUILD ?= build
MESON_OPTIONS ?=

all: configured
	@ninja -C $(BUILD)

configured:
	@test -e $(BUILD)/build.ninja || meson setup $(BUILD) $(MESON_OPTIONS) || \
		{ scripts/install-deps -n build; exit 1; }
ifdef PREFIX
	@meson configure $(BUILD) --prefix=$(PREFIX)
endif

demo:
	@scripts/install-deps build
	@$(MAKE) --no-print-directory all
	@VFMIG=$(abspath $(BUILD))/vfmig scripts/demo

check:
	@scripts/install-deps build test
	@$(MAKE) --no-print-directory configured
	@meson configure $(BUILD) -Dtests=enabled
	@ninja -C $(BUILD)
	@scripts/run-tests $(BUILD)

bench: all
	@bench/devices.py $(BUILD)/vfmig
	@$(BUILD)/bench/dirty_cost
	@VFMIG=$(abspath $(BUILD))/vfmig bench/speed.py
	@VFMIG=$(abspath $(BUILD))/vfmig bench/scale.py
	@$(BUILD)/bench/zero_copy

install: all
	@meson install -C $(BUILD) --no-rebuild

uninstall:
	@ninja -C $(BUILD) uninstall

clean:
	rm -rf $(BUILD) build-check

.PHONY: all configured demo check bench install uninstall clean
