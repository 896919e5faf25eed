/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ownership.pml: who may run a device, over several sessions (doc/handover.md).
 *
 * handover.pml has the messages of one session between two vfmigs. This model has
 * what is around a session: three devices A, B and C with a journal folder each, a
 * QEMU and a file; SESSIONS saves, one after another or at once, each of any device
 * to any other; and a kill of every program between any two steps, where a line of a
 * journal and the deed that it announces are two steps. Further, in any order and as
 * often as they like: 'vfmig resolve' at either side, with and without a person's
 * word, 'recover --run' and '--discard', 'save --again', 'load --replace'; and
 * somebody else who resets or starts a device, or restarts its server (another
 * incarnation). Nothing is counted but the sessions: the search visits every order.
 *
 * What is left out: a message here is a look at what the other side has decided for
 * good, so messages that are lost, late or doubled are in handover.pml alone; a
 * session has one device; its source and its destination begin in one step; there
 * is one QEMU, and it saves nothing; a file is not loaded again (a copy in a file is
 * a person's wish); a program that only waits is not distinguished from one that was
 * killed; a look at a device and what is done by it are one step. Another state than
 * the one that is watched is moved from C only, to A or B. A search ends where the
 * last copy is gone. With three sessions either nobody else has a hand in it
 * (-DNO_OTHERS), or nobody gives a word (-DNO_WORDS) and only the servers of A and B
 * are restarted: together they are too many states.
 *
 * Checked at each step:
 *  - No two devices work with the state, unless a person's word (or somebody else)
 *    has started one of them although the other one might.
 *  - The last copy of the state is not destroyed, unless by somebody else, the end of
 *    its device's server, or a person.
 *  - A line of a journal is true when it is written.
 * Checked from each state, as if all programs were killed there and a person typed
 * 'vfmig resolve' wherever 'vfmig status' offers it (check_the_end):
 *  - One device works with the state if nothing but kills has happened; else there is
 *    a copy that a documented command runs.
 *  - Each session ends, or waits for a person's word and says so.
 *
 * Each -DWRONG_... changes one rule and has to be found out: scripts/check model.
 */
#ifndef SESSIONS
#define SESSIONS 2
#endif

#define A 0
#define B 1
#define C 2
#define Q 3 /* QEMU's device */
#define F 4 /* a file */
#define NO 9

/* What a device is found in. */
#define RUN 0
#define STOP 1
#define RES 2 /* RESUMING */
/* A v1 device that has loaded everything stays in RESUMING until it is started. */
#if defined(V1) || defined(WRONG_V1_HALF)
#define WHOLE RES
#else
#define WHOLE STOP
#endif

/* What is in it; nobody can see that. */
#define NONE 0	/* nothing, half of it, or another state */
#define STALE 1 /* the state as it was before another copy went on */
#define FRESH 2

/* Lines of the journals. */
#define SAVING 1
#define STOPPED 2
#define SENT 3
#define DECIDED 4
#define DONE 5
#define RUNS_ON 6
#define RUNS 7
#define SUPERSEDED 8
#define LOADING 1
#define PREPARED 2
#define COMMITTED 3
#define RUNNING 4
#define ABANDONED 5
#define REPLACED 6

/* What a program is about to do. One that only waits for the other side is OFF: it changes nothing. */
#define OFF 0
#define LIVE 1 /* save: sends */
#define TO_STOP 2
#define TO_END 3 /* sends the last byte, to a QEMU or a file */
#define AWAITS 4 /* QEMU's report, the file's fsync and rename */
#define TO_RUN 5
#define TO_NOTE 6
#define TO_DISCARD 7
#define TO_LOAD 1
#define RECEIVES 2
#define TO_PREPARE 3
#define TO_START 4
#define TO_RESET 5
#define TO_ABANDON 8

/* The QEMU. */
#define Q_LOADED 1
#define Q_REPORTED 2
#define Q_RUNS 3
#define Q_REFUSED 4

byte st[5], has[5];
bool by[5]; /* what is in it may run by a person's word, although another copy may, too */
byte src[SESSIONS], dst[SESSIONS], js[SESSIONS], jd[SESSIONS], ps[SESSIONS], pd[SESSIONS];
bool same_s[SESSIONS], same_d[SESSIONS]; /* the device is in the incarnation that the journal names */
bool tok[SESSIONS];			 /* the session has moved the state, and not something else */
byte q;
bool strict = true; /* no word, nobody else, nothing sent to a QEMU or a file */
bool gone = false;  /* somebody else or a person has destroyed the last copy */

#if SESSIONS == 3
#define ANY(p, x) (p(0, x) || p(1, x) || p(2, x))
#else
#define ANY(p, x) (p(0, x) || p(1, x))
#endif

/* ------------------------------------------------------------ the folder */

/* The order of sessions is their number, from the folder's counter. */
#define OF(k, x) (src[k] == x || dst[k] == x)
#define INDEED(x) (SESSIONS == 3 && OF(SESSIONS - 1, x) -> 2 : (OF(1, x) -> 1 : (OF(0, x) -> 0 : NO)))
#ifdef WRONG_CLOCK_ORDER /* the clock went back between the sessions */
#define LAST(x) (OF(0, x) -> 0 : (OF(1, x) -> 1 : (SESSIONS == 3 && OF(SESSIONS - 1, x) -> 2 : NO)))
#else
#define LAST(x) INDEED(x)
#endif
#define LAST_S(x) (LAST(x) != NO && src[LAST(x) % SESSIONS] == x && same_s[LAST(x) % SESSIONS])
#define LAST_D(x) (LAST(x) != NO && dst[LAST(x) % SESSIONS] == x && same_d[LAST(x) % SESSIONS])
#define LAST_JS(x) (js[LAST(x) % SESSIONS])
#define LAST_JD(x) (jd[LAST(x) % SESSIONS])

#ifdef WRONG_NO_LOCK
#define LOCKED(k, x) false
#else
#define LOCKED(k, x) ((src[k] == x && ps[k] != OFF) || (dst[k] == x && pd[k] != OFF))
#endif

#ifdef WRONG_RETRY_DECIDED
#define OPEN_DECIDED(k) false
#define RETRY(x) (LAST_JS(x) == DECIDED)
#else
#define OPEN_DECIDED(k) (js[k] == DECIDED)
#define RETRY(x) false
#endif
#ifdef WRONG_LOAD_OVER_PREPARED
#define OPEN_PREPARED(k) false
#else
#define OPEN_PREPARED(k) (jd[k] == PREPARED)
#endif
#ifdef WRONG_SENT_NOT_OPEN
#define OPEN_SENT(k) false
#else
#define OPEN_SENT(k) (js[k] == SENT)
#endif
#define OPEN(k, x) ((src[k] == x && same_s[k] && \
		     (js[k] == STOPPED || OPEN_SENT(k) || OPEN_DECIDED(k) || js[k] == RUNS_ON)) || \
		    (dst[k] == x && same_d[k] && (OPEN_PREPARED(k) || jd[k] == COMMITTED)))

