/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reader.c: the framing of a stream, record by record.
 *
 * Theory of operation. Bytes come into one linear buffer and are only taken
 * out of it as whole pieces: a record's header, what a body function used, a
 * footer. Nothing is remembered about half a piece, so a call that found the
 * link dry is simply made again and looks at the same bytes, and more. What is
 * taken goes into the digest.
 *
 * reader_next moves from record to record. A section record leaves the reader
 * at its body (IN_BODY), which a body function consumes as it arrives; the
 * function, not a length, says where the body ends, and then the footer must
 * be there (AT_FOOTER). All sections that have appeared are kept in a table:
 * PART and END only carry a number.
 *
 * reader_vfio.c reads the bodies of VFIO sections, whose data can go straight to
 * where it is wanted, reader_skip.c brings body functions for what nobody wants, reader_hold.c
 * waits for the description when nothing else tells a length, reader_end.c
 * reads it, from a file's end beforehand and in any case where it stands.
 */
#include "stream/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stream/reader_impl.h"

#define TLS_HANDSHAKE 0x1603u /* how a TLS client begins */

static int allocate(struct reader *r, struct vfmig_error *err)
{
	r->capacity = READER_BUFFER;
	if (posix_memalign((void **)&r->buffer, (size_t)sysconf(_SC_PAGESIZE), r->capacity))
		r->buffer = NULL;
	r->sections = calloc(READER_SECTIONS_MAX, sizeof(*r->sections));
	r->digest = XXH3_createState();
	if (!r->buffer || !r->sections || !r->digest)
		return error_errno(err, -ENOMEM, "stream reader");
	XXH3_128bits_reset(r->digest);
	return 0;
}

int reader_new(struct vfmig_link *link, struct reader **ret, struct vfmig_error *err)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (!r)
		return error_errno(err, -ENOMEM, "stream reader");
	r->link = link;
	int rc = allocate(r, err);
	if (rc == 0 && link->seekable)
		rc = reader_look_up_description(r, err);
	if (rc < 0) {
		reader_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	XXH3_freeState(r->digest);
	reader_hold_free(r->hold);
	description_sizes_free(r->sizes);
	description_clear(&r->description);
	free(r->text);
	free(r->sections);
	free(r->buffer);
	free(r);
}

void reader_allow_advise(struct reader *r)
{
	r->advised = true;
}

void reader_begin_at(struct reader *r, uint64_t offset)
{
	r->offset = offset;
}

void reader_put_back_magic(struct reader *r)
{
	put_be32(r->buffer, WIRE_MAGIC);
	r->end = 4;
}

void reader_watch(struct reader *r, reader_watch_fn *fn, void *opaque)
{
	r->watch = fn;
	r->watch_opaque = opaque;
}

enum stream_fault reader_fault(const struct reader *r)
{
	return r->fault;
}

uint64_t reader_offset(const struct reader *r)
{
	return r->offset;
}

const char *reader_ram_capability(const struct reader *r)
{
	return r->ram_capability;
}

bool reader_marked(const struct reader *r)
{
	return r->marked;
}

const struct description *reader_description(const struct reader *r)
{
	return r->has_description ? &r->description : NULL;
}

bool reader_plain(const struct reader *r)
{
	return r->plain;
}

bool reader_verified(const struct reader *r)
{
	return r->verified;
}

const char *reader_seal(const struct reader *r)
{
	return r->seal;
}

struct cursor reader_rest(const struct reader *r)
{
	return (struct cursor) { reader_bytes(r), reader_have(r) };
}

/* -------------------------------------------------------------- records */

static int header(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	int rc = reader_need(r, 8, "the header", err);
	if (rc < 0)
		return rc;
	uint32_t magic = get_be32(reader_bytes(r)), version = get_be32(reader_bytes(r) + 4);
	if (magic >> 16 == TLS_HANDSHAKE)
		return reader_broken(r, FAULT_MAGIC, 0, err,
				     "the other side speaks TLS, and here plain text is expected: give the credentials "
				     "(--tls-creds DIR)");
	if (magic == WIRE_MULTIFD_MAGIC)
		return reader_broken(r, FAULT_MAGIC, 0, err,
				     "a channel of a migration by several connections: say how many (--multifd)");
	if (magic != WIRE_MAGIC)
		return reader_broken(r, FAULT_MAGIC, 0, err,
				     "not a migration stream: it begins with 0x%08" PRIx32 ", expected 0x%08x (QEVM)",
				     magic, WIRE_MAGIC);
	if (version != WIRE_VERSION)
		return reader_broken(r, FAULT_VERSION, 4, err, "stream version %" PRIu32 ", expected %u", version,
				     WIRE_VERSION);
	*ret = (struct reader_record) { .kind = READER_HEADER, .offset = r->offset, .length = 8 };
	reader_take(r, 8);
	r->state = AT_CONFIGURATION;
	return 0;
}

