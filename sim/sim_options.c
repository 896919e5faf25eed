/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_options.c: the options of a software device, one table. */
#include "sim/sim_options.h"

#include <stdlib.h>
#include <string.h>

#include "sim/sim_state.h"

#define SECTION_MIN 4096u
#define SECTION_MAX (UINT64_C(1) << 30)

enum option {
	OPTION_INTERFACE,
	OPTION_P2P,
	OPTION_SIZE,
	OPTION_SECTION,
	OPTION_MAP,
	OPTION_RATE,
	OPTION_SEED,
	OPTION_PRECOPY,
	OPTION_INITIAL,
	OPTION_OPAQUE,
	OPTION_STILL,
	OPTION_CHECK,
	OPTION_CONFIG,
	OPTION_CONFIG_SIZE,
	OPTION_ACCESS_WIDTH,
	OPTION_DMA,
	OPTION_LOG,
	OPTION_SCATTER,
	OPTION_DIRTY_LOG,
	OPTION_START,
	OPTION_RESERVED,
	OPTION_DUMP,
	OPTION_FAULT,
	OPTIONS,
};

const struct sim_option sim_option_table[] = {
	[OPTION_INTERFACE] = { "interface", "v1|v2|both", "Migration region (v1, the default) or device features" },
	[OPTION_P2P] = { "p2p", "yes|no", "v2: has the P2P states (default yes)" },
	[OPTION_SIZE] = { "size", "BYTES", "State, a multiple of 1K (default 16M; suffixes K, M, G)" },
	[OPTION_SECTION] = { "section", "BYTES", "Data section, a multiple of 4K from 4K to 1G (default 1M)" },
	[OPTION_MAP] = { "map", "mapped|trapped|mixed", "How the data section is reached (default mapped; "
							"mixed: parts of it, listed out of order)" },
	[OPTION_RATE] = { "rate", "STEPS", "Steps a second, each dirties a page (default 1000; 0: only by hand)" },
	[OPTION_SEED] = { "seed", "NUMBER", "What the initial state follows from (default 1)" },
	[OPTION_PRECOPY] = { "precopy", "yes|no", "Give state while running (default yes)" },
	[OPTION_INITIAL] = { "initial", "BYTES", "v2: how many bytes of pre-copy are the initial ones (default 24)" },
	[OPTION_OPAQUE] = { "opaque", NULL, "Keep whatever bytes are loaded, and give them back" },
	[OPTION_STILL] = { "still", "memcpy|syscall", "Do nothing, store nothing: a state that costs one copy, by "
						      "the device or as the kernel's" },
	[OPTION_CHECK] = { "check", "all|spot", "still: what a load looks at: each byte, or a word of each page" },
	[OPTION_CONFIG] = { "config", "FILE", "Config space: a file of 256 or 4096 raw bytes" },
	[OPTION_CONFIG_SIZE] = { "config-size", "256|4096", "Size of the built-in config space (default 4096)" },
	[OPTION_ACCESS_WIDTH] = { "access-width", "8|4|2|1", "Refuse accesses of the data section that are wider" },
	[OPTION_DMA] = { "dma", "map|message", "DMA through the client's mappings or by messages (default map)" },
	[OPTION_LOG] = { "log", "IOVA/ENTRIES", "Where the engine's log is at first: a ring of 32-byte entries" },
	[OPTION_SCATTER] = { "scatter", NULL, "Each step writes a whole page of 4K instead, in one of ENTRIES slots" },
	[OPTION_DIRTY_LOG] = { "dirty-log", "yes|no", "Knows which pages its DMA has written (default yes)" },
	[OPTION_START] = { "start", NULL, "The engine works from the beginning" },
	[OPTION_RESERVED] = { "reserved", "NUMBER", "What the reserved bits of device_state hold (default 0)" },
	[OPTION_DUMP] = { "dump", "FILE", "With opaque: write the bytes that were loaded at the end, and the "
					  "transactions' sizes to FILE.sizes" },
	[OPTION_FAULT] = { "fault", "KIND@STEP[#N][:ARG]", "Misbehave (may be repeated)" },
	[OPTIONS] = { NULL, NULL, NULL },
};

static int bad(enum option o, const char *value, struct vfmig_error *err)
{
	return error_set(err, -EINVAL, "option %s=%s: expected %s", sim_option_table[o].name, value,
			 sim_option_table[o].argument);
}