/* A device that was given away and is still stopped is not saved; one that is stopped for another reason neither. */
#ifdef WRONG_DONE_SAVED_AGAIN
#define GIVEN_AWAY(x, y) false
#else
#define GIVEN_AWAY(x, y) (y != F || dst[LAST(x) % SESSIONS] != F)
#endif
#define EXPLAINED(x, y) (LAST_S(x) && (LAST_JS(x) == SUPERSEDED || (LAST_JS(x) == DONE && !GIVEN_AWAY(x, y)) || \
				       RETRY(x)))
#define CAN_SAVE(x, y) (!ANY(LOCKED, x) && !ANY(OPEN, x) && (st[x] == RUN || (st[x] == STOP && EXPLAINED(x, y))))

#ifdef WRONG_LOAD_OVER_RUNNING
#define WORKS(x) false
#else
#define WORKS(x) (st[x] == RUN && ((LAST_S(x) && (LAST_JS(x) == SAVING || LAST_JS(x) == RUNS)) || \
				   (LAST_D(x) && LAST_JD(x) == RUNNING)))
#endif
/* After --again and a kill the state is still here, in no other session. */
#ifdef WRONG_LOAD_OVER_SUPERSEDED
#define KEPT(x) false
#else
#define KEPT(x) (st[x] == STOP && LAST_S(x) && LAST_JS(x) == SUPERSEDED)
#endif
/* A device that works and was in no session: only a person knows what it is worth. */
#define UNKNOWN(x) (LAST(x) == NO && has[x] != NONE)
#define CAN_LOAD(y) (!ANY(LOCKED, y) && !ANY(OPEN, y) && !WORKS(y) && !KEPT(y) && !UNKNOWN(y))

/* --------------------------------------------------------- what is where */

#ifdef WRONG_INCARNATION
#define SAME_S(k) true
#else
#define SAME_S(k) same_s[k]
#endif
#ifdef WRONG_OLD_SESSION
#define NEWEST(k, x) true
#else
#define NEWEST(k, x) (LAST(x) == k)
#endif
#ifdef WRONG_FOUND_RUNNING
#define RUNS_ALREADY(x) false
#else
#define RUNS_ALREADY(x) (st[x] == RUN)
#endif
/* Source: the device holds what the session stopped. Destination: what it loaded, all of it. */
#define HERE(k) (SAME_S(k) && NEWEST(k, src[k]) && !RUNS_ALREADY(src[k]))
#define OURS(k) (same_d[k] && NEWEST(k, dst[k]))
#define HELD(k) (OURS(k) && st[dst[k]] == WHOLE)

