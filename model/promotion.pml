/*
 * Leases and synchronised promotions: the rules of docs/propagation.md, for three
 * agents, two nodes (each of which may lead) and one promotion, checked by Spin:
 *
 *	make model
 *
 * What is modelled
 *
 * The log is atomic: an entry is there or not. The nodes and the leader, which is
 * one of them, apply it one entry at a time and as late as they like. A leader
 * decides by what it has applied and by what nodes have reported to it; its
 * decision reaches the log later, perhaps only after another leads.
 *
 * A message is what its receiver does. It may do so at any time, or never, and in
 * any order: so messages are lost, late and out of order without bound. A late one
 * brings something old: a frame any state up to the node's, a report what was true
 * then. The two that time is counted from need more care. A lease runs from when
 * the agent asked, and a grant from when the node did: the model counts both from
 * when they are given, so they last at least as long as in any run in which these
 * messages take time, and what holds here holds there.
 *
 * An agent is not tied to a node: it may take each frame and each lease from any.
 * The record of agents is left out, so that every agent may have a lease at any
 * time: that contains all runs in which agents are put on it and taken off.
 *
 * Time is in ticks. A timer that is set to k ends in the k-th tick from then, so
 * what is given in the last tick of a grant ends GRANT + LEASE - 1 ticks after the
 * grant was given. With SLOW=1 the clocks of agents are slow by as much as is
 * allowed, a tick in the time of a lease: it lasts for LEASE ticks, and by the
 * node's own clock for one less.
 *
 * Bounds: one promotion with at most one fence and one rollback, one change of the
 * leader, one restart of a node and one of an agent (-D sets them, see below).
 * Not modelled: the mode `timed`, waves, what is reported, forgetting a node, and
 * whether anything ever happens: a rule that is there for progress alone (P5, and
 * the floor of a fence) can be taken out unnoticed.
 *
 * Each rule can be taken out with -DNO_...; model/check says what that breaks.
 */

#define GRANT 1
#ifndef SLOW
#define SLOW 0	/* by how much a clock may be slow in the time of a lease */
#endif
#define LEASE (2 + SLOW)	/* by the slowest clock */
#define LAST  (GRANT + LEASE - 1)	/* until when a lease lasts that a grant allows */

#ifndef CHANGES
#define CHANGES 1	/* of the leader */
#endif
#ifndef RESTARTS
#define RESTARTS 1	/* of nodes */
#endif
#ifndef CRASHES
#define CRASHES 1	/* of agents */
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 1
#endif

/* The log: how many entries it has, and the index of each; 0 while it is not there. */
unsigned end : 3;
unsigned opened : 3;
unsigned fenced : 3;
unsigned commit : 3;
unsigned done : 3;
unsigned aborted : 3;
unsigned back : 3;

/* Decisions of a leader on their way to the log. */
bit committing, completing;

/* Nodes: what they have applied, how long their grants last, for how long they are
 * unsure of leases that they gave before a restart, and how long those they know of
 * last. */
byte at[2], grant[2], unsure[2], view[6];
#define VIEW(n, a) view[(n)*3 + (a)]

/* The leader: which node it is, until when a node that does not answer may have
 * leases out, and of which agents a node has no lease, as far as it is concerned. */
bit lead;
byte wait[2];
bit none[6];
#define NONE(n, a) none[(n)*3 + (a)]
#define SEES at[lead]

/* Agents: the state they have applied, their leases, and of the configurations
 * whether they route by the new one or hold it ready. */
byte has[3], lease[3];
bit cur[3], next[3];
#ifdef NO_P2
byte disk[3];
#endif

byte changes, restarts, crashes;
byte window;	/* how long both configurations may be in use */

bit G1 = 1, G2 = 1, G3 = 1, G4 = 1, G5 = 1, ONCE = 1;
byte i, t;

/* The state after the first k entries. */
#define IN(entry, k) (entry && (k) >= entry)
#define PREPARING(k) (IN(opened, k) && !IN(commit, k) && !IN(aborted, k))
#define COMMITTED(k) (IN(commit, k) && !IN(done, k))
#define CUR(k) (IN(commit, k) && !IN(back, k))
#define NEXT(k) PREPARING(k)
#define GOAL(k) (IN(commit, k) -> commit : opened)

