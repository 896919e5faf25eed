/* SPDX-License-Identifier: BSD-3-Clause */
/* window.c: packets out of order, within bounds. */
#include "migrate/window.h"

#include <inttypes.h>
#include <stdlib.h>

/* What a packet costs, however little is in it. */
static uint64_t cost(uint64_t capacity)
{
	return capacity + sizeof(struct packet);
}

static void packet_free(struct packet *packet)
{
	free(packet->data);
	free(packet);
}

void packet_pool_clear(struct packet_pool *pool)
{
	while (pool->spare) {
		struct packet *packet = pool->spare;
		pool->spare = packet->next;
		packet_free(packet);
	}
	pool->spare_bytes = 0;
}

/* Packets are used again, so that nothing is allocated for each of them; together with those in use they stay
 * within the limit. */
void packet_release(struct packet *packet, struct packet_pool *pool)
{
	pool->held -= cost(packet->capacity);
	if (pool->held + pool->spare_bytes + cost(packet->capacity) > pool->limit) {
		packet_free(packet);
		return;
	}
	pool->spare_bytes += cost(packet->capacity);
	packet->next = pool->spare;
	pool->spare = packet;
}

void window_clear(struct window *w, struct packet_pool *pool)
{
	for (size_t i = 0; w->slots && i < WINDOW_PACKETS; i++)
		if (w->slots[i])
			packet_release(w->slots[i], pool);
	free(w->slots);
	*w = (struct window) { 0 };
}

/* One with room for length and one more, from the spare ones if the first of them is large enough. */
static struct packet *packet_get(struct packet_pool *pool, size_t length)
{
	struct packet *packet = pool->spare;
	if (packet) {
		pool->spare = packet->next;
		pool->spare_bytes -= cost(packet->capacity);
	}
	if (packet && packet->capacity < length) {
		packet_free(packet);
		packet = NULL;
	}
	if (!packet) {
		packet = calloc(1, sizeof(*packet));
		if (packet && !(packet->data = malloc(length + 1))) {
			free(packet);
			packet = NULL;
		}
		if (!packet)
			return NULL;
		packet->capacity = length;
	}
	pool->held += cost(packet->capacity);
	packet->next = NULL;
	packet->length = length;
	packet->whole = false;
	return packet;
}

/* Is this index one that may come now? */
static int check_index(const struct window *w, const struct multifd_packet *head, struct vfmig_error *err)
{
	uint32_t index = head->index;
	if (w->ended || (w->has_config && index > w->last))
		return error_set(err, -EBADMSG, "comes behind packet %" PRIu32 ", the config record, which is the last",
				 w->has_config ? w->last : w->next - 1);
	if (index < w->next)
		return error_set(err, -EBADMSG, "came before: expected %" PRIu32 " or a later one", w->next);
	if (index - w->next >= WINDOW_PACKETS)
		return error_set(err, -EBADMSG, "is more than %u ahead of packet %" PRIu32 ", which has not come",
				 WINDOW_PACKETS, w->next);
	if (w->slots && w->slots[index % WINDOW_PACKETS])
		return error_set(err, -EBADMSG, "comes twice");
	if (head->config && w->has_config)
		return error_set(err, -EBADMSG, "is a second config record, after packet %" PRIu32, w->last);
	if (head->config && w->any && w->last > index)
		return error_set(err, -EBADMSG, "is the config record, which must be the last, but packet %" PRIu32
				 " has come",
				 w->last);
	if (!head->config && index == UINT32_MAX)
		return error_set(err, -EBADMSG, "has the last number there is, and is not the config record");
	return 0;
}

int window_announce(struct window *w, struct packet_pool *pool, const struct multifd_packet *head,
		    struct packet **ret, struct vfmig_error *err)
{
	struct packet *packet;
	int r = check_index(w, head, err);
	if (r < 0)
		return r;
	if (pool->held >= pool->limit || cost(head->length) > pool->limit - pool->held)
		return error_set(err, -ENOBUFS,
				 "has %" PRIu64 " bytes, and %" PRIu64 " are queued while packet %" PRIu32
				 " has not come: more than the limit of %" PRIu64 " (--max-queued)",
				 head->length, pool->held, w->next, pool->limit);
	if (!w->slots && !(w->slots = calloc(WINDOW_PACKETS, sizeof(*w->slots))))
		return error_errno(err, -ENOMEM, "window");
	packet = packet_get(pool, (size_t)head->length);
	if (!packet)
		return error_errno(err, -ENOMEM, "%" PRIu64 " bytes", head->length);
	packet->index = head->index;
	packet->config = head->config;
	w->slots[head->index % WINDOW_PACKETS] = packet;
	w->has_config |= head->config;
	if (!w->any || head->index > w->last)
		w->last = head->index;
	w->any = true;
	*ret = packet;
	return 0;
}

struct packet *window_take(struct window *w)
{
	struct packet **slot = w->slots ? &w->slots[w->next % WINDOW_PACKETS] : NULL;
	struct packet *packet = slot ? *slot : NULL;
	if (!packet || !packet->whole)
		return NULL;
	*slot = NULL;
	w->next++;
	w->ended = packet->config;
	return packet;
}
