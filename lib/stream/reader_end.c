/* SPDX-License-Identifier: BSD-3-Clause */
/* reader_end.c: the description: looked up from a file's end, read where it stands, and its seal. */
#include <stdlib.h>
#include <unistd.h>

#include "stream/description_json.h"
#include "stream/reader_impl.h"

#define LOOK_BACK (64u << 10)
#define CANDIDATES_MAX 16
#define HEAD 5u /* type and length */
/* The digits of the seal and what closes the JSON behind them. */
#define SEAL_BYTES (DIGEST_HEX - 1 + sizeof(DESCRIPTION_TAIL) - 1)

/* QEMU's, some 50 KiB, need not be parsed (again) to see that there is nothing of vfmig's in it. */
static int parse_description(struct reader *r, const char *text, size_t length, struct vfmig_error *err)
{
	static const char key[] = "\"vfmig\"";

	if (r->text && !memmem(text, length, key, sizeof(key) - 1))
		return 0;
	return description_parse(text, length, &r->description, err);
}

/* ------------------------------------------------- from the end of a file */

static int read_at(struct reader *r, uint64_t offset, void *into, size_t length, struct vfmig_error *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pread(r->link->file_fd, (uint8_t *)into + done, length - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, -errno, "offset 0x%" PRIx64 ": read", offset + done);
		if (n == 0)
			return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": the file became shorter", offset + done);
		done += (size_t)n;
	}
	return 0;
}

/* 1: the JSON at [offset, end of file) is a description, and now known; 0: it is none. */
static int try_description(struct reader *r, uint64_t offset, struct vfmig_error *err)
{
	size_t length = (size_t)(r->link->size - offset);
	char *text = malloc(length);

	if (!text)
		return error_errno(err, -ENOMEM, "description");
	int rc = read_at(r, offset, text, length, err);
	if (rc < 0 || description_sizes_parse(text, length, &r->sizes, NULL) < 0) {
		free(text);
		return rc;
	}
	r->text = text;
	r->text_length = length;
	/* What is wrong with it is said when its place is reached. */
	r->has_description = parse_description(r, text, length, NULL) == 1;
	return 1;
}

static bool is_head(const uint8_t *p, uint64_t behind)
{
	return p[0] == WIRE_EOF && p[1] == WIRE_DESCRIPTION && behind > 0 && get_be32(p + 2) == behind;
}

/* Backwards, for an end (00), a description's type and a length that reaches exactly to the end of the file. */
int reader_look_up_description(struct reader *r, struct vfmig_error *err)
{
	uint64_t size = r->link->size, head = 1 + HEAD;
	uint64_t lowest = size > WIRE_DESCRIPTION_MAX + head ? size - WIRE_DESCRIPTION_MAX - head : 0;
	int tried = 0;

	for (uint64_t high = size; high >= lowest + head;) {
		uint64_t low = high - lowest > LOOK_BACK ? high - LOOK_BACK : lowest;
		int rc = read_at(r, low, r->buffer, (size_t)(high - low), err);
		if (rc < 0)
			return rc;
		for (uint64_t at = high - head + 1; at-- > low;) {
			if (!is_head(r->buffer + (at - low), size - at - head))
				continue;
			rc = try_description(r, at + head, err);
			if (rc != 0 || ++tried == CANDIDATES_MAX)
				return rc < 0 ? rc : 0;
		}
		if (low == lowest)
			return 0;
		high = low + head - 1; /* one that straddles the two pieces */
	}
	return 0;
}

/* ------------------------------------------------------ where it stands */

static int know_description(struct reader *r, const char *text, size_t length, struct vfmig_error *err)
{
	if (r->text && (length != r->text_length || memcmp(text, r->text, length) != 0))
		return reader_broken(r, FAULT_DESCRIPTION, 0, err,
				     "the description is not the one that was at the file's end: it changed meanwhile");
	int rc = r->has_description ? 1 : parse_description(r, text, length, err);
	if (rc < 0) {
		struct json_object *root;
		bool is_json = json_parse(text, length, &root, NULL) == 0;
		if (is_json)
			json_object_put(root);
		r->fault = is_json ? FAULT_VFMIG_OBJECT : FAULT_DESCRIPTION;
		return error_prefix(err, rc, "offset 0x%" PRIx64, r->offset);
	}
	r->has_description = rc == 1;
	if (r->marked && rc == 0)
		return reader_broken(r, FAULT_VFMIG_OBJECT, 0, err,
				     "the description has no 'vfmig' object, but the stream's first section says that "
				     "vfmig wrote it");
	if (!r->marked && rc == 1)
		return reader_broken(r, FAULT_VFMIG_OBJECT, 0, err,
				     "the description is vfmig's, but the stream's first section is not number 0x%x",
				     WIRE_VFMIG_SECTION_ID);
	return 0;
}