/* L4 and P4: the floors. */
#ifdef NO_P4
#define RAISED_BY_COMMIT(k) 0
#elif defined(NO_L4_RISE)
#define RAISED_BY_COMMIT(k) COMMITTED(k)
#else
#define RAISED_BY_COMMIT(k) IN(commit, k)
#endif
#ifdef NO_L4_OPEN
#define RAISED_BY_OPEN(k) 0
#else
#define RAISED_BY_OPEN(k) IN(opened, k)
#endif
#ifdef NO_L4_FENCE
#define RAISED_BY_FENCE(k) 0
#else
#define RAISED_BY_FENCE(k) IN(fenced, k)
#endif
#define RENEWAL(k) (RAISED_BY_COMMIT(k) -> commit : (RAISED_BY_FENCE(k) -> fenced : 0))
#define ENTRY(k) (RENEWAL(k) -> RENEWAL(k) : (RAISED_BY_OPEN(k) -> opened : 0))

/* L1: grants. */
#ifdef NO_L1
#define GRANTED(n) 1
#else
#define GRANTED(n) grant[n]
#endif

/* L2: who gets one, of a leader that has applied what the log holds by then. */
#ifdef NO_L2_READ
#define READ 1
#else
#define READ (SEES == end)
#endif
#ifdef NO_L2_FLOOR
#define CAUGHT_UP(n, k) 1
#else
#define CAUGHT_UP(n, k) (at[n] >= ENTRY(k))
#endif

/* L3: who gets a lease. What counts as having one is by the node's own clock. */
#ifdef NO_L3_RENEWAL
#define RENEWS(n, a) 1
#else
#define RENEWS(n, a) (has[a] >= RENEWAL(at[n]))
#endif
#ifdef NO_P3	/* the entry floor of L3 */
#define ENTERS(n, a) RENEWS(n, a)
#else
#define ENTERS(n, a) (has[a] >= ENTRY(at[n]))
#endif
#define MAY(n, a) (VIEW(n, a) > SLOW -> RENEWS(n, a) : ENTERS(n, a))
#ifdef NO_SENT	/* an agent's lease from when it asked */
#define LASTS (LEASE + 1)
#else
#define LASTS LEASE
#endif

/* L5: how long the leader waits for a node that does not answer; what it takes from
 * one that does. */
#ifdef NO_L5_LEASE
#define WAIT GRANT
#else
#define WAIT LAST
#endif
#ifdef NO_L5_TERM
#define BEGIN 0
#else
#define BEGIN WAIT
#endif
#ifdef NO_L5_APPLIED
#define ANSWERS(n) 1
#else
#define ANSWERS(n) (at[n] >= GOAL(SEES))
#endif
#ifdef NO_RATE	/* what is added for a slow clock where a lease is waited for */
#define OUT(n, a) (VIEW(n, a) > SLOW)
#else
#define OUT(n, a) VIEW(n, a)
#endif

/* L6: what a node is unsure of. */
#ifdef NO_L6
#define UNSURE 0
#else
#define UNSURE LEASE
#endif

/* P1: what the log takes. */
#ifdef NO_P1
#define TAKES_COMMIT 1
#else
#define TAKES_COMMIT PREPARING(end)
#endif

/* G1: which states an agent takes; G2: from which one. */
#ifdef NO_SEEN
#define TAKES(a, k) ((k) != has[a])
#else
#define TAKES(a, k) ((k) > has[a])
#endif
#ifdef NO_FROM
#define FROM(a) 0
#else
#define FROM(a) has[a]
#endif

/* The guarantees, of an agent. Whoever is told to abort has nothing ready; whoever is
 * told to go back had. */
#define MIXED(a) (cur[a] != CUR(has[a]) || next[a] != NEXT(has[a]))
#define UNREADY(a) (lease[a] && !PREPARING(has[a]) && !IN(commit, has[a]))
#define STALE(a) (lease[a] && has[a] < commit)
#define ANY(P) (P(0) || P(1) || P(2))

