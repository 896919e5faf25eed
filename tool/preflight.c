/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * preflight.c: would one device's state load into another.
 *
 * What a load refuses is a no here, by the load's own check where there is one to call. What the two devices'
 * drivers decide between them is a perhaps: the stream carries their data, and nobody else understands it.
 */
#include "preflight.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "migrate/vfio_config.h"
#include "output.h"

#define MIGRATION_TYPE 3u /* linux/vfio.h: VFIO_REGION_TYPE_MIGRATION, its subtype is 1 */

static struct preflight_check *add(struct preflight *p, const char *name, enum preflight_answer answer,
				   const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));

static struct preflight_check *add(struct preflight *p, const char *name, enum preflight_answer answer,
				   const char *remedy, const char *format, ...)
{
	struct preflight_check *c = &p->checks[p->count++];
	va_list ap;
	va_start(ap, format);
	vsnprintf(c->text, sizeof(c->text), format, ap);
	va_end(ap);
	c->name = name;
	c->answer = answer;
	c->remedy = remedy;
	c->of_load = true;
	return c;
}

/* False: one of them has no migration interface, and there is nothing more to compare. */
static bool check_interface(struct preflight *p, const struct probe *s, const struct probe *d)
{
	const struct probe *without = s->why_not[0] ? s : d->why_not[0] ? d : NULL;
	if (without)
		add(p, "interface", PREFLIGHT_NO,
		    without == s
			? "a source that can migrate: 'vfmig devices' lists what this machine has and why"
			: "a destination that can migrate: 'vfmig devices' lists what that machine has and why",
		    "the %s cannot migrate: %s", without == s ? "source" : "destination", without->why_not);
	else if (strcmp(s->interface, d->interface))
		add(p, "interface", PREFLIGHT_PERHAPS, "a destination whose driver is of the source's time, or a trial",
		    "%s in the source, %s in the destination: the stream is the same, but drivers of two times seldom "
		    "understand each other's data",
		    s->interface, d->interface);
	else
		add(p, "interface", PREFLIGHT_YES, NULL, "%s on both sides", s->interface);
	return !without;
}

static void describe(const struct probe *p, char *text, size_t size)
{
	if (p->has_pci)
		snprintf(text, size, "%04x:%04x, subsystem %04x:%04x, revision %02x, class %06x", p->vendor, p->device,
			 p->subsystem_vendor, p->subsystem, p->revision, p->class_code);
	else
		snprintf(text, size, "no PCI function");
}

static void check_identity(struct preflight *p, const struct probe *s, const struct probe *d)
{
	char here[128], there[128];
	describe(s, here, sizeof(here));
	describe(d, there, sizeof(there));
	if (strcmp(here, there))
		add(p, "identity", PREFLIGHT_NO, "a destination of the same model, revision and subsystem",
		    "the source is %s; the destination %s", here, there);
	else
		add(p, "identity", PREFLIGHT_YES, NULL, "%s", here);
}

/* What the load would say of the source's config record, which has only its interrupt state still to come. */
static void check_config(struct preflight *p, const struct probe *s, const struct probe *d)
{
	const struct probe *unread = s->config_error[0] ? s : d->config_error[0] ? d : NULL;
	if (unread) {
		add(p, "config", PREFLIGHT_NO, "vfmig probe, once it can be read", "the %s's cannot be read: %s",
		    unread == s ? "source" : "destination", unread->config_error);
		return;
	}
	struct vfmig_device nobody = { 0 };
	struct config_record record;
	struct vfmig_error err;
	int r = config_record_make(&nobody, &s->config, &record, &err);
	if (r == 0)
		r = config_record_check(&record, &d->config, &err);
	if (r < 0)
		add(p, "config", PREFLIGHT_NO,
		    "the same model with the same firmware and settings (capabilities, MSI-X vectors) as the source",
		    "a load would say: %s", err.message);
	else if (!s->config.size)
		add(p, "config", PREFLIGHT_YES, NULL, "neither has a config space");
	else
		add(p, "config", PREFLIGHT_YES, NULL, "%zu bytes; ids, capabilities and %u MSI-X vectors agree",
		    s->config.size, pci_msix_vectors(s->config.bytes, s->config.size));
}

static uint64_t region_bytes(const struct probe *p, uint32_t index)
{
	return index < p->num_regions ? p->regions[index].info.size : 0;
}

static uint64_t migration_region_bytes(const struct probe *p)
{
	for (uint32_t i = 0; i < p->num_regions; i++)
		if (p->regions[i].info.has_type && p->regions[i].info.type == MIGRATION_TYPE)
			return p->regions[i].info.size;
	return 0;
}