/* The seal is the digest of every byte before it. Takes the whole record. */
static int check_seal(struct reader *r, size_t length, struct vfmig_error *err)
{
	char expected[SEAL_BYTES + 1];

	if (length < SEAL_BYTES)
		return reader_broken(r, FAULT_SEAL, 0, err, "the description is too short for a seal");
	reader_take(r, HEAD + length - SEAL_BYTES);
	description_digest(r->digest, r->seal);
	strcpy(expected, r->seal);
	strcpy(expected + DIGEST_HEX - 1, DESCRIPTION_TAIL);
	if (memcmp(reader_bytes(r), expected, SEAL_BYTES) != 0) {
		r->seal[0] = '\0';
		return reader_broken(r, FAULT_SEAL, 0, err,
				     "the seal is wrong, expected %.32s: something in the stream was changed",
				     expected);
	}
	reader_take(r, SEAL_BYTES);
	return 0;
}

static int check_last(struct reader *r, size_t length, struct vfmig_error *err)
{
	uint64_t end = r->offset + HEAD + length;

	if (r->link->ops->rewind) {
		ssize_t n = 1;
		if (reader_have(r) == HEAD + length)
			n = reader_fill(r, HEAD + length + READER_BUFFER, err);
		return n > 0 ? reader_broken(r, FAULT_BEHIND_END, HEAD + length, err,
					     "more bytes behind the stream's end") : (int)n;
	}
	if (!r->link->seekable || end >= r->link->size)
		return 0;
	return reader_broken(r, FAULT_BEHIND_END, HEAD + length, err, "%" PRIu64 " more bytes behind the stream's end",
			     r->link->size - end);
}

static int description(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	int rc = reader_need(r, 1, "its end, which a description makes", err);
	if (rc < 0)
		return rc;
	if (reader_bytes(r)[0] != WIRE_DESCRIPTION)
		return reader_broken(r, FAULT_BEHIND_EOF, 0, err,
				     "0x%02x behind the end (00), expected a description (06)", reader_bytes(r)[0]);
	rc = reader_need(r, HEAD, "the description", err);
	if (rc < 0)
		return rc;
	uint32_t length = get_be32(reader_bytes(r) + 1);
	if (length == 0 || length > WIRE_DESCRIPTION_MAX)
		return reader_broken(r, FAULT_DESCRIPTION_LENGTH, 1, err,
				     "a description of %" PRIu32 " bytes, expected 1 to %u", length,
				     WIRE_DESCRIPTION_MAX);
	rc = reader_need(r, HEAD + length, "the description", err);
	if (rc == 0)
		rc = check_last(r, length, err);
	if (rc == 0)
		rc = know_description(r, (const char *)reader_bytes(r) + HEAD, length, err);
	if (rc < 0)
		return rc;
	struct reader_record record = { .kind = READER_DESCRIPTION, .offset = r->offset, .length = HEAD + length,
					.data = reader_bytes(r) + HEAD, .data_length = length };
	if (r->marked)
		rc = check_seal(r, length, err);
	else
		reader_take(r, HEAD + length);
	if (rc < 0)
		return rc;
	r->verified = r->marked && !r->plain;
	r->state = AT_END;
	*ret = record;
	return 0;
}

/* An unmarked stream may end here; on a link that goes both ways it does. */
int reader_behind_eof(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	ssize_t n = 1;

	if (!r->marked && r->link->two_way)
		n = 0;
	else if (!r->marked && reader_have(r) == 0)
		n = reader_fill(r, READER_BUFFER, err);
	if (n < 0)
		return (int)n;
	if (n > 0)
		return description(r, ret, err);
	r->state = AT_END;
	*ret = (struct reader_record) { .kind = READER_END, .offset = r->offset };
	return 0;
}
