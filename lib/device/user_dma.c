/* SPDX-License-Identifier: BSD-3-Clause */
/* user_dma.c: serves the DMA that a vfio-user server does by messages, and remembers what it wrote. */
#include "device/user_dma.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

struct mapping {
	struct mapping *next;
	uint64_t iova, length;
	uint32_t flags;
	char *memory;
	bool foreign; /* not mapped here */
	bool shared;
	uint64_t *marks; /* a bit for each page that it has a part of; NULL: nothing is marked */
};

struct user_dma {
	/* Held while bytes move as well: a mapping stays until they have. Each
	 * move has the deadline of its message. */
	pthread_mutex_t lock;
	struct mapping *first;
	bool marking;
};

int user_dma_new(struct user_dma **ret, struct vfmig_error *err)
{
	struct user_dma *d = calloc(1, sizeof(*d));
	if (!d)
		return error_errno(err, -ENOMEM, "DMA mappings");
	pthread_mutex_init(&d->lock, NULL);
	*ret = d;
	return 0;
}

static void mapping_free(struct mapping *m)
{
	if (!m->foreign)
		munmap(m->memory, m->length);
	free(m->marks);
	free(m);
}

void user_dma_free(struct user_dma *d)
{
	if (!d)
		return;
	while (d->first) {
		struct mapping *m = d->first;
		d->first = m->next;
		mapping_free(m);
	}
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int mapping_new(uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags, struct mapping **ret,
		       struct vfmig_error *err)
{
	int protection = (flags & VFMIG_DMA_READ ? PROT_READ : 0) | (flags & VFMIG_DMA_WRITE ? PROT_WRITE : 0);
	struct mapping *m = calloc(1, sizeof(*m));
	if (!m)
		return error_errno(err, -ENOMEM, "DMA mapping");
	bool foreign = fd < 0;
	void *memory = foreign ? (void *)(uintptr_t)offset :
				 mmap(NULL, length, protection, MAP_SHARED, fd, (off_t)offset);
	if (memory == MAP_FAILED) {
		free(m);
		return error_errno(err, -errno, "DMA mapping: mapping 0x%llx bytes at 0x%llx of fd %d",
				   (unsigned long long)length, (unsigned long long)offset, fd);
	}
	*m = (struct mapping) {
		.iova = iova, .length = length, .flags = flags, .memory = memory, .foreign = foreign,
	};
	*ret = m;
	return 0;
}

static uint64_t first_page(const struct mapping *m)
{
	return m->iova / VFIO_USER_PAGE_SIZE;
}

static int add_marks(struct mapping *m)
{
	uint64_t pages = (m->iova + m->length - 1) / VFIO_USER_PAGE_SIZE - first_page(m) + 1;

	m->marks = calloc(pages / 64 + 1, sizeof(*m->marks));
	return m->marks ? 0 : -ENOMEM;
}

static int insert(struct user_dma *d, struct mapping *m)
{
	pthread_mutex_lock(&d->lock);
	const struct mapping *other = d->first;
	while (other && (m->iova >= other->iova + other->length || other->iova >= m->iova + m->length))
		other = other->next;
	int r = other ? -EEXIST : d->marking ? add_marks(m) : 0;
	if (r == 0) {
		m->next = d->first;
		d->first = m;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

int user_dma_add(struct user_dma *d, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		 bool shared, struct vfmig_error *err)
{
	struct mapping *m = NULL;

	if (!flags || (flags & ~(VFMIG_DMA_READ | VFMIG_DMA_WRITE)))
		return error_set(err, -EINVAL, "DMA mapping: flags 0x%x, expected was read, write or both", flags);
	int r = fd < 0 ? 0 : user_file_check(fd, offset, length, err);
	if (r < 0)
		return error_prefix(err, r, "DMA mapping");
	r = mapping_new(iova, length, fd, offset, flags, &m, err);
	if (r < 0)
		return r;
	m->shared = shared;
	r = insert(d, m);
	if (r == 0)
		return 0;
	mapping_free(m);
	if (r == -ENOMEM)
		return error_errno(err, r, "DMA mapping: marks of written pages");
	return error_set(err, -EEXIST, "DMA mapping: 0x%llx bytes at IOVA 0x%llx overlap an earlier one",
			 (unsigned long long)length, (unsigned long long)iova);
}

static struct mapping **find_exact(struct user_dma *d, uint64_t iova, uint64_t length)
{
	struct mapping **at = &d->first;
	while (*at && ((*at)->iova != iova || (*at)->length != length))
		at = &(*at)->next;
	return at;
}

bool user_dma_has(struct user_dma *d, uint64_t iova, uint64_t length)
{
	pthread_mutex_lock(&d->lock);
	bool found = *find_exact(d, iova, length) != NULL;
	pthread_mutex_unlock(&d->lock);
	return found;
}

bool user_dma_shared(struct user_dma *d, uint64_t iova, uint64_t length)
{
	bool shared = false;

	pthread_mutex_lock(&d->lock);
	for (const struct mapping *m = d->first; m; m = m->next)
		shared |= m->shared && m->iova < iova + length && iova < m->iova + m->length;
	pthread_mutex_unlock(&d->lock);
	return shared;
}

static void remove_marks(struct user_dma *d)
{
	for (struct mapping *m = d->first; m; m = m->next) {
		free(m->marks);
		m->marks = NULL;
	}
}

int user_dma_mark(struct user_dma *d, bool on, struct vfmig_error *err)
{
	int r = 0;

	pthread_mutex_lock(&d->lock);
	remove_marks(d);
	for (struct mapping *m = d->first; on && m && r == 0; m = m->next)
		r = add_marks(m);
	if (r < 0)
		remove_marks(d);
	d->marking = on && r == 0;
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? error_errno(err, r, "marks of written pages") : 0;
}

/* With the lock held. The range lies in mappings, as resolve has found. */
static void mark(struct user_dma *d, uint64_t iova, uint64_t length)
{
	for (struct mapping *m = d->first; m; m = m->next) {
		uint64_t from = max_u64(iova, m->iova), end = min_u64(iova + length, m->iova + m->length);
		if (!m->marks || from >= end)
			continue;
		uint64_t last = (end - 1) / VFIO_USER_PAGE_SIZE - first_page(m);
		for (uint64_t n = from / VFIO_USER_PAGE_SIZE - first_page(m); n <= last; n++)
			m->marks[n / 64] |= UINT64_C(1) << n % 64;
	}
}

static void take_marks(struct mapping *m, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	uint64_t from = max_u64(iova, m->iova), end = min_u64(iova + length, m->iova + m->length);

	if (!m->marks || from >= end)
		return;
	uint64_t last = (end - 1) / VFIO_USER_PAGE_SIZE - first_page(m);
	for (uint64_t n = from / VFIO_USER_PAGE_SIZE - first_page(m); n <= last; n++) {
		uint64_t bit = UINT64_C(1) << n % 64;
		if (m->marks[n / 64] == 0)
			n |= 63; /* none of these */
		if (!(m->marks[n / 64] & bit))
			continue;
		m->marks[n / 64] &= ~bit;
		uint64_t page = (max_u64((first_page(m) + n) * VFIO_USER_PAGE_SIZE, iova) - iova) / page_size;
		bitmap[page / 64] |= UINT64_C(1) << page % 64;
	}
}

void user_dma_report(struct user_dma *d, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	pthread_mutex_lock(&d->lock);
	for (struct mapping *m = d->first; m; m = m->next)
		take_marks(m, iova, length, page_size, bitmap);
	pthread_mutex_unlock(&d->lock);
}

void user_dma_remove(struct user_dma *d, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	pthread_mutex_lock(&d->lock);
	struct mapping **at = find_exact(d, iova, length);
	struct mapping *m = *at;
	if (m)
		*at = m->next;
	if (m && bitmap)
		take_marks(m, iova, length, page_size, bitmap);
	pthread_mutex_unlock(&d->lock);
	if (m)
		mapping_free(m);
}

/* The pieces of memory that [iova, iova + length) is, which may cross mappings
 * that touch. Their number, 0 when a part of it may not be reached that way. No
 * mapping reaches 2^64, so neither does a range that is found. */
static size_t resolve(const struct user_dma *d, uint64_t iova, uint64_t length, uint32_t flag, struct iovec *iov,
		      size_t max)
{
	size_t n = 0;

	while (length > 0) {
		const struct mapping *m = d->first;
		while (m && !(iova >= m->iova && iova - m->iova < m->length))
			m = m->next;
		if (!m || !(m->flags & flag) || n == max)
			return 0;
		uint64_t piece = min_u64(length, m->length - (iova - m->iova));
		iov[n++] = (struct iovec) { m->memory + (iova - m->iova), (size_t)piece };
		iova += piece;
		length -= piece;
	}
	return n;
}

static int serve_read(struct user_dma *d, struct user_conn *c, const struct vfio_user_header *h,
		      struct vfio_user_dma_io *io, uint64_t deadline_ns)
{
	struct iovec iov[USER_IOV_MAX];

	pthread_mutex_lock(&d->lock);
	size_t n = 0;
	if (io->count <= VFIO_USER_MAX_DATA)
		n = resolve(d, io->address, io->count, VFMIG_DMA_READ, iov + 2, USER_IOV_MAX - 2);
	iov[1] = (struct iovec) { io, sizeof(*io) };
	int r = n ? user_conn_answer(c, h, 0, iov, n + 2, deadline_ns) :
		    user_conn_answer(c, h, EINVAL, iov, 1, deadline_ns);
	pthread_mutex_unlock(&d->lock);
	return r;
}

static int receive_pieces(int fd, const struct iovec *iov, size_t n, uint64_t deadline_ns)
{
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = user_socket_recv(fd, iov[i].iov_base, iov[i].iov_len, NULL, -1, deadline_ns);
	return r;
}

static int serve_write(struct user_dma *d, struct user_conn *c, const struct vfio_user_header *h,
		       struct vfio_user_dma_io *io, size_t length, uint64_t deadline_ns)
{
	struct iovec iov[USER_IOV_MAX], answer[2];
	size_t n = 0;

	pthread_mutex_lock(&d->lock);
	if (io->count == length)
		n = resolve(d, io->address, length, VFMIG_DMA_WRITE, iov, USER_IOV_MAX);
	if (n) /* also of one that ends halfway */
		mark(d, io->address, length);
	int r = n ? receive_pieces(user_conn_fd(c), iov, n, deadline_ns) :
		    user_socket_drain(user_conn_fd(c), length, -1, deadline_ns);
	pthread_mutex_unlock(&d->lock);
	if (r < 0)
		return r;
	answer[1] = (struct iovec) { io, sizeof(*io) };
	return user_conn_answer(c, h, n ? 0 : EINVAL, answer, n ? 2 : 1, deadline_ns);
}

int user_dma_serve(void *opaque, struct user_conn *c, const struct vfio_user_header *h, size_t length,
		   uint64_t deadline_ns, struct vfmig_error *err)
{
	struct user_dma *d = opaque;
	struct vfio_user_dma_io io;

	if (h->command != VFIO_USER_DMA_READ && h->command != VFIO_USER_DMA_WRITE)
		return error_set(err, -EPROTO, "the server sent %s (%u), which is not a server's to send",
				 user_command_name(h->command), h->command);
	if (h->command == VFIO_USER_DMA_READ ? length != sizeof(io) : length < sizeof(io))
		return error_set(err, -EPROTO, "the server sent a %s of %zu bytes, expected were %zu",
				 user_command_name(h->command), length, sizeof(io));
	int r = user_socket_recv(user_conn_fd(c), &io, sizeof(io), NULL, -1, deadline_ns);
	if (r == 0 && h->command == VFIO_USER_DMA_READ)
		r = serve_read(d, c, h, &io, deadline_ns);
	else if (r == 0)
		r = serve_write(d, c, h, &io, length - sizeof(io), deadline_ns);
	if (r < 0)
		return error_set(err, r == -ETIMEDOUT ? r : -ENOTCONN, "serving the server's %s: %s",
				 user_command_name(h->command), error_text(-r));
	return 0;
}