/* A load does not look at it, but a driver that works with the device would find another one. */
static void check_regions(struct preflight *p, const struct probe *s, const struct probe *d)
{
	char here[OUTPUT_NUMBER_MAX], there[OUTPUT_NUMBER_MAX];
	uint32_t i = ACCESS_PCI_BAR0;
	while (i < ACCESS_PCI_CONFIG && region_bytes(s, i) == region_bytes(d, i))
		i++;
	if (i < ACCESS_PCI_CONFIG)
		add(p, "regions", PREFLIGHT_PERHAPS,
		    "a destination with the same BARs (of a virtual function: the same configuration of its physical "
		    "one)",
		    "region %u has %s in the source and %s in the destination: a guest's driver expects what it has "
		    "found",
		    i, output_bytes(region_bytes(s, i), here), output_bytes(region_bytes(d, i), there));
	else
		add(p, "regions", PREFLIGHT_YES, NULL, "the BARs are of the same sizes");
}

static void check_sizes(struct preflight *p, const struct probe *s, const struct probe *d)
{
	char here[OUTPUT_NUMBER_MAX], there[OUTPUT_NUMBER_MAX];
	bool v1 = !strcmp(d->interface, "v1");
	uint64_t most = strcmp(s->interface, "v1") ? PROTOCOL_PIECE_MAX : migration_region_bytes(s);
	if (s->has_state_bytes && d->has_state_bytes && s->state_bytes != d->state_bytes)
		add(p, "sizes", PREFLIGHT_PERHAPS, "the same size of state: the driver's settings, or a trial",
		    "the state has %s in the source and %s in the destination: its driver decides",
		    output_bytes(s->state_bytes, here), output_bytes(d->state_bytes, there));
	else if (v1 && migration_region_bytes(d) < most)
		add(p, "sizes", PREFLIGHT_PERHAPS,
		    "a destination with a data section as large; or load --split-transactions, as QEMU 7.2 does",
		    "the source gives transactions of up to %s, the destination's migration region has %s: one that "
		    "does not fit is refused",
		    output_bytes(most, here), output_bytes(migration_region_bytes(d), there));
	else if (s->has_state_bytes)
		add(p, "sizes", PREFLIGHT_YES, NULL, "the state has %s%s", output_bytes(s->state_bytes, here),
		    d->has_state_bytes ? " on both sides" : "");
	else
		add(p, "sizes", PREFLIGHT_NOTE, NULL, "the source tells the size of its state only while it is saved");
}

static void check_state(struct preflight *p, const struct probe *s, const struct probe *d)
{
	const struct probe *both[] = { s, d };
	for (size_t i = 0; i < 2; i++) {
		const char *state = both[i]->state;
		if (state && strcmp(state, "running") && strcmp(state, "stopped")) {
			add(p, "state", PREFLIGHT_NO,
			    "vfmig recover, which tells what the state means and loses nothing unasked",
			    "the %s is %s, expected running or stopped: another migration of it is under way or was "
			    "left unfinished",
			    i ? "destination" : "source", state);
			return;
		}
	}
	if (!s->state || !d->state)
		add(p, "state", PREFLIGHT_PERHAPS, "vfmig probe, once it answers", "the %s does not tell its state",
		    s->state ? "destination" : "source");
	else
		add(p, "state", PREFLIGHT_YES, NULL, "the source is %s, the destination %s", s->state, d->state);
}

/* participants_check_p2p's rule. */
static void check_p2p(struct preflight *p, const struct probe *s, const struct probe *d, bool together)
{
	const char *without = !strcmp(s->interface, "v2") && !s->has_p2p   ? "source"
			      : !strcmp(d->interface, "v2") && !d->has_p2p ? "destination"
									   : NULL;
	if (without && together)
		add(p, "P2P", PREFLIGHT_NO, "move it alone, in a move of its own",
		    "the %s has no P2P states, so it cannot be moved together with other devices", without);
	else if (without)
		add(p, "P2P", PREFLIGHT_NOTE, NULL,
		    "the %s has no P2P states: it has to be moved alone, not with other devices", without);
	else if (s->has_p2p && d->has_p2p)
		add(p, "P2P", PREFLIGHT_YES, NULL, "both have the P2P states, so several devices can move together");
	else
		add(p, "P2P", PREFLIGHT_YES, NULL, "v1 has no P2P states and asks for none");
}

