/* SPDX-License-Identifier: BSD-3-Clause */
/* handover_talk.c: what the two sides of a handover say, as pings one way and as a return path the other way. */
#include "migrate/handover_impl.h"

#include <stdio.h>

/* ------------------------------------------------------------------ hello */

uint32_t handover_hello(const struct handover *h, unsigned i)
{
	return i == 0 ? WIRE_HANDOVER_MARK : h->words[i - 1];
}

bool handover_recognised(const struct handover *h)
{
	return h->heard == HANDOVER_HELLO;
}

bool handover_greeted(const struct handover *h)
{
	return handover_recognised(h) || h->foreign;
}

static int not_the_same(const struct handover *h, struct vfmig_error *err)
{
	return error_set(err, -EPROTO, "%s: the other side does not know the session %s", h->link->name, h->session);
}

/* A crash is covered only where both sides remember what they said. */
static void tell_journal(const struct handover *h, bool theirs)
{
	if (theirs != (h->journal != NULL))
		log_line(
		    h->log, VFMIG_LOG_WARNING,
		    "%s: %s keeps no journal and %s does: a program that is killed at the switch may leave it open who "
		    "runs the devices; --journal DIR on both sides settles that",
		    h->link->name, theirs ? "this side" : "the other side", theirs ? "the other side" : "this side");
}

int handover_pong(struct handover *h, uint32_t value, struct vfmig_error *err)
{
	if (h->heard == 0 && value == WIRE_HANDOVER_ANSWER)
		h->heard = 1;
	else if (h->heard == 0 && value == WIRE_HANDOVER_MARK)
		h->foreign = true;
	else if (h->heard > 0 && h->heard < HANDOVER_HELLO && value != h->words[h->heard++ - 1])
		return not_the_same(h, err);
	else if (handover_recognised(h) && (value == WIRE_HANDOVER_ONE_HERE || value == WIRE_HANDOVER_NONE_HERE))
		tell_journal(h, value == WIRE_HANDOVER_ONE_HERE);
	return 0;
}

int handover_ping(struct handover *h, uint32_t value, uint32_t *ret_answer)
{
	*ret_answer = value;
	if (h->heard == 0) {
		if (value != WIRE_HANDOVER_MARK)
			return 0;
		h->heard = 1;
		*ret_answer = WIRE_HANDOVER_ANSWER;
		return 0;
	}
	if (handover_recognised(h) && (value == WIRE_HANDOVER_JOURNAL || value == WIRE_HANDOVER_NO_JOURNAL)) {
		*ret_answer = h->journal ? WIRE_HANDOVER_ONE_HERE : WIRE_HANDOVER_NONE_HERE;
		tell_journal(h, value == WIRE_HANDOVER_JOURNAL);
	}
	if (handover_recognised(h))
		return 0;
	h->words[h->heard++ - 1] = value;
	if (!handover_recognised(h))
		return 0;
	for (unsigned i = 0; i < HANDOVER_WORDS; i++)
		snprintf(h->session + 8 * (size_t)i, 9, "%08x", h->words[i]);
	return 1;
}

/* ---------------------------------------------------------------- talking */

static void queue(struct handover *h, const void *bytes, size_t length)
{
	/* A message is said again in each state, so one for which there is no room is not missed. */
	if (length > sizeof(h->out) - h->queued)
		return;
	memcpy(h->out + h->queued, bytes, length);
	h->queued += length;
}

static void put_ping(uint8_t command[9], uint32_t value)
{
	command[0] = WIRE_COMMAND;
	put_be16(command + 1, WIRE_COMMAND_PING);
	put_be16(command + 3, 4);
	put_be32(command + 5, value);
}

void handover_ask(struct handover *h, uint32_t value)
{
	uint8_t command[9];
	put_ping(command, value);
	queue(h, command, sizeof(command));
}

static void queue_return(struct handover *h, uint16_t type, uint32_t value)
{
	uint8_t message[8];
	put_be16(message, type);
	put_be16(message + 2, 4);
	put_be32(message + 4, value);
	queue(h, message, sizeof(message));
}