#define PEER(k) (dst[k] <= C) /* a vfmig */

#ifdef WRONG_PREPARED_RUNNING_RESET
#define NOT_HELD(k, idle) (idle && jd[k] == PREPARED && OURS(k) && st[dst[k]] == RUN)
#else
#define NOT_HELD(k, idle) false
#endif

/* What each side answers for good. */
#ifdef WRONG_SUPERSEDED_COMMITS
#define SAYS_COMMIT(k) (js[k] == DECIDED || js[k] == SUPERSEDED)
#else
#define SAYS_COMMIT(k) (js[k] == DECIDED)
#endif
/* runs-on in another incarnation: it may not have run, so that the other copy may be the last one. */
#ifdef WRONG_RUNS_ON_GONE
#define SAYS_ABORT(k) (js[k] == RUNS_ON || js[k] == RUNS || js[k] == SUPERSEDED)
#else
#define SAYS_ABORT(k) ((js[k] == RUNS_ON && SAME_S(k)) || js[k] == RUNS || (js[k] == SUPERSEDED && !SAYS_COMMIT(k)))
#endif
#ifdef WRONG_REPLACED_LOST
#define SAYS_LOST(k) (jd[k] == ABANDONED || jd[k] == REPLACED)
#else
#define SAYS_LOST(k) (jd[k] == ABANDONED)
#endif
#define SAYS_RUNNING(k) (jd[k] == RUNNING || (jd[k] == REPLACED && !SAYS_LOST(k)))

/* What is true of a line is known only as long as nobody else has a hand in it. */
inline not_strict()
{
	strict = false;
	tok[0] = false;
	tok[1] = false;
	tok[SESSIONS - 1] = false
}

#define ALONE(d) (st[d] == RUN && has[d] != NONE && !by[d]) /* works, and by no person's word */
/* What was loaded counts from PREPARED on. */
#define LOADED_HALF(k, d) (INDEED(d) == k && dst[k] == d && same_d[k] && jd[k] == LOADING)
#define COPY(d) (has[d] == FRESH && !ANY(LOADED_HALF, d))
#define COPY_LEFT (COPY(A) || COPY(B) || COPY(C) || has[Q] == FRESH || has[F] == FRESH)
#define OLDER(e, d) has[e] = (e != d && has[e] == FRESH && st[e] != RUN -> STALE : has[e])

inline work(d)
{
	st[d] = RUN;
	if
	:: has[d] != NONE ->
		has[d] = FRESH;
		OLDER(A, d);
		OLDER(B, d);
		OLDER(C, d);
		OLDER(Q, d);
		has[F] = NONE;
		assert(ALONE(A) + ALONE(B) + ALONE(C) + ALONE(Q) <= 1) /* two at work */
	:: else
	fi
}

/* A person has said that what is there may go. */
#define REPLACED_IN(k, d) (dst[k] == d && jd[k] == REPLACED)
#define REPLACED_AT(d) ANY(REPLACED_IN, d)
/* The source's device dies while the destination's is taken back for it: nobody can bring that back. */
#define TOO_LATE(k, d) (src[k] == d && pd[k] == TO_RESET)

/* excused: by somebody else, or as a person said. */
inline wipe(d, excused)
{
	if
	:: has[d] == FRESH ->
		has[d] = NONE;
		assert((excused) || REPLACED_AT(d) || COPY_LEFT || gone); /* the last copy is destroyed */
		gone = gone || !COPY_LEFT || ((excused) && ANY(TOO_LATE, d))
	:: else -> has[d] = NONE
	fi;
	by[d] = false
}

/* --------------------------------------------------- lines that are true */

/* What is so, whichever rule is changed. */
#define HERE_STILL(k) (src[k] != NO && same_s[k] && INDEED(src[k]) == k)
#define THERE_STILL(k) (src[k] != NO && PEER(k) && same_d[k] && INDEED(dst[k]) == k)

inline write_runs_on(k)
{
	assert(js[k] != DECIDED || (jd[k] != COMMITTED && jd[k] != RUNNING) || by[src[k]]);
#ifdef WRONG_RUNS_ON_ONE_STEP
	js[k] = RUNS;
#else
	js[k] = RUNS_ON;
#endif
	ps[k] = TO_RUN
}

inline write_runs(k)
{
	assert(st[src[k]] == RUN);
	js[k] = RUNS
}

inline write_done(k)
{
	assert(!PEER(k) || SAYS_RUNNING(k));
	js[k] = DONE;
	ps[k] = OFF
}

inline write_abandoned(k)
{
	assert(!THERE_STILL(k) || st[dst[k]] == RUN || has[dst[k]] == NONE);
	jd[k] = ABANDONED;
	tok[k] = false;
	pd[k] = OFF
}