/* A number with an optional suffix, at most max. `end` of it is where text must go on. */
static int parse_number(enum option o, const char *text, char stop, uint64_t min, uint64_t max, uint64_t *ret,
			const char **ret_end, struct vfmig_error *err)
{
	static const char suffixes[] = "KMG";
	char *end;

	errno = 0;
	unsigned long long v = strtoull(text, &end, 0);
	if (errno || end == text || *text == '-')
		return bad(o, text, err);
	const char *suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		unsigned int shift = 10u * (unsigned int)(suffix - suffixes + 1);
		if (v > UINT64_MAX >> shift)
			return bad(o, text, err);
		v <<= shift;
		end++;
	}
	if (*end != stop)
		return bad(o, text, err);
	if (v < min || v > max)
		return error_set(err, -EINVAL, "option %s=%s: expected %llu to %llu", sim_option_table[o].name, text,
				 (unsigned long long)min, (unsigned long long)max);
	*ret = v;
	if (ret_end)
		*ret_end = end;
	return 0;
}

static int parse_multiple(enum option o, const char *text, uint64_t unit, uint64_t max, uint64_t *ret,
			  struct vfmig_error *err)
{
	int r = parse_number(o, text, '\0', unit, max, ret, NULL, err);

	if (r == 0 && *ret % unit)
		return error_set(err, -EINVAL, "option %s=%s: expected a multiple of %llu", sim_option_table[o].name,
				 text, (unsigned long long)unit);
	return r;
}

/* Which word of "a|b|c" is it? */
static int parse_choice(enum option o, const char *text, unsigned int *ret, struct vfmig_error *err)
{
	const char *words = sim_option_table[o].argument;
	size_t length = strlen(text);

	for (unsigned int i = 0; *words; i++) {
		size_t n = strcspn(words, "|");
		if (n == length && !strncmp(words, text, n)) {
			*ret = i;
			return 0;
		}
		words += n + (words[n] == '|');
	}
	return bad(o, text, err);
}

static int parse_yes(enum option o, const char *text, bool *ret, struct vfmig_error *err)
{
	unsigned int choice = 0;
	int r = parse_choice(o, text, &choice, err);

	if (r == 0)
		*ret = choice == 0;
	return r;
}

static int parse_path(enum option o, const char *text, char ret[PATH_MAX], struct vfmig_error *err)
{
	if (!*text || strlen(text) >= PATH_MAX)
		return bad(o, text, err);
	strcpy(ret, text);
	return 0;
}

static int parse_log(const char *text, struct sim_options *ret, struct vfmig_error *err)
{
	const char *end;
	int r = parse_number(OPTION_LOG, text, '/', 0, UINT64_MAX - 1, &ret->log_iova, &end, err);

	if (r < 0)
		return r;
	return parse_number(OPTION_LOG, end + 1, '\0', 1, SIM_LOG_ENTRIES_MAX, &ret->log_entries, NULL, err);
}

/* What a flag, or an option of yes and no, sets; NULL: it is another. */
static bool *switch_of(enum option o, struct sim_options *s)
{
	switch (o) {
	case OPTION_P2P:
		return &s->p2p;
	case OPTION_PRECOPY:
		return &s->precopy;
	case OPTION_DIRTY_LOG:
		return &s->dirty_log;
	case OPTION_SCATTER:
		return &s->scatter;
	case OPTION_OPAQUE:
		return &s->opaque;
	case OPTION_START:
		return &s->start;
	default:
		return NULL;
	}
}

static int parse_switch(enum option o, const char *value, bool *ret, struct vfmig_error *err)
{
	if (value)
		return parse_yes(o, value, ret, err);
	*ret = true;
	return 0;
}

