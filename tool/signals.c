/* SPDX-License-Identifier: BSD-3-Clause */
/* signals.c: signals as something that is read between two steps. */
#include "signals.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int cancelling[] = { SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGXCPU };

static struct {
	sigset_t taken;
	int fd;
} signals = { .fd = -1 };

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	int end_fd;
	bool running, ended;
	signals_fn *fn;
	void *opaque;
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER, .end_fd = -1 };

static void add_unless_ignored(int number)
{
	struct sigaction now;
	if (sigaction(number, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
		sigaddset(&signals.taken, number);
}

static void find_wanted(void)
{
	sigemptyset(&signals.taken);
	for (size_t i = 0; i < sizeof(cancelling) / sizeof(cancelling[0]); i++)
		add_unless_ignored(cancelling[i]);
	add_unless_ignored(SIGUSR1);
}

int signals_take(struct vfmig_error *err)
{
	find_wanted();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	int r = -pthread_sigmask(SIG_BLOCK, &signals.taken, NULL);
	if (r < 0)
		return error_errno(err, r, "signals");
	signals.fd = signalfd(-1, &signals.taken, SFD_NONBLOCK | SFD_CLOEXEC);
	return signals.fd < 0 ? error_errno(err, -errno, "signals") : 0;
}

void signals_set(sigset_t *ret)
{
	if (signals.fd < 0)
		find_wanted();
	*ret = signals.taken;
}

int signals_fd(void)
{
	return signals.fd;
}

enum signals_word signals_read(void)
{
	struct signalfd_siginfo info;
	if (signals.fd < 0 || read(signals.fd, &info, sizeof(info)) != sizeof(info))
		return SIGNALS_NONE;
	return info.ssi_signo == SIGUSR1 ? SIGNALS_ASK : SIGNALS_CANCEL;
}

bool signals_cancel_waits(void)
{
	sigset_t pending;
	bool any = false;
	if (signals.fd < 0 || sigpending(&pending) < 0)
		return false;
	for (size_t i = 0; i < sizeof(cancelling) / sizeof(cancelling[0]); i++)
		any |= sigismember(&signals.taken, cancelling[i]) && sigismember(&pending, cancelling[i]);
	return any;
}

/* fn has the lock, so that the thread that ends the watch waits for it. */
static void *look(void *unused)
{
	(void)unused;
	struct pollfd fds[2] = { { .fd = signals.fd, .events = POLLIN }, { .fd = watch.end_fd, .events = POLLIN } };
	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		pthread_mutex_lock(&watch.lock);
		bool ended = watch.ended;
		enum signals_word word = ended ? SIGNALS_NONE : signals_read();
		if (word != SIGNALS_NONE)
			watch.fn(watch.opaque, word);
		pthread_mutex_unlock(&watch.lock);
		if (ended)
			return NULL;
	}
}

int signals_watch_begin(signals_fn *fn, void *opaque, struct vfmig_error *err)
{
	watch.fn = fn;
	watch.opaque = opaque;
	watch.ended = false;
	watch.end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watch.end_fd < 0)
		return error_errno(err, -errno, "signals: eventfd");
	int r = -pthread_create(&watch.thread, NULL, look, NULL);
	if (r < 0) {
		close(watch.end_fd);
		return error_errno(err, r, "signals: thread");
	}
	watch.running = true;
	return 0;
}

void signals_watch_end(void)
{
	if (!watch.running)
		return;
	pthread_mutex_lock(&watch.lock);
	watch.ended = true;
	pthread_mutex_unlock(&watch.lock);
	if (eventfd_write(watch.end_fd, 1) == 0)
		pthread_join(watch.thread, NULL);
	close(watch.end_fd);
	watch.running = false;
}