inline check() {
	if :: ANY(MIXED) -> G2 = 0; assert(G2) :: else fi;
	if :: (cur[0] || cur[1] || cur[2]) && ANY(UNREADY) -> G3 = 0; assert(G3) :: else fi;
	if :: commit && !window && ANY(STALE) -> G4 = 0; assert(G4) :: else fi;
	if :: done && ANY(STALE) -> G5 = 0; assert(G5) :: else fi
}

/* The agents are alike: they are kept in order, so that no state is visited again
 * with two of them exchanged. */
#define KEY(a) (has[a] << 8 | lease[a] << 6 | VIEW(0, a) << 4 | VIEW(1, a) << 2 | NONE(0, a) << 1 | NONE(1, a))
#define EXCHANGE(x, y) t = x; x = y; y = t
inline order(a, b) {
	if
	:: KEY(a) < KEY(b) ->
		EXCHANGE(has[a], has[b]); EXCHANGE(lease[a], lease[b]);
		EXCHANGE(cur[a], cur[b]); EXCHANGE(next[a], next[b]);
		EXCHANGE(VIEW(0, a), VIEW(0, b)); EXCHANGE(VIEW(1, a), VIEW(1, b));
		EXCHANGE(NONE(0, a), NONE(0, b)); EXCHANGE(NONE(1, a), NONE(1, b));
#ifdef NO_P2
		EXCHANGE(disk[a], disk[b]);
#endif
		t = 0
	:: else
	fi
}
inline step() {
	check();
#ifndef NO_L5_ALL	/* there they are not alike */
	order(0, 1); order(1, 2); order(0, 1)
#endif
}

inline down(x) { if :: x -> x-- :: else fi }

inline tick() {
	for (i : 0 .. 1) { down(grant[i]); down(wait[i]); down(unsure[i]) }
	for (i : 0 .. 2) { down(lease[i]) }
	for (i : 0 .. 5) { down(view[i]) }
	i = 0;
	down(window)
}

inline forget() { for (i : 0 .. 5) { none[i] = 0 } i = 0 }

/* Leases stop to matter where nothing can depend on them any more, which saves states:
 * that of an agent that has applied the commit, and all after an abort, since nothing
 * is committed then (P1). */
#ifdef NO_P1
#define MATTERS(a) 1
#define OVER 0
#else
#define MATTERS(a) (!OVER && !IN(commit, has[a]))
#define OVER aborted
#endif
inline unlease(a) { lease[a] = 0; VIEW(0, a) = 0; VIEW(1, a) = 0 }
inline stop() {
	unlease(0); unlease(1); unlease(2); forget();
	for (i : 0 .. 1) { grant[i] = 0; wait[i] = 0; unsure[i] = 0 }
	i = 0
}

/* An agent applies a frame to state k, of what has changed since another one. */
inline apply(a, k) {
	if :: k < has[a] -> G1 = 0; assert(G1) :: else fi;
	if :: CUR(FROM(a)) != CUR(k) -> cur[a] = CUR(k) :: else fi;
	if :: NEXT(FROM(a)) != NEXT(k) -> next[a] = NEXT(k) :: else fi;
	has[a] = k;
	if :: IN(opened, SEES) && k >= GOAL(SEES) -> NONE(0, a) = 0; NONE(1, a) = 0 :: else fi;
	if :: !MATTERS(a) -> unlease(a) :: else fi
}

#define OPEN (!OVER && IN(opened, SEES) && !IN(done, SEES) && !IN(aborted, SEES))
#define BEHIND(a) (has[a] < GOAL(SEES))
#ifdef NO_L5_ALL	/* agents with leases count, also those off the record: 2 is off it */
#define READY(a) ((a) == 2 || !BEHIND(a) || (NONE(0, a) && NONE(1, a)))
#else
#define READY(a) (!BEHIND(a) || (NONE(0, a) && NONE(1, a)))
#endif
#define ALL_READY (READY(0) && READY(1) && READY(2))

#define NEWS(n, a) (BEHIND(a) && !NONE(n, a))