inline write_committed(k, word)
{
	assert(js[k] == DECIDED || js[k] == DONE || (word));
	by[dst[k]] = by[dst[k]] || (js[k] != DECIDED && js[k] != DONE && (word));
	jd[k] = COMMITTED;
	pd[k] = TO_START
}

inline write_running(k)
{
	assert(st[dst[k]] == RUN && (!strict || !tok[k] || has[dst[k]] != NONE));
	jd[k] = RUNNING;
	tok[k] = false;
	pd[k] = OFF
}

/* ---------------------------------------------------------------- claims */

inline abandon_half(j, y)
{
	if
	:: dst[j] == y && jd[j] == LOADING -> jd[j] = ABANDONED
	:: else
	fi
}

inline begin(k, x, y)
{
	if
	:: y <= C ->
		abandon_half(0, y);
		abandon_half(SESSIONS - 2, y);
		jd[k] = LOADING;
		pd[k] = TO_LOAD
	:: else
	fi;
	src[k] = x;
	dst[k] = y;
	same_s[k] = true;
	same_d[k] = true;
	ps[k] = LIVE;
	/* A device that was stopped already is not at work. */
#ifdef WRONG_SAVING_STOPPED
	js[k] = SAVING
#else
	js[k] = (st[x] == RUN -> SAVING : STOPPED)
#endif
}

/* ------------------------------------------------------------- deeds */

inline resolve_source(k)
{
	if
	:: js[k] == STOPPED -> write_runs_on(k)
	:: js[k] == RUNS_ON && st[src[k]] != RUN -> ps[k] = TO_RUN
	:: js[k] == RUNS_ON && st[src[k]] == RUN -> ps[k] = TO_NOTE
	fi
}

inline run_source(k)
{
	work(src[k]);
#ifdef WRONG_RUNS_ON_ONE_STEP
	ps[k] = OFF
#else
	ps[k] = TO_NOTE
#endif
}

inline note_source(k)
{
	write_runs(k);
	ps[k] = OFF
}

inline resolve_half(k)
{
	if
	:: OURS(k) && st[dst[k]] != RUN -> pd[k] = TO_RESET
	:: else -> write_abandoned(k)
	fi
}

inline resolve_committed(k)
{
	if
	:: st[dst[k]] == RUN -> pd[k] = TO_NOTE
	:: else -> pd[k] = TO_START
	fi
}

inline start(k)
{
	work(dst[k]);
	pd[k] = TO_NOTE
}

inline reset(k, excused)
{
	if
	:: st[dst[k]] != RUN || NOT_HELD(k, true) ->
		wipe(dst[k], excused);
		st[dst[k]] = RUN;
		pd[k] = TO_ABANDON
	:: else -> /* somebody has started it meanwhile */
		if
		:: jd[k] == LOADING -> write_abandoned(k)
		:: else -> pd[k] = OFF
		fi
	fi
}

/* What a 'vfmig resolve' without a person's word does, or a program that is still there. */
#define SOURCE_MAY_RUN(k) (ps[k] == OFF && js[k] == STOPPED && HERE(k))
#define SOURCE_GOES_ON(k) (ps[k] == OFF && js[k] == RUNS_ON && SAME_S(k) && NEWEST(k, src[k]))
#ifdef WRONG_SENT_RUNS_ON
#define SENT_RUNS_ON(k) (ps[k] == OFF && js[k] == SENT && HERE(k))
#else
#define SENT_RUNS_ON(k) false
#endif
#define HEARS_RUNNING(k) (ps[k] == OFF && js[k] == DECIDED && pd[k] == OFF && SAYS_RUNNING(k))
#define HEARS_LOST(k) (ps[k] == OFF && js[k] == DECIDED && pd[k] == OFF && SAYS_LOST(k) && HERE(k))
#define HALF(k) (pd[k] == OFF && jd[k] == LOADING)
#define LOST_IT(k) (pd[k] == OFF && jd[k] == PREPARED && !same_d[k])
#ifdef WRONG_V1_HALF
#define TAKEN_FOR_HALF(k) (pd[k] == OFF && jd[k] == PREPARED && OURS(k) && st[dst[k]] == RES)
#else
#define TAKEN_FOR_HALF(k) false
#endif
#define ASKS(k) (pd[k] == OFF && jd[k] == PREPARED && HELD(k))
#ifdef WRONG_GUESS
#define HEARS_COMMIT(k) (ASKS(k) && js[k] == STOPPED && ps[k] == OFF)
#else
#define HEARS_COMMIT(k) (ASKS(k) && SAYS_COMMIT(k))
#endif
#define HEARS_ABORT(k) (ASKS(k) && SAYS_ABORT(k))
#define STARTS(k) (pd[k] == OFF && jd[k] == COMMITTED && OURS(k) && (HELD(k) || st[dst[k]] == RUN))

