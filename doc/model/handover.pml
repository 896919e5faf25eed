/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.pml: who may run the device, between two vfmigs (doc/handover.md).
 *
 * The source's device is stopped and the end of its state is on its way. From
 * here on the link may be cut at any step and comes back, what was on it is
 * lost, and either program may be killed at any step and is started again with
 * nothing but its journal; a journal may refuse to be written; the
 * destination may refuse the state; and a device that lived in the program that
 * was killed (-DKERNEL_DEVICE) is gone with it.
 *
 * Checked: never two that run; when nothing more happens, one runs and both
 * sides know it; nobody waits for ever. A faulty variant of each rule
 * (-DWRONG_...) has to be found out: scripts/check model.
 */
#ifndef CUTS
#define CUTS 2
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef REFUSALS
#define REFUSALS 1 /* times that a journal refuses */
#endif

mtype = { end_of_stream, prepared, commit, abort, running, lost };

/* States of the programs, and records in the journals. */
#define NONE 0
#define STOPPED 1   /* source: the end is sent */
#define DECIDED 2   /* source, journal */
#define DONE 3	    /* source, journal */
#define RUNS_ON 4   /* source: taken back */
#define LOADING 5   /* destination */
#define PREPARED 6  /* destination, journal */
#define COMMITTED 7 /* destination, journal */
#define RUNNING 8   /* destination, journal */
#define ABANDONED 9 /* destination, journal: it never runs this session */

#define NOT_YET 255 /* no epoch */

chan to_d = [4] of { mtype };
chan to_s = [4] of { mtype };
bool up = true;
byte epoch = 0; /* connections so far */
byte cuts = 0, crashes = 0, refused = 0;

bool s_runs = false, d_runs = false;
bool d_has = false;    /* the destination's device holds the state */
bool state_gone = false; /* ... ran, and was killed: a class of its own */
byte s_journal = NONE, d_journal = NONE;
byte s = STOPPED, d = LOADING;

inline send(c, m)
{
	if
	:: up && nfull(c) -> c ! m
	:: !up || full(c) -> skip /* on a link that is cut: lost */
	fi
}

inline empty_links()
{
	do
	:: nempty(to_d) -> to_d ? _
	:: empty(to_d) && nempty(to_s) -> to_s ? _
	:: empty(to_d) && empty(to_s) -> break
	od
}

inline cut()
{
	up = false;
	empty_links()
}

/* The network: it is cut so often, and always comes back. */
active proctype network()
{
end:	do
	:: atomic { up && cuts < CUTS -> cuts++; cut() }
	:: atomic { !up -> epoch++; up = true }
	od
}

/* Killed: the connection goes, too. */
inline crash()
{
	crashes++;
	cut()
}

active proctype source()
{
	byte seen = 0;
	atomic { send(to_d, end_of_stream) }
	do
	/* Nothing decided: what goes wrong here is taken back by the source itself. */
	:: atomic { s == STOPPED && to_s ? [prepared] -> to_s ? prepared;
		if
		:: s_journal = DECIDED; s = DECIDED
#ifdef WRONG_NOT_JOURNALLED
		:: s = DECIDED
#endif
		:: refused < REFUSALS -> refused++; s = RUNS_ON; s_runs = true; send(to_d, abort)
		fi }
	:: atomic { s == STOPPED && to_s ? [lost] -> to_s ? lost; s = RUNS_ON; s_runs = true }
	:: atomic { s == STOPPED && epoch != seen -> seen = epoch; s = RUNS_ON; s_runs = true }
	:: atomic { s == STOPPED && !up -> s = RUNS_ON; s_runs = true }
	/* Decided: the source runs never again, unless the destination promises not to. */
	:: atomic { s == DECIDED && s_journal != DONE -> seen = epoch; send(to_d, commit); s = COMMITTED }
	:: atomic { s == COMMITTED && epoch != seen -> s = DECIDED /* says it again */ }
	:: atomic { s == COMMITTED && to_s ? [prepared] -> to_s ? prepared; send(to_d, commit) }
	:: atomic { s == COMMITTED && to_s ? [running] -> to_s ? running; s_journal = DONE; s = DONE }
	:: atomic { s == COMMITTED && to_s ? [lost] -> to_s ? lost; s_journal = NONE; s = RUNS_ON; s_runs = true }
#ifdef WRONG_TIMEOUT
	:: atomic { s == COMMITTED && !up -> s = RUNS_ON; s_runs = true }
#endif
	/* The answers of one that has ended. No record means abort. */
	:: atomic { s == RUNS_ON && to_s ? [prepared] -> to_s ? prepared; send(to_d, abort) }
	:: atomic { s == RUNS_ON && nempty(to_s) && !(to_s ? [prepared]) -> to_s ? _ }
	:: atomic { s == DONE && nempty(to_s) -> to_s ? _ }
	/* Killed and started again: the journal tells. */
	:: atomic { crashes < CRASHES && s != DONE -> crash();
		if
		:: s_journal == DECIDED -> s = DECIDED
		:: else -> s = RUNS_ON; s_runs = true
		fi }
	od
}