static void check_dirty(struct preflight *p, const struct probe *s)
{
	struct preflight_check *c =
	    s->logs_itself
		? add(p, "dirty log", PREFLIGHT_YES, NULL, "the source logs which pages it writes")
		: add(p, "dirty log", PREFLIGHT_NOTE, NULL,
		      "the source keeps no log of the pages that it writes; what its memory is mapped through "
		      "may (vfmig dirty tells). Without one all memory is sent while it is stopped");
	c->of_load = false;
}

static void check_downtime(struct preflight *p, const struct probe *s, const struct preflight_options *o)
{
	char size[OUTPUT_NUMBER_MAX], rate[OUTPUT_NUMBER_MAX], most[OUTPUT_NUMBER_MAX], limit[OUTPUT_NUMBER_MAX];
	bool known = o->has_state_bytes || s->has_state_bytes;
	uint64_t bytes = o->has_state_bytes ? o->state_bytes : s->state_bytes;
	struct preflight_check *c;
	if (!o->bandwidth || !known) {
		c = add(p, "downtime", PREFLIGHT_NOTE, NULL, "not foretold: %s%s%s",
			o->bandwidth ? "" : "no --bandwidth is given", o->bandwidth || known ? "" : ", and ",
			known ? "" : "the size of the state is not known (--state-size)");
		c->of_load = false;
		return;
	}
	double ns = (double)bytes / (double)o->bandwidth * (double)NS_PER_S;
	bool fits = ns <= (double)o->downtime_limit_ns;
	output_bytes(bytes, size);
	output_bytes(o->bandwidth, rate);
	output_ns(ns < 1e18 ? (uint64_t)ns : UINT64_C(1000000000000000000), most);
	output_ns(o->downtime_limit_ns, limit);
	if (s->has_precopy)
		c = add(p, "downtime", fits ? PREFLIGHT_YES : PREFLIGHT_PERHAPS,
			fits ? NULL : "a save waits until what is left fits the limit; --precopy-timeout bounds that",
			"at most %s for %s at %s/s, less what is sent before the stop; the limit is %s", most, size,
			rate, limit);
	else
		c = add(p, "downtime", fits ? PREFLIGHT_YES : PREFLIGHT_NO,
			fits ? NULL
			     : "a faster link, or a higher --downtime-limit: nothing can be sent before the stop",
			"%s for %s at %s/s, as the source has no pre-copy; the limit is %s", most, size, rate, limit);
	c->of_load = false;
}

static void check_reset(struct preflight *p, const struct probe *d)
{
	bool can = d->info.flags & ACCESS_DEVICE_RESET;
	struct preflight_check *c =
	    can ? add(p, "taking back", PREFLIGHT_YES, NULL, "the destination can be reset if the load fails")
		: add(p, "taking back", PREFLIGHT_NOTE, NULL,
		      "the destination has no reset: if the load fails it stays stopped with a part of the state");
	c->of_load = false;
}

/* A kernel device lasts as long as somebody has it open. */
static void check_owner(struct preflight *p, const struct probe *s, const struct probe *d)
{
	bool here = device_uri_owns(s->uri), there = device_uri_owns(d->uri);
	if (!here && !there)
		return;
	struct preflight_check *c =
	    add(p, "owner", PREFLIGHT_NOTE, NULL, "%s%s%s",
		here ? "what opens the source itself finds it at work for nobody: its owner hands it to vfmig save by "
		       "fd: or fd-from:"
		     : "",
		here && there ? "; " : "",
		there ? "the destination needs an owner for afterwards: vfmig load --give, --exec or --hold" : "");
	c->of_load = false;
}

void preflight_check(const struct probe *source, const struct probe *destination, const struct preflight_options *opts,
		     struct preflight *ret)
{
	memset(ret, 0, sizeof(*ret));
	bool both = check_interface(ret, source, destination);
	check_identity(ret, source, destination);
	if (!both)
		return;
	check_config(ret, source, destination);
	check_regions(ret, source, destination);
	check_sizes(ret, source, destination);
	check_state(ret, source, destination);
	check_p2p(ret, source, destination, opts->together);
	check_owner(ret, source, destination);
	check_dirty(ret, source);
	check_reset(ret, destination);
	check_downtime(ret, source, opts);
}

enum preflight_answer preflight_answer(const struct preflight *p, bool of_load)
{
	enum preflight_answer worst = PREFLIGHT_YES;
	for (size_t i = 0; i < p->count; i++)
		if ((p->checks[i].of_load || !of_load) && p->checks[i].answer > worst)
			worst = p->checks[i].answer;
	return worst == PREFLIGHT_NOTE ? PREFLIGHT_YES : worst;
}

const char *preflight_answer_name(enum preflight_answer answer)
{
	static const char *const names[] = { "yes", "note", "perhaps", "no" };
	return names[answer];
}