/* -------------------------------------------------------------- the end */

/* A copy that a command of the manual runs: resolve, resolve with a word, recover --run; load, of a file. */
#define AT_SOURCE(d) (st[d] == STOP && LAST_S(d) && LAST_JS(d) >= STOPPED && LAST_JS(d) != RUNS)
#define AT_DESTINATION(d) (st[d] == WHOLE && LAST_D(d) && \
			   (LAST_JD(d) == PREPARED || LAST_JD(d) == COMMITTED || LAST_JD(d) == REPLACED))
#define RUNNABLE(d) (has[d] == FRESH && (st[d] == RUN || AT_SOURCE(d) || AT_DESTINATION(d)))
#define WORKING(d) (st[d] == RUN && has[d] != NONE)

inline settle(k, changed)
{
	changed = true;
	if
	:: SOURCE_MAY_RUN(k) || SOURCE_GOES_ON(k) -> resolve_source(k)
	:: HEARS_RUNNING(k) -> write_done(k)
	:: HEARS_LOST(k) || SENT_RUNS_ON(k) -> write_runs_on(k)
	:: ps[k] == TO_RUN -> run_source(k)
	:: ps[k] == TO_NOTE -> note_source(k)
	:: HALF(k) -> resolve_half(k)
	:: LOST_IT(k) -> write_abandoned(k)
	:: NOT_HELD(k, pd[k] == OFF) || TAKEN_FOR_HALF(k) || HEARS_ABORT(k) -> pd[k] = TO_RESET
	:: HEARS_COMMIT(k) -> write_committed(k, false)
	:: STARTS(k) -> resolve_committed(k)
	:: pd[k] == TO_START -> start(k)
	:: pd[k] == TO_NOTE -> write_running(k)
	:: pd[k] == TO_RESET -> reset(k, js[k] == SUPERSEDED)
	:: pd[k] == TO_ABANDON -> write_abandoned(k)
	:: else -> changed = false
	fi
}

/* Nothing but kills has happened: each session has ended, or a person is told that a word is wanted. */
#define SOURCE_SETTLED(k) (src[k] == NO || js[k] == SAVING || js[k] == RUNS || js[k] == DONE || \
			   (js[k] == STOPPED && st[src[k]] == RUN) || (js[k] == DECIDED && FOUND_RESET(k)))
#define DESTINATION_SETTLED(k) (jd[k] == NONE || jd[k] == RUNNING || jd[k] == ABANDONED || FOUND_RESET(k))
/* Killed after it has reset what it could not commit: 'resolve S source' there says that it has lost it. */
#define FOUND_RESET(k) (jd[k] == PREPARED && st[dst[k]] == RUN)

/* What each journal says, as long as nobody but vfmig has a hand in it; and at all times, where nothing can change it. */
inline true_words(k)
{
	assert(!HERE_STILL(k) || (js[k] != SAVING && js[k] != RUNS) || st[src[k]] == RUN);
	assert(!HERE_STILL(k) || (js[k] != SENT && js[k] != DECIDED) || st[src[k]] == STOP || !strict);
	assert((js[k] != STOPPED && js[k] != RUNS_ON && js[k] != RUNS) ||
	       (jd[k] != COMMITTED && jd[k] != RUNNING) || !strict);
	assert(js[k] != DONE || !PEER(k) || jd[k] == RUNNING || jd[k] == REPLACED);
	assert(jd[k] != COMMITTED || js[k] == DECIDED || !strict);
	assert(!THERE_STILL(k) || jd[k] != PREPARED || st[dst[k]] == WHOLE || st[dst[k]] == RUN);
	assert(!THERE_STILL(k) || (jd[k] != RUNNING && jd[k] != ABANDONED) || st[dst[k]] == RUN)
}
byte e_k, e_rounds; /* 0 but within a step */
bool e_changed, e_any;

inline check_the_end()
{
	e_k = 0;
	do
	:: e_k < SESSIONS -> true_words(e_k); e_k++
	:: else -> break
	od;
	e_k = 0;
	do
	:: e_k < SESSIONS -> ps[e_k] = OFF; pd[e_k] = OFF; e_k++
	:: else -> break
	od;
	e_rounds = 0;
	e_any = true;
	do
	:: e_any ->
		e_any = false;
		e_k = 0;
		do
		:: e_k < SESSIONS -> settle(e_k, e_changed); e_any = e_any || e_changed; e_k++
		:: else -> break
		od;
		e_rounds++;
		assert(e_rounds < 30) /* they wait for each other, round and round */
	:: else -> break
	od;
	assert(gone || RUNNABLE(A) || RUNNABLE(B) || RUNNABLE(C) || has[Q] == FRESH || has[F] == FRESH);
	e_k = 0;
	do
	:: strict && e_k < SESSIONS ->
		assert(SOURCE_SETTLED(e_k) && DESTINATION_SETTLED(e_k));
		e_any = e_any || (js[e_k] == DECIDED && FOUND_RESET(e_k));
		e_k++
	:: else -> break
	od;
	assert(!strict || gone || e_any || WORKING(A) + WORKING(B) + WORKING(C) == 1)
}