static struct reader_section *find(struct reader *r, uint32_t section_id)
{
	for (size_t i = 0; i < r->num_sections; i++) {
		if (r->sections[i].section_id == section_id)
			return &r->sections[i];
	}
	return NULL;
}

bool reader_has_section(const struct reader *r, const char *id, uint32_t instance_id)
{
	for (size_t i = 0; i < r->num_sections; i++)
		if (r->sections[i].instance_id == instance_id && strcmp(r->sections[i].id, id) == 0)
			return true;
	return false;
}

/* START or FULL of an id that has not appeared yet. */
static int add_section(struct reader *r, const struct reader_section *s, struct vfmig_error *err)
{
	for (size_t i = 0; i < r->num_sections; i++) {
		const struct reader_section *other = &r->sections[i];
		if (other->instance_id == s->instance_id && strcmp(other->id, s->id) == 0)
			return reader_broken(r, FAULT_SECTION_ID_TWICE, 5, err,
					     "section 0x%" PRIx32 " is '%s' instance %" PRIu32
					     ", and so was 0x%" PRIx32,
					     s->section_id, s->id, s->instance_id, other->section_id);
	}
	if (r->num_sections == READER_SECTIONS_MAX)
		return reader_broken(r, FAULT_SECTIONS_MAX, 0, err, "more than %u sections", READER_SECTIONS_MAX);
	if (r->num_sections == 0) {
		r->plain = s->section_id == WIRE_VFMIG_PLAIN_ID;
		r->marked = r->plain || s->section_id == WIRE_VFMIG_SECTION_ID;
		if (r->plain || !r->marked) {
			XXH3_freeState(r->digest);
			r->digest = NULL;
		}
	}
	r->sections[r->num_sections++] = *s;
	return 0;
}

static int check_start(struct reader *r, const struct reader_section *known, const struct reader_section *s,
		       struct vfmig_error *err)
{
	if (known)
		return reader_broken(r, FAULT_SECTION_NUMBER_TWICE, 1, err,
				     "START of section 0x%" PRIx32 " ('%s'), which appeared already as '%s'",
				     s->section_id, s->id, known->id);
	return 0;
}

static int check_full(struct reader *r, const struct reader_section *known, const struct reader_section *s,
		      struct vfmig_error *err)
{
	if (!known)
		return 0;
	if (known->instance_id != s->instance_id || strcmp(known->id, s->id) != 0)
		return reader_broken(r, FAULT_FULL_DIFFERS, 1, err,
				     "FULL of section 0x%" PRIx32 " is '%s' instance %" PRIu32
				     ", expected '%s' instance %" PRIu32 " as its START said",
				     s->section_id, s->id, s->instance_id, known->id, known->instance_id);
	if (known->full)
		return reader_broken(r, FAULT_FULL_TWICE, 1, err, "a second FULL of section 0x%" PRIx32 " ('%s')",
				     s->section_id, s->id);
	return 0;
}

/* id, instance and version, behind type and number. Their end, or -errno. */
static int section_name(struct reader *r, struct reader_section *s, struct vfmig_error *err)
{
	static const char what[] = "a section's header";
	int rc = reader_need(r, 6, what, err);
	if (rc < 0)
		return rc;
	size_t length = reader_bytes(r)[5];
	rc = reader_need(r, 6 + length + 8, what, err);
	if (rc < 0)
		return rc;
	const uint8_t *p = reader_bytes(r) + 6;
	if (length == 0 || memchr(p, '\0', length))
		return reader_broken(r, FAULT_SECTION_ID, 5, err,
				     "section 0x%" PRIx32 " has an id that is empty or has a NUL inside",
				     s->section_id);
	memcpy(s->id, p, length);
	s->id[length] = '\0';
	s->instance_id = get_be32(p + length);
	s->version_id = get_be32(p + length + 4);
	return (int)(6 + length + 8);
}

/* START and FULL: gives the section's place in the table. */
static int named_section(struct reader *r, uint8_t type, struct reader_section **ret, size_t *ret_length,
			 struct vfmig_error *err)
{
	struct reader_section s = { .section_id = get_be32(reader_bytes(r) + 1) };
	struct reader_section *known = find(r, s.section_id);