static int parse_one(enum option o, const char *value, struct sim_options *ret, struct vfmig_error *err)
{
	unsigned int choice = 0;
	uint64_t number = 0;
	int r = 0;

	switch (o) {
	case OPTION_INTERFACE:
		r = parse_choice(o, value, &choice, err);
		ret->interface = (enum sim_interface)choice;
		return r;
	case OPTION_SIZE:
		return parse_multiple(o, value, SIM_STATE_MIN, SIM_STATE_MAX, &ret->size, err);
	case OPTION_SECTION:
		return parse_multiple(o, value, SECTION_MIN, SECTION_MAX, &ret->section, err);
	case OPTION_MAP:
		r = parse_choice(o, value, &choice, err);
		ret->map = (enum sim_map)choice;
		return r;
	case OPTION_RATE:
		return parse_number(o, value, '\0', 0, SIM_RATE_MAX, &ret->rate, NULL, err);
	case OPTION_SEED:
		return parse_number(o, value, '\0', 0, UINT64_MAX, &ret->seed, NULL, err);
	case OPTION_INITIAL:
		return parse_number(o, value, '\0', 0, SIM_STATE_MAX, &ret->initial, NULL, err);
	case OPTION_STILL:
		r = parse_choice(o, value, &choice, err);
		ret->still = (enum still_copies)(choice + 1);
		return r;
	case OPTION_CHECK:
		r = parse_choice(o, value, &choice, err);
		ret->check = (enum still_check)choice;
		return r;
	case OPTION_CONFIG:
		return parse_path(o, value, ret->config, err);
	case OPTION_CONFIG_SIZE:
		r = parse_choice(o, value, &choice, err);
		ret->config_size = choice ? 4096 : 256;
		return r;
	case OPTION_ACCESS_WIDTH:
		r = parse_choice(o, value, &choice, err);
		ret->access_width = 8u >> choice;
		return r;
	case OPTION_DMA:
		r = parse_choice(o, value, &choice, err);
		ret->dma_message = choice == 1;
		return r;
	case OPTION_LOG:
		return parse_log(value, ret, err);
	case OPTION_RESERVED:
		r = parse_number(o, value, '\0', 0, UINT32_MAX, &number, NULL, err);
		ret->reserved = (uint32_t)number & ~7u;
		return r;
	case OPTION_DUMP:
		return parse_path(o, value, ret->dump, err);
	case OPTION_FAULT:
		return faults_add(&ret->faults, value, err);
	default:
		return bad(o, value, err);
	}
}

static int unknown(const char *name, struct vfmig_error *err)
{
	char valid[512] = "";

	for (int o = 0; o < OPTIONS; o++) {
		strncat(valid, " ", sizeof(valid) - strlen(valid) - 1);
		strncat(valid, sim_option_table[o].name, sizeof(valid) - strlen(valid) - 1);
	}
	return error_set(err, -EINVAL, "no option \"%s\"; valid are%s", name, valid);
}

static int parse_item(char *item, struct sim_options *ret, struct vfmig_error *err)
{
	char *value = strchr(item, '=');

	if (value)
		*value++ = '\0';
	for (int o = 0; o < OPTIONS; o++) {
		const struct sim_option *option = &sim_option_table[o];
		if (strcmp(option->name, item))
			continue;
		if (!option->argument && value)
			return error_set(err, -EINVAL, "option %s takes no value", item);
		if (option->argument && !value)
			return error_set(err, -EINVAL, "option %s wants a value: %s", item, option->argument);
		bool *is_switch = switch_of((enum option)o, ret);
		return is_switch ? parse_switch((enum option)o, value, is_switch, err)
				 : parse_one((enum option)o, value, ret, err);
	}
	return unknown(item, err);
}

int sim_options_parse(const char *text, struct sim_options *ret, struct vfmig_error *err)
{
	struct sim_options o = {
		.size = 16u << 20, .section = 1u << 20, .rate = 1000, .seed = 1, .precopy = true, .p2p = true,
		.dirty_log = true, .config_size = 4096, .initial = SIM_RECORD_HEADER,
	};
	char *copy = strdup(text), *rest = copy, *item;
	int r = copy ? 0 : error_errno(err, -ENOMEM, "options");

	while (r == 0 && (item = strsep(&rest, ",")))
		if (*item)
			r = parse_item(item, &o, err);
	free(copy);
	if (r < 0)
		return r;
	if (o.dump[0] && !o.opaque)
		return error_set(err, -EINVAL, "option dump is for opaque devices only");
	if (o.still != STILL_NONE && (o.opaque || o.start))
		return error_set(err, -EINVAL, "a still device does no work and keeps nothing");
	if (o.still != STILL_NONE)
		o.precopy = false; /* it has nothing to do meanwhile */
	if (o.scatter && o.log_iova % SIM_SCATTER_PAGE)
		return error_set(err, -EINVAL, "option log: a scattered log begins at a multiple of %u",
				 SIM_SCATTER_PAGE);
	*ret = o;
	return 0;
}