void handover_proof(const struct handover *h, uint8_t ret[HANDOVER_PROOF])
{
	for (unsigned i = 0; i < HANDOVER_HELLO; i++)
		put_ping(ret + i * sizeof(h->command), handover_hello(h, i));
}

void handover_answer_proof(struct handover *h)
{
	h->heard = HANDOVER_HELLO;
	queue_return(h, WIRE_RETURN_PONG, WIRE_HANDOVER_ANSWER);
	for (unsigned i = 1; i < HANDOVER_HELLO; i++)
		queue_return(h, WIRE_RETURN_PONG, handover_hello(h, i));
}

void handover_say(struct handover *h, enum message what)
{
	switch (what) {
	case PREPARED:
		queue_return(h, WIRE_RETURN_PONG, WIRE_HANDOVER_PREPARED);
		break;
	case RUNNING:
		queue_return(h, WIRE_RETURN_SHUT, 0);
		break;
	case LOST:
		queue_return(h, WIRE_RETURN_SHUT, 1);
		break;
	case COMMIT:
		handover_ask(h, WIRE_HANDOVER_COMMIT);
		break;
	case ABORT:
		handover_ask(h, WIRE_HANDOVER_ABORT);
		break;
	case OVER:
		handover_ask(h, WIRE_HANDOVER_OVER);
		break;
	case NOTHING:
	case CUT:
		break;
	}
}

int handover_flush(struct handover *h, struct vfmig_error *err)
{
	while (h->queued > 0) {
		struct iovec iov = { h->out, h->queued };
		ssize_t n = link_writev(h->link, &iov, 1, err);
		if (n < 0)
			return (int)n;
		h->queued -= (size_t)n;
		memmove(h->out, h->out + n, h->queued);
	}
	return 0;
}

static int hear_destination(struct handover *h, enum message *ret, struct vfmig_error *err)
{
	uint16_t type;
	uint32_t value;
	bool knew = handover_recognised(h);
	int r = return_path_read(&h->from_destination, h->link, &type, &value, err);
	if (r <= 0)
		return r;
	*ret = NOTHING;
	if (type == WIRE_RETURN_PONG && !knew) {
		r = handover_pong(h, value, err);
		if (r == 0 && h->foreign)
			r = not_the_same(h, err);
		return r < 0 ? r : 1;
	}
	if (!knew)
		return not_the_same(h, err);
	if (type == WIRE_RETURN_PONG && value == WIRE_HANDOVER_PREPARED)
		*ret = PREPARED;
	else if (type == WIRE_RETURN_SHUT)
		*ret = value == 0 ? RUNNING : LOST;
	else if (type == WIRE_RETURN_PONG)
		(void)handover_pong(h, value, err);
	return 1;
}

static ssize_t read_command(struct handover *h, void *into, size_t length, struct vfmig_error *err)
{
	if (h->rest.length == 0)
		return link_read(h->link, into, length, err);
	length = min_u64(length, h->rest.length);
	memcpy(into, cursor_take(&h->rest, length), length);
	return (ssize_t)length;
}

static int hear_source(struct handover *h, enum message *ret, struct vfmig_error *err)
{
	while (h->have < sizeof(h->command)) {
		ssize_t n = read_command(h, h->command + h->have, sizeof(h->command) - h->have, err);
		if (n <= 0)
			return (int)n;
		h->have += (size_t)n;
	}
	h->have = 0;
	if (h->command[0] != WIRE_COMMAND || get_be16(h->command + 1) != WIRE_COMMAND_PING ||
	    get_be16(h->command + 3) != 4)
		return error_set(err, -EPROTO, "%s: something else than a ping behind the stream", h->link->name);
	uint32_t value = get_be32(h->command + 5);
	*ret = value == WIRE_HANDOVER_COMMIT ? COMMIT :
	       value == WIRE_HANDOVER_ABORT  ? ABORT :
	       value == WIRE_HANDOVER_OVER   ? OVER :
					       NOTHING;
	return 1;
}

int handover_hear(struct handover *h, enum message *ret, struct vfmig_error *err)
{
	return h->side == HANDOVER_SOURCE ? hear_destination(h, ret, err) : hear_source(h, ret, err);
}