	int rc = section_name(r, &s, err);
	if (rc < 0)
		return rc;
	*ret_length = (size_t)rc;
	rc = type == WIRE_SECTION_START ? check_start(r, known, &s, err) : check_full(r, known, &s, err);
	if (rc == 0 && !known)
		rc = add_section(r, &s, err);
	if (rc < 0)
		return rc;
	*ret = known ? known : &r->sections[r->num_sections - 1];
	if (type == WIRE_SECTION_START)
		(*ret)->started = true;
	else
		(*ret)->full = true;
	(*ret)->version_id = s.version_id;
	return 0;
}

/* PART and END. */
static int numbered_section(struct reader *r, uint8_t type, struct reader_section **ret, struct vfmig_error *err)
{
	uint32_t section_id = get_be32(reader_bytes(r) + 1);
	struct reader_section *s = find(r, section_id);
	const char *kind = type == WIRE_SECTION_PART ? "PART" : "END";

	if (!s || !s->started)
		return reader_broken(r, FAULT_NEVER_STARTED, 1, err, "%s of section 0x%" PRIx32 ", which never started",
				     kind, section_id);
	if (s->ended)
		return reader_broken(r, FAULT_AFTER_END, 1, err, "%s of section 0x%" PRIx32 " ('%s') after its END",
				     kind, section_id, s->id);
	if (type == WIRE_SECTION_END)
		s->ended = true;
	*ret = s;
	return 0;
}

static int section(struct reader *r, uint8_t type, struct reader_record *ret, struct vfmig_error *err)
{
	struct reader_section *s;
	size_t length = 5;

	int rc = reader_need(r, length, "a section's header", err);
	if (rc < 0)
		return rc;
	rc = type == WIRE_SECTION_START || type == WIRE_SECTION_FULL ? named_section(r, type, &s, &length, err) :
								       numbered_section(r, type, &s, err);
	if (rc < 0)
		return rc;
	*ret = (struct reader_record) { .kind = READER_SECTION, .offset = r->offset, .length = length };
	strcpy(ret->name, s->id);
	reader_take(r, length);
	r->current = (struct vfmig_section) { "SPEF"[type - WIRE_SECTION_START], s->section_id, s->instance_id,
					      s->version_id, r->offset, r->offset };
	r->current_section = s;
	ret->section = r->current;
	r->skip = NULL;
	r->vfio = (struct vfio_parser) { 0 };
	r->state = IN_BODY;
	return 0;
}

/* What a command must look like, and whether a stream that has it can be read. */
static int check_command(struct reader *r, uint16_t command, uint16_t length, struct vfmig_error *err)
{
	int expected = command == WIRE_COMMAND_PING ? 4 :
		       command == WIRE_COMMAND_OPEN_RETURN_PATH || command == WIRE_COMMAND_SWITCHOVER_START ? 0 : -1;

	if (expected >= 0 && length != expected)
		return reader_broken(r, FAULT_COMMAND, 3, err, "command %u with %u bytes, expected %d", command, length,
				     expected);
	if (command == WIRE_COMMAND_PACKAGED)
		return reader_broken(r, FAULT_POSTCOPY, 1, err,
				     "command %u: a packaged stream, which only postcopy has, cannot be read", command);
	if (command == WIRE_COMMAND_POSTCOPY_ADVISE && r->advised)
		return 0;
	if (command >= WIRE_COMMAND_POSTCOPY_ADVISE && command <= 9)
		return reader_broken(r, FAULT_POSTCOPY, 1, err,
				     "command %u: a stream of a postcopy migration cannot be read: switch the "
				     "capability postcopy-ram off at the source",
				     command);
	return 0;
}

static int command(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	int rc = reader_need(r, 5, "a command", err);
	if (rc < 0)
		return rc;
	uint16_t number = get_be16(reader_bytes(r) + 1), length = get_be16(reader_bytes(r) + 3);
	rc = check_command(r, number, length, err);
	if (rc == 0)
		rc = reader_need(r, 5u + length, "a command's payload", err);
	if (rc < 0)
		return rc;
	*ret = (struct reader_record) { .kind = READER_COMMAND, .offset = r->offset, .length = 5u + length,
					.command = number, .payload_length = length };
	memcpy(ret->payload, reader_bytes(r) + 5, min_u64(length, sizeof(ret->payload)));
	reader_take(r, 5u + length);
	return 0;
}

