/* SPDX-License-Identifier: BSD-3-Clause */
/* check_print.c: results of checks, as they come (text, TAP) or together (JUnit's XML, JSON). */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "check_print.h"
#include "output.h"

static const char *const verdicts[] = { [CHECK_PASS] = "pass", [CHECK_FAIL] = "fail", [CHECK_SKIP] = "skip",
					[CHECK_QUIRK] = "quirk" };

static const char *protocol_name(uint32_t protocols)
{
	switch (protocols) {
	case CHECK_V1:
		return "v1";
	case CHECK_BOTH:
		return "v1 v2";
	default:
		return "v2";
	}
}

static size_t count_of(const struct check_result *results, size_t count, enum check_verdict verdict)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += results[i].verdict == verdict;
	return n;
}

/* ---------------------------------------------------------------- text, TAP */

static void text_result(FILE *f, const struct check_result *x)
{
	bool says = x->why[0] && x->verdict != CHECK_PASS;

	fprintf(f, "%-5s %s%s%s\n", verdicts[x->verdict], x->check->name, says ? ": " : "", says ? x->why : "");
	if (x->verdict == CHECK_FAIL || x->verdict == CHECK_QUIRK)
		fprintf(f, "      rule: %s (%s)\n", x->check->rule, x->check->source);
}

/* In a YAML string of two quotes. */
static void yaml_line(FILE *f, const char *key, const char *value)
{
	fprintf(f, "  %s: \"", key);
	for (const char *c = value; *c; c++)
		fprintf(f, *c == '"' || *c == '\\' ? "\\%c" : "%c", (unsigned char)*c < ' ' ? ' ' : *c);
	fputs("\"\n", f);
}

static void tap_result(struct check_print *p, const char *uri, const struct check_result *x)
{
	bool ok = x->verdict == CHECK_PASS || x->verdict == CHECK_SKIP;

	fprintf(p->file, "%s %u - %s%s%s", ok ? "ok" : "not ok", ++p->number, p->many ? uri : "",
		p->many ? " " : "", x->check->name);
	if (x->verdict == CHECK_SKIP)
		fprintf(p->file, " # SKIP %s", x->why);
	else if (x->verdict == CHECK_QUIRK)
		fprintf(p->file, " # TODO known quirk");
	fputc('\n', p->file);
	if (ok)
		return;
	fputs("  ---\n", p->file);
	yaml_line(p->file, "message", x->why);
	yaml_line(p->file, "rule", x->check->rule);
	yaml_line(p->file, "source", x->check->source);
	fputs("  ...\n", p->file);
}

/* --------------------------------------------------------------- JUnit's XML */

static void xml_text(FILE *f, const char *text)
{
	for (const char *c = text; *c; c++) {
		switch (*c) {
		case '&':
			fputs("&amp;", f);
			break;
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '"':
			fputs("&quot;", f);
			break;
		default:
			fputc((unsigned char)*c < ' ' ? ' ' : *c, f);
		}
	}
}

static void xml_attribute(FILE *f, const char *name, const char *value)
{
	fprintf(f, " %s=\"", name);
	xml_text(f, value);
	fputc('"', f);
}

static void junit_case(FILE *f, const char *uri, const struct check_result *x)
{
	fputs("    <testcase", f);
	xml_attribute(f, "classname", uri);
	xml_attribute(f, "name", x->check->name);
	fprintf(f, " time=\"%.6f\"", (double)x->ns / (double)NS_PER_S);
	if (x->verdict == CHECK_PASS) {
		fputs("/>\n", f);
		return;
	}
	fprintf(f, ">\n      <%s", x->verdict == CHECK_FAIL ? "failure" : "skipped");
	xml_attribute(f, "message", x->why);
	if (x->verdict == CHECK_FAIL) {
		fputc('>', f);
		xml_text(f, x->check->rule);
		fputs(" (", f);
		xml_text(f, x->check->source);
		fputs(")</failure>\n", f);
	} else {
		fputs("/>\n", f);
	}
	fputs("    </testcase>\n", f);
}

static void junit_device(FILE *f, const char *uri, const struct check_result *results, size_t count)
{
	uint64_t ns = 0;

	for (size_t i = 0; i < count; i++)
		ns += results[i].ns;
	fputs("  <testsuite", f);
	xml_attribute(f, "name", uri);
	fprintf(f, " tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"%zu\" time=\"%.6f\">\n", count,
		count_of(results, count, CHECK_FAIL),
		count_of(results, count, CHECK_SKIP) + count_of(results, count, CHECK_QUIRK),
		(double)ns / (double)NS_PER_S);
	for (size_t i = 0; i < count; i++)
		junit_case(f, uri, &results[i]);
	fputs("  </testsuite>\n", f);
}