/* All ends are one state. */
inline forget()
{
	e_k = 0;
	do
	:: e_k < 5 -> st[e_k] = 0; has[e_k] = 0; by[e_k] = false; e_k++
	:: else -> break
	od;
	e_k = 0;
	do
	:: e_k < SESSIONS ->
		src[e_k] = 0; dst[e_k] = 0; js[e_k] = 0; jd[e_k] = 0;
		same_s[e_k] = false; same_d[e_k] = false; tok[e_k] = false;
		e_k++
	:: else -> break
	od;
	q = 0;
	strict = false;
	gone = false;
	e_k = 0;
	e_rounds = 0;
	e_changed = false;
	e_any = false
}

bool over = false;
/* Nothing is left to be protected. */
#define ENDED (over || (gone && !COPY_LEFT))

proctype end_of_all() provided (!ENDED)
{
	d_step { check_the_end(); forget(); over = true }
}

/* ------------------------------------------------------------- a session */

#define UNUSED(k) (src[k] == NO && (k == 0 || src[(k + SESSIONS - 1) % SESSIONS] != NO))
#define PAIR(k, x, y) UNUSED(k) && CAN_SAVE(x, y) && (y > C || CAN_LOAD(y)) && (y != Q || LAST(Q) == NO) && \
		      (has[x] != NONE || (x == C && y < C))
#define SENDS(k) (js[k] == STOPPED && ps[k] == LIVE)

/* No program is at work on it, and no later session has it. */
#define FREE(k, d) (src[k] != NO && d <= C && !ANY(LOCKED, d) && NEWEST(k, d))

/* The first one is of A. B and C are alike, so it never goes to C. */
#define BEGIN(x, y) atomic { (k > 0 || (x == A && y != C)) && PAIR(k, x, y) -> d_step { begin(k, x, y) } }