/* EOF. Whatever was started must have ended. */
static int end(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	for (size_t i = 0; i < r->num_sections; i++) {
		if (r->sections[i].started && !r->sections[i].ended)
			return reader_broken(r, FAULT_NO_END, 0, err,
					     "the stream ends (00) before the END of section '%s'", r->sections[i].id);
	}
	*ret = (struct reader_record) { .kind = READER_EOF, .offset = r->offset, .length = 1 };
	reader_take(r, 1);
	r->state = BEHIND_EOF;
	return 0;
}

static int record(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	int rc = reader_need(r, 1, "its records", err);
	if (rc < 0)
		return rc;
	uint8_t type = reader_bytes(r)[0];
	if (type == WIRE_CONFIGURATION && r->state == AT_CONFIGURATION)
		return reader_configuration(r, ret, err);
	r->state = AT_RECORD;
	switch (type) {
	case WIRE_SECTION_START:
	case WIRE_SECTION_PART:
	case WIRE_SECTION_END:
	case WIRE_SECTION_FULL:
		return section(r, type, ret, err);
	case WIRE_COMMAND:
		return command(r, ret, err);
	case WIRE_EOF:
		return end(r, ret, err);
	case WIRE_CONFIGURATION:
		return reader_broken(r, FAULT_CONFIGURATION_PLACE, 0, err,
				     "CONFIGURATION, which only stands behind the header");
	default:
		return reader_broken(r, FAULT_RECORD_TYPE, 0, err,
				     "unknown record type 0x%02x, expected a section (01 to 04), a command (08) or "
				     "the end (00)",
				     type);
	}
}

int reader_next(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	switch (r->state) {
	case AT_HEADER:
		return header(r, ret, err);
	case AT_CONFIGURATION:
	case AT_RECORD:
		return record(r, ret, err);
	case BEHIND_EOF:
		return reader_behind_eof(r, ret, err);
	case AT_END:
		*ret = (struct reader_record) { .kind = READER_END, .offset = r->offset };
		return 0;
	default:
		return error_set(err, -EINVAL, "the section's body was not read to its end");
	}
}

/* --------------------------------------------------------------- bodies */

void reader_describe_body(const struct reader *r, char *what, size_t size)
{
	const char *kind = r->current.kind == 'S' ? "START" : r->current.kind == 'P' ? "PART" :
			   r->current.kind == 'E' ? "END" : "FULL";
	snprintf(what, size, "section '%s' (%s)", r->current_section->id, kind);
}

int reader_footer(struct reader *r, struct vfmig_error *err)
{
	char what[320];

	reader_describe_body(r, what, sizeof(what));
	int rc = reader_need(r, 5, what, err);
	if (rc < 0)
		return rc;
	uint8_t mark = reader_bytes(r)[0];
	uint32_t section_id = get_be32(reader_bytes(r) + 1);
	if (mark != WIRE_FOOTER)
		return reader_broken(r, FAULT_NO_FOOTER, 0, err, "0x%02x behind %s, expected its footer (7e)", mark,
				     what);
	if (section_id != r->current.section_id)
		return reader_broken(r, FAULT_OTHER_FOOTER, 1, err,
				     "the footer of section 0x%" PRIx32 " behind %s, expected 0x%" PRIx32, section_id,
				     what, r->current.section_id);
	reader_take(r, 5);
	r->state = AT_RECORD;
	return 0;
}

/* More bytes than the body function has seen. */
int reader_more_body(struct reader *r, struct vfmig_error *err)
{
	char what[320];

	reader_describe_body(r, what, sizeof(what));
	if (r->refused >= READER_GATHER_MAX)
		return reader_broken(r, FAULT_PACKET_LENGTH, 0, err, "no packet ends within %u bytes in %s",
				     READER_GATHER_MAX, what);
	return reader_need(r, r->refused + 1, what, err);
}

int reader_feed(struct reader *r, reader_body_fn *fn, void *opaque, struct vfmig_error *err)
{
	if (r->state == AT_FOOTER)
		return reader_footer(r, err);
	if (r->state != IN_BODY)
		return error_set(err, -EINVAL, "there is no section's body to read");
	int rc = reader_more_body(r, err);
	if (rc < 0)
		return rc;
	size_t have = reader_have(r), used = 0;
	r->current.offset = r->offset;
	rc = error_not_again(fn(opaque, &r->current, reader_bytes(r), have, &used, err));
	if (rc < 0)
		return rc;
	if (used > have)
		return error_set(err, -EINVAL, "more of a section's body used than there was");
	if (used)
		reader_take(r, used);
	else
		r->refused = have;
	if (rc == 0)
		return 1;
	r->state = AT_FOOTER;
	return reader_footer(r, err);
}