active proctype destination()
{
	byte asked = 0;
	bool said = false;
	do
	:: atomic { d == LOADING && to_d ? [end_of_stream] -> to_d ? end_of_stream;
		if
		:: d_has = true; d_journal = PREPARED; d = PREPARED; asked = NOT_YET
		:: refused < REFUSALS -> refused++; d = ABANDONED; send(to_s, lost) /* the journal is full */
		:: d = ABANDONED; send(to_s, lost)			   /* the state is not right */
		fi }
	:: atomic { d == LOADING && (!up || epoch != asked) -> d = ABANDONED }
	/* Prepared: asks, and never guesses. */
#ifdef WRONG_ASKS_ONCE
	:: atomic { d == PREPARED && up && asked == NOT_YET -> asked = epoch; send(to_s, prepared) }
#else
	:: atomic { d == PREPARED && up && epoch != asked -> asked = epoch; send(to_s, prepared) }
#endif
	:: atomic { d == PREPARED && to_d ? [commit] -> to_d ? commit;
		if
		:: d_has -> d_journal = COMMITTED; d = COMMITTED
		:: !d_has -> d_journal = ABANDONED; d = ABANDONED; send(to_s, lost)
		:: refused < REFUSALS -> refused++; d_has = false; d = ABANDONED; send(to_s, lost) /* the journal is full */
		fi }
	:: atomic { d == PREPARED && to_d ? [abort] -> to_d ? abort; d_journal = ABANDONED; d_has = false; d = ABANDONED }
#ifdef WRONG_GUESS
	:: atomic { d == PREPARED && !up -> d_journal = COMMITTED; d = COMMITTED }
#endif
	:: atomic { d == COMMITTED && !d_runs -> d_runs = true }
	:: atomic { d == COMMITTED && !d_runs && refused < REFUSALS -> /* it does not start */
		refused++; d_has = false; d_journal = ABANDONED; d = ABANDONED; send(to_s, lost) }
	:: atomic { d == COMMITTED && d_runs -> d_journal = RUNNING; d = RUNNING; said = false }
	:: atomic { d == RUNNING && !said -> said = true; send(to_s, running) }
	/* The answers of one that has ended. */
	:: atomic { d == RUNNING && nempty(to_d) ->
		if
		:: to_d ? commit -> send(to_s, running)
		:: to_d ? abort -> assert(false)
		:: to_d ? end_of_stream
		fi }
	:: atomic { d == ABANDONED && nempty(to_d) ->
		if
		:: to_d ? commit -> send(to_s, lost)
		:: to_d ? abort
		:: to_d ? end_of_stream
		fi }
	/* Killed and started again. */
	:: atomic { crashes < CRASHES && (d != ABANDONED || d_journal == PREPARED) -> crash();
#ifdef KERNEL_DEVICE
		d_has = false;
		/* Committed, it may have run, and what it did cannot be undone. */
		state_gone = state_gone || d_journal == COMMITTED || d_journal == RUNNING;
		d_runs = false;
#endif
		asked = NOT_YET;
		if
		:: d_journal == RUNNING || (d_journal == COMMITTED && !d_has) -> d_journal = RUNNING; d = RUNNING
		:: d_journal == COMMITTED && d_has -> d = COMMITTED
		:: d_journal == PREPARED -> d = PREPARED
		:: d_journal == NONE -> d = ABANDONED; d_has = false
		fi }
	od
}

/* Never both. When nothing more can happen: one of them, and both know. */
active proctype watch()
{
end:	do
	:: atomic { s_runs && d_runs -> assert(false) }
	:: timeout ->
		assert(s == RUNS_ON || s == DONE);
		assert(d == RUNNING || d == ABANDONED);
		assert(s_runs == (s == RUNS_ON));
		assert(s_runs + d_runs == 1 || state_gone);
		break
	od
}