proctype session(byte k) provided (!ENDED)
{
	do
	:: BEGIN(A, B)
	:: BEGIN(A, C)
	:: BEGIN(A, Q)
	:: BEGIN(A, F)
	:: BEGIN(B, A)
	:: BEGIN(B, C)
	:: BEGIN(B, Q)
	:: BEGIN(B, F)
	:: BEGIN(C, A)
	:: BEGIN(C, B)
	:: BEGIN(C, Q)
	:: BEGIN(C, F)

	/* vfmig save */
	:: atomic { js[k] == SAVING && ps[k] == LIVE && (!PEER(k) || pd[k] == RECEIVES) -> d_step {
		js[k] = STOPPED;
		ps[k] = TO_STOP } }
	:: atomic { ps[k] == TO_STOP -> d_step { st[src[k]] = STOP; ps[k] = LIVE } }
	:: atomic { SENDS(k) && PEER(k) && jd[k] == PREPARED && pd[k] == OFF -> d_step {
		js[k] = DECIDED;
		ps[k] = OFF } }
	:: atomic { SENDS(k) && HERE(k) -> d_step { write_runs_on(k) /* a lost link, a time-out, a cancel */ } }
#ifdef WRONG_SENT_LATE
	:: atomic { SENDS(k) && !PEER(k) -> d_step { ps[k] = TO_END } }
#else
	:: atomic { SENDS(k) && !PEER(k) -> d_step { js[k] = SENT; not_strict(); ps[k] = TO_END } }
#endif
	:: atomic { ps[k] == TO_END -> d_step {
		has[dst[k]] = (has[src[k]] == FRESH || dst[k] == Q -> has[src[k]] : has[dst[k]]);
		by[dst[k]] = dst[k] == Q && by[src[k]];
		q = (dst[k] == Q -> Q_LOADED : q);
		not_strict();
#ifndef WRONG_SENT_LATE
		js[k] = SENT;
#endif
		ps[k] = AWAITS } }
	:: atomic { ps[k] == AWAITS && dst[k] == Q && (q == Q_LOADED || q == Q_RUNS) -> d_step {
		q = (q == Q_LOADED -> Q_REPORTED : q);
		write_done(k) } }
	:: atomic { ps[k] == AWAITS && dst[k] == Q && q == Q_REFUSED && HERE(k) -> d_step { write_runs_on(k) } }
	:: atomic { ps[k] == AWAITS && dst[k] == F -> d_step { write_done(k) } }
	:: atomic { ps[k] == TO_RUN -> d_step { run_source(k) } }
	:: atomic { ps[k] == TO_NOTE -> d_step { note_source(k) } }
	:: atomic { ps[k] != OFF -> d_step { ps[k] = OFF /* killed */ } }

	/* vfmig load */
	:: atomic { pd[k] == TO_LOAD -> d_step {
		wipe(dst[k], st[dst[k]] == RUN && by[dst[k]]);
		st[dst[k]] = RES;
		pd[k] = RECEIVES } }
	:: atomic { pd[k] == RECEIVES && SENDS(k) && st[src[k]] == STOP -> d_step {
		has[dst[k]] = has[src[k]];
		by[dst[k]] = by[src[k]];
		tok[k] = strict && has[src[k]] != NONE;
		st[dst[k]] = WHOLE;
		pd[k] = TO_PREPARE } }
	:: atomic { pd[k] == RECEIVES -> d_step { pd[k] = TO_RESET /* a lost link, a wrong stream, a cancel */ } }
	:: atomic { pd[k] == TO_PREPARE && st[dst[k]] == WHOLE -> d_step { jd[k] = PREPARED; pd[k] = OFF } }
	:: atomic { pd[k] == TO_START -> d_step { start(k) } }
	:: atomic { pd[k] == TO_START && st[dst[k]] == WHOLE -> d_step { /* it does not start */
#ifndef WRONG_RESET_COMMITTED
		jd[k] = LOADING;
#endif
		gone = gone || !COPY_LEFT;
		pd[k] = TO_RESET } }
	:: atomic { pd[k] == TO_NOTE -> d_step { write_running(k) } }
	:: atomic { pd[k] == TO_RESET -> d_step { reset(k, js[k] == SUPERSEDED) } }
	:: atomic { pd[k] == TO_DISCARD -> d_step { reset(k, true) } }
	:: atomic { pd[k] == TO_ABANDON -> d_step { write_abandoned(k) } }
	:: atomic { pd[k] != OFF -> d_step { pd[k] = OFF /* killed */ } }

	/* vfmig resolve; and a program that is still there, once its side waits */
	:: atomic { SOURCE_MAY_RUN(k) || SOURCE_GOES_ON(k) -> d_step { resolve_source(k) } }
	:: atomic { HEARS_RUNNING(k) -> d_step { write_done(k) } }
	:: atomic { HEARS_LOST(k) || SENT_RUNS_ON(k) -> d_step { write_runs_on(k) } }
	:: atomic { HALF(k) -> d_step { resolve_half(k) } }
	:: atomic { LOST_IT(k) -> d_step { write_abandoned(k) } }
	:: atomic { NOT_HELD(k, pd[k] == OFF) || TAKEN_FOR_HALF(k) || HEARS_ABORT(k) -> d_step { pd[k] = TO_RESET } }
	:: atomic { HEARS_COMMIT(k) -> d_step { write_committed(k, false) } }
	:: atomic { HEARS_COMMIT(k) -> d_step { /* the journal refuses the line */
		pd[k] = (has[src[k]] == FRESH && HERE(k) -> TO_RESET : TO_DISCARD) } }
	:: atomic { STARTS(k) -> d_step { resolve_committed(k) } }

#ifndef NO_WORDS
	/* A person's word. resolve S source, recover --run: */
	:: atomic { ps[k] == OFF && FREE(k, src[k]) && same_s[k] && st[src[k]] == STOP &&
		    js[k] >= STOPPED && js[k] != RUNS -> d_step {
		not_strict();
		by[src[k]] = by[src[k]] || (dst[k] != F && (js[k] == SENT || js[k] == DECIDED || js[k] == DONE));
#ifdef WRONG_WORD_AFTER_DEED
		run_source(k)
#else
		write_runs_on(k)
#endif
		} }
	/* resolve S source, although the device does not hold the state any more: */
	:: atomic { ps[k] == OFF && FREE(k, src[k]) && st[src[k]] == RUN &&
		    (js[k] == STOPPED || js[k] == SENT || (js[k] == RUNS_ON && !same_s[k])) -> d_step {
		not_strict();
		gone = gone || has[src[k]] == NONE;
		by[src[k]] = by[src[k]] || (dst[k] != F && js[k] == SENT);
		js[k] = RUNS_ON;
		same_s[k] = true;
		ps[k] = TO_NOTE } }
	/* resolve S destination, at the source: */
	:: atomic { ps[k] == OFF && PEER(k) && js[k] == STOPPED -> d_step { not_strict(); js[k] = DECIDED } }
	:: atomic { ps[k] == OFF && !PEER(k) && js[k] == SENT -> d_step {
		not_strict();
		gone = gone || has[dst[k]] == NONE;
		js[k] = DONE } }
	/* resolve S source, at the destination; recover --discard there: */
	:: atomic { ASKS(k) -> d_step { not_strict(); pd[k] = TO_DISCARD } }
	:: atomic { pd[k] == OFF && jd[k] == PREPARED && OURS(k) && st[dst[k]] == RUN -> d_step {
		not_strict();
		write_abandoned(k) } }
	/* resolve S destination, at the destination; recover --run there: */
	:: atomic { ASKS(k) -> d_step { not_strict(); write_committed(k, true) } }
	/* recover --discard, at the source: */
	:: atomic { ps[k] == OFF && FREE(k, src[k]) && same_s[k] && st[src[k]] == STOP && js[k] != RUNS_ON &&
		    (PEER(k) || js[k] != STOPPED) -> d_step {
		not_strict();
		gone = gone || (js[k] == SENT && has[dst[k]] == NONE);
		js[k] = (js[k] == STOPPED -> DECIDED : (js[k] == SENT -> DONE : js[k]));
		ps[k] = TO_DISCARD } }
	:: atomic { ps[k] == TO_DISCARD -> d_step { wipe(src[k], true); st[src[k]] = RUN; ps[k] = OFF } }
	/* save --again S: */
	:: atomic { ps[k] == OFF && FREE(k, src[k]) && same_s[k] && st[src[k]] == STOP &&
		    (js[k] == STOPPED || js[k] == SENT || js[k] == DECIDED || js[k] == DONE) -> d_step {
		not_strict();
		by[src[k]] = by[src[k]] || (dst[k] != F && js[k] != STOPPED);
		js[k] = SUPERSEDED } }
	/* load --replace S (of a prepared one: as a discard): */
	:: atomic { pd[k] == OFF && FREE(k, dst[k]) && same_d[k] && (jd[k] == COMMITTED || jd[k] == RUNNING) -> d_step {
		not_strict();
		gone = gone || st[dst[k]] != RUN; /* never started, and the source will take it for done */
		jd[k] = REPLACED } }
#endif
	od
}