/* --------------------------------------------------------------------- JSON */

static void add_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, output_string(value));
}

static struct json_object *json_check(const struct check *c)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "name", c->name);
	add_string(o, "rule", c->rule);
	add_string(o, "source", c->source);
	return o;
}

static struct json_object *json_result(const struct check_result *x)
{
	struct json_object *o = json_check(x->check);

	add_string(o, "result", verdicts[x->verdict]);
	if (x->why[0])
		add_string(o, x->verdict == CHECK_PASS ? "note" : "why", x->why);
	json_object_object_add(o, "time_ns", json_object_new_uint64(x->ns));
	return o;
}

static struct json_object *json_arcs(const struct check_run *r)
{
	struct json_object *all = json_object_new_array();

	for (uint32_t from = 0; from < CHECK_STATES; from++) {
		for (uint32_t to = 0; to < CHECK_STATES; to++) {
			if (!r->arc_ns[from][to])
				continue;
			struct json_object *o = json_object_new_object();
			add_string(o, "from", vfmig_state_name((enum vfmig_state)from));
			add_string(o, "to", vfmig_state_name((enum vfmig_state)to));
			json_object_object_add(o, "shortest_ns", json_object_new_uint64(r->arc_ns[from][to]));
			json_object_array_add(all, o);
		}
	}
	return all;
}

static void json_device(FILE *f, const char *uri, const struct check_run *r, const struct check_result *results,
			size_t count)
{
	struct json_object *o = json_object_new_object(), *checks = json_object_new_array();

	add_string(o, "device", uri);
	add_string(o, "interface", protocol_name(r->protocol));
	json_object_object_add(o, "p2p", json_object_new_boolean(r->has_p2p));
	json_object_object_add(o, "pre_copy", json_object_new_boolean(r->has_precopy));
	for (size_t i = 0; i < count; i++)
		json_object_array_add(checks, json_result(&results[i]));
	json_object_object_add(o, "checks", checks);
	json_object_object_add(o, "arcs", json_arcs(r));
	for (int v = CHECK_PASS; v <= CHECK_QUIRK; v++) {
		uint64_t n = count_of(results, count, (enum check_verdict)v);
		json_object_object_add(o, verdicts[v], json_object_new_uint64(n));
	}
	output_json(f, o, false);
}

/* --------------------------------------------------------------- all of them */

void check_print_begin(struct check_print *p)
{
	if (p->format == CHECK_JUNIT)
		fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n", p->file);
}

void check_print_device(struct check_print *p, const char *uri, const struct check_run *r)
{
	if (p->format == CHECK_TEXT || p->format == CHECK_TAP)
		fprintf(p->file, "%s%s: %s%s%s\n", p->format == CHECK_TAP ? "# " : "", uri,
			protocol_name(r->protocol), r->has_p2p ? ", P2P" : "", r->has_precopy ? ", pre-copy" : "");
}

void check_print_result(struct check_print *p, const char *uri, const struct check_result *result)
{
	if (p->format == CHECK_TEXT)
		text_result(p->file, result);
	else if (p->format == CHECK_TAP)
		tap_result(p, uri, result);
	fflush(p->file);
}

void check_print_device_end(struct check_print *p, const char *uri, const struct check_run *r,
			    const struct check_result *results, size_t count)
{
	if (p->format == CHECK_TEXT)
		fprintf(p->file, "%zu passed, %zu failed, %zu skipped, %zu known quirks\n",
			count_of(results, count, CHECK_PASS), count_of(results, count, CHECK_FAIL),
			count_of(results, count, CHECK_SKIP), count_of(results, count, CHECK_QUIRK));
	else if (p->format == CHECK_JUNIT)
		junit_device(p->file, uri, results, count);
	else if (p->format == CHECK_JSON)
		json_device(p->file, uri, r, results, count);
}

void check_print_end(struct check_print *p)
{
	if (p->format == CHECK_TAP)
		fprintf(p->file, "1..%u\n", p->number);
	else if (p->format == CHECK_JUNIT)
		fputs("</testsuites>\n", p->file);
}

void check_print_list(FILE *file, bool json)
{
	struct json_object *all = json ? json_object_new_array() : NULL;

	for (size_t i = 0; i < check_count; i++) {
		const struct check *c = &check_table[i];
		if (!json) {
			fprintf(file, "%-31s %-6s %s (%s)\n", c->name, protocol_name(c->protocols), c->rule,
				c->source);
			continue;
		}
		struct json_object *o = json_check(c);
		add_string(o, "interfaces", protocol_name(c->protocols));
		json_object_array_add(all, o);
	}
	if (json)
		output_json(file, all, true);
}