#define NODE(n) \
	/* applies an entry */ \
	:: d_step { at[n] < end -> at[n]++; \
		if :: n == lead && at[n] == commit -> forget() :: else fi; step() } \
	/* gets a grant */ \
	:: d_step { !OVER && READ && CAUGHT_UP(n, SEES) && (grant[n] < GRANT || wait[n] < WAIT) -> \
		grant[n] = GRANT; wait[n] = WAIT; step() } \
	/* gets one of a leader that has been succeeded */ \
	DEPOSED(n) \
	/* reports its agents */ \
	:: d_step { OPEN && ANSWERS(n) && !unsure[n] && (REPORTS(n, 0) || REPORTS(n, 1) || REPORTS(n, 2)) -> \
		for (i : 0 .. 2) { if :: REPORTS(n, i) -> NONE(n, i) = 1 :: else fi } i = 0; step() } \
	/* has been silent for long enough */ \
	:: d_step { OPEN && !wait[n] && (NEWS(n, 0) || NEWS(n, 1) || NEWS(n, 2)) -> \
		for (i : 0 .. 2) { if :: NEWS(n, i) -> NONE(n, i) = 1 :: else fi } i = 0; step() } \
	/* starts again, from nothing */ \
	:: d_step { restarts < RESTARTS && n != lead -> restarts++; \
		at[n] = 0; grant[n] = 0; unsure[n] = UNSURE; \
		VIEW(n, 0) = 0; VIEW(n, 1) = 0; VIEW(n, 2) = 0; step() } \
	LEASES(n, 0) LEASES(n, 1) LEASES(n, 2)

#define REPORTS(n, a) (NEWS(n, a) && !OUT(n, a))

#ifdef NO_L2_LEADS
#define DEPOSED(n) :: d_step { changes && CAUGHT_UP(n, at[1 - lead]) && grant[n] < GRANT -> grant[n] = GRANT; step() }
#else
#define DEPOSED(n)
#endif

#define LEASES(n, a) \
	:: d_step { MATTERS(a) && GRANTED(n) && MAY(n, a) && (lease[a] < LASTS || VIEW(n, a) < LEASE) -> \
		lease[a] = LASTS; VIEW(n, a) = LEASE; step() }

/* A frame comes from whichever node has applied so much. */
#define FRAME(a, k) \
	:: d_step { (k <= at[0] || k <= at[1]) && TAKES(a, k) -> apply(a, k); step() }
#define FRAMES(a) FRAME(a, 1) FRAME(a, 2) FRAME(a, 3) FRAME(a, 4) FRAME(a, 5)

#ifdef NO_P2
#define CRASH(a) \
	:: d_step { disk[a] != has[a] -> disk[a] = has[a]; step() } \
	:: d_step { crashes < CRASHES -> crashes++; lease[a] = 0; \
		if :: disk[a] < has[a] -> G1 = 0; assert(G1) :: else fi; step() }
#else
#define CRASH(a) \
	:: d_step { crashes < CRASHES && lease[a] -> crashes++; lease[a] = 0; step() }
#endif

#define AGENT(a) FRAMES(a) CRASH(a)

active proctype world() {
	do
	:: d_step { tick(); step() }

	/* the operator; an agent that refuses does the same as an abort of his */
	:: d_step { !opened -> end++; opened = end; step() }
	:: d_step { PREPARING(end) -> end++; aborted = end; if :: OVER -> stop() :: else fi; step() }
	:: d_step { ROLLBACKS && CUR(end) -> end++; back = end; step() }

	/* the leader */
	:: d_step { PREPARING(SEES) && PREPARING(end) && !fenced -> end++; fenced = end; step() }
	:: d_step { !OVER && PREPARING(SEES) && !committing && ALL_READY -> committing = 1 }
	:: d_step { COMMITTED(SEES) && !completing && ALL_READY -> completing = 1 }
	:: d_step { committing -> committing = 0;
		if
		:: TAKES_COMMIT ->
			if :: commit -> ONCE = 0; assert(ONCE) :: else fi;
			end++; commit = end; window = LAST
		:: else
		fi;
		step() }
	:: d_step { completing -> completing = 0;
		if :: COMMITTED(end) -> end++; done = end :: else fi;
		step() }
	:: d_step { changes < CHANGES -> changes++; lead = 1 - lead; forget();
		if :: !OVER -> wait[0] = BEGIN; wait[1] = BEGIN :: else fi; step() }

	NODE(0)
	NODE(1)
	AGENT(0)
	AGENT(1)
	AGENT(2)
	od
}