/* ------------------------------------------------------------ the others */

#define SAID_DONE(k, d) (dst[k] == d && js[k] == DONE)

#define CUT_OFF(k, d) ps[k] = (src[k] == d -> OFF : ps[k]); pd[k] = (dst[k] == d -> OFF : pd[k]); \
		      same_s[k] = same_s[k] && src[k] != d; same_d[k] = same_d[k] && dst[k] != d

/* A device that is reset after the line and before the deed looks as after the deed. */
#define TAKEN_FOR_RUNNING(k, d) ((src[k] == d && js[k] == RUNS_ON && same_s[k]) || \
				 (dst[k] == d && jd[k] == COMMITTED && same_d[k]))

/* Its server ends and is started again. */
inline restart(d)
{
	not_strict();
	wipe(d, true);
	st[d] = RUN;
	CUT_OFF(0, d);
	CUT_OFF(1, d);
#if SESSIONS == 3
	CUT_OFF(2, d);
#endif
}

inline reset_by_others(d)
{
	not_strict();
	gone = gone || ANY(TAKEN_FOR_RUNNING, d);
	wipe(d, true);
	st[d] = RUN
}

inline start_by_others(d)
{
	not_strict();
	by[d] = true;
	work(d)
}

proctype others() provided (!ENDED)
{
	do
#ifndef NO_OTHERS
	:: d_step { restart(A) }
	:: d_step { restart(B) }
#if SESSIONS == 2
	:: d_step { restart(C) }
	:: d_step { reset_by_others(A) }
	:: d_step { reset_by_others(B) }
	:: d_step { reset_by_others(C) }
	:: atomic { st[A] == STOP -> d_step { start_by_others(A) } }
	:: atomic { st[B] == WHOLE && has[B] != NONE -> d_step { start_by_others(B) } }
	:: atomic { st[C] == WHOLE && has[C] != NONE -> d_step { start_by_others(C) } }
#endif
#endif
	/* The QEMU runs before it reports, or refuses, or ends. */
	:: atomic { q == Q_LOADED || q == Q_REPORTED -> d_step { q = Q_RUNS; work(Q) } }
	:: atomic { q == Q_LOADED -> d_step { q = Q_REFUSED; gone = gone || ANY(SAID_DONE, Q); wipe(Q, true) } }
	:: atomic { q != 0 && q != Q_REFUSED -> d_step { q = Q_REFUSED; gone = true; wipe(Q, true); st[Q] = STOP } }
	od
}

init
{
	d_step {
		st[Q] = STOP;
		st[F] = STOP;
		has[A] = FRESH;
		e_k = 0;
		do
		:: e_k < SESSIONS -> src[e_k] = NO; dst[e_k] = NO; e_k++
		:: else -> break
		od;
		e_k = 0
	};
	atomic {
		run session(0);
		run session(1);
#if SESSIONS == 3
		run session(2);
#endif
		run others();
		run end_of_all()
	}
}
