/*
 * Leases and the synchronised promotion by the rules of docs/propagation.md: two nodes
 * that grant leases to three agents, a leader that may change, a node that may start
 * again, messages that are late or lost, and time in ticks.
 *
 * What is in the log is a level, as its entries come in one order: 0 nothing, 1
 * opened, 2 fenced (or not), 3 decided, 4 complete. A node and an agent have applied
 * the log up to a level of theirs. A message is what its receiver does, at any time or
 * never: an agent takes a state, a node applies an entry, a proposal lands. A lease
 * runs from when the agent asked; it is counted from when it is granted here, which is
 * the latest that can be. An agent is not tied to a node.
 *
 * Bounds: one promotion, one change of the leader, one restart of a node. Not in it:
 * waves, what is in a report, and that anything ever happens.
 *
 * Each rule is taken out by -DNO_<rule>. `model/check` runs all of them and wants a
 * guarantee broken by each. Leases of one tick, the default, end before they can be
 * renewed; -DTTL=2 has renewals, and -DTWO_AGENTS keeps that small enough.
 */
#define GRANT 1           /* ticks that a grant lasts, from when the node asked */
#ifndef TTL
#define TTL   1           /* ticks that a lease lasts, from when the agent asked */
#endif
#define SURE  (GRANT + TTL - 1) /* after which the last lease of a silent node is over */

byte log;                 /* level of the log */
bit aborted, fenced;
bit commits, completes;   /* proposals on their way to the log */
byte window;              /* ticks left in which leased agents may differ */

byte node[2];             /* level that a node has applied */
byte grant[2];            /* ticks left of its grant */
byte unsure[2];           /* ticks in which it does not know what it granted earlier */
byte lease0[3], lease1[3]; /* ticks left of the leases it granted, by its own view */

byte agent[3];            /* level that an agent has on its disk, and routes by */
byte held[3];             /* ticks left of its lease, by its own view */

byte quiet[2];            /* ticks until a silent node's last lease is over, to the leader */
bit clear[2];             /* whether nobody who may serve by this node lags */
byte changes, restarts;
byte i;

/* The floors in a state of some level. */
#define COMMITTED(l) ((l) >= 3 && !aborted)
#define RENEWAL(l) (COMMITTED(l) -> 3 : ((l) >= 2 && fenced -> 2 : 0))
#define ENTRY(l)   (COMMITTED(l) -> 3 : ((l) >= 2 && fenced -> 2 : ((l) >= 1 -> 1 : 0)))
#ifdef NO_L4_ENTRY
#undef ENTRY
#define ENTRY(l) RENEWAL(l)
#endif
#ifdef NO_P4
#undef RENEWAL
#define RENEWAL(l) ((l) >= 2 && fenced -> 2 : 0)
#endif

/* What the leader waits for: that all have it who may serve. */
#define GOAL (log >= 3 -> 3 : 1)
#define LAGS(a) (agent[a] < GOAL)

#define OLD(a, l) (held[a] && agent[a] < (l))
#define ANYOLD(l) (OLD(0, l) || OLD(1, l) || OLD(2, l))
#define ANYNEW    (agent[0] >= 3 || agent[1] >= 3 || agent[2] >= 3)

inline check() {
	assert(!(!aborted && ANYNEW && ANYOLD(1)));          /* G3 */
	assert(!(COMMITTED(log) && !window && ANYOLD(3)));   /* G4 */
	assert(!(log == 4 && ANYOLD(3)))                     /* G5 */
}

inline down(x) { if :: x > 0 -> x-- :: else fi }

inline tick() {
	down(grant[0]); down(grant[1]); down(quiet[0]); down(quiet[1]); down(unsure[0]); down(unsure[1]);
	down(lease0[0]); down(lease0[1]); down(lease0[2]); down(lease1[0]); down(lease1[1]); down(lease1[2]);
	down(held[0]); down(held[1]); down(held[2]); down(window)
}

inline look_again() { clear[0] = 0; clear[1] = 0 }

#ifdef NO_L1
#define GRANTED(n) 1
#else
#define GRANTED(n) (grant[n] > 0)
#endif
#ifdef NO_L3
#define MAY(l, a, n) 1
#else
#define MAY(l, a, n) (agent[a] >= (l[a] > 0 -> RENEWAL(node[n]) : ENTRY(node[n])))
#endif
/* An agent asks node n for a lease. */
#define RENEW(l, n, a) \
	:: d_step { GRANTED(n) && MAY(l, a, n) && (l[a] < TTL || held[a] < TTL) -> l[a] = TTL; held[a] = TTL; check() }

/* An agent takes the newest state of node n, and is never taken back. */
#ifdef NO_P2
#define FRAME(n, a) \
	:: d_step { node[n] != agent[a] -> assert(node[n] > agent[a]) /* G1 */; agent[a] = node[n]; check() }
#else
#define FRAME(n, a) \
	:: d_step { node[n] > agent[a] -> agent[a] = node[n]; check() }
#endif

/* A node applies the next entry. */
#define APPLY(n) :: d_step { node[n] < log -> node[n]++; check() }

/* The leader gives node n a grant. */
#ifdef NO_L2_FLOOR
#define READY(n) 1
#else
#define READY(n) (node[n] >= ENTRY(log))
#endif
#define GIVE(n) \
	:: d_step { READY(n) && (grant[n] < GRANT || quiet[n] < SURE) -> grant[n] = GRANT; quiet[n] = SURE; check() }
/* A leader of before, which nobody confirms any more, does so: the new one knows nothing of it. */
#ifdef NO_L2_LEADS
#define STALE(n) \
	:: d_step { changes && node[n] >= 0 -> grant[n] = GRANT; check() }
#else
#define STALE(n)
#endif

/* Node n reports its agents, once it has applied what they are to come to. */
#ifdef NO_L5_APPLIED
#define APPLIED(n) 1
#else
#define APPLIED(n) (node[n] >= GOAL)
#endif
#ifdef NO_L6
#define SURELY(n) 1
#else
#define SURELY(n) (unsure[n] == 0)
#endif
#define KNOWN(l, a) (!LAGS(a) || l[a] == 0)
#define REPORT(l, n) \
	:: d_step { log >= 1 && log < 4 && !aborted && !clear[n] && APPLIED(n) && SURELY(n) && KNOWN(l, 0) && KNOWN(l, 1) && KNOWN(l, 2) \
		-> clear[n] = 1; check() }
/* It does not, and is waited for. */
#ifdef NO_L5_WAIT
#define OVER(n) 1
#else
#define OVER(n) (quiet[n] == 0)
#endif
#define SILENT(n) \
	:: d_step { log >= 1 && log < 4 && !aborted && !clear[n] && OVER(n) -> clear[n] = 1; check() }

#ifdef NO_L6
#define FORGET 0
#else
#define FORGET TTL
#endif
#define RESTART(l, n) \
	:: d_step { restarts < 1 -> restarts++; node[n] = 0; grant[n] = 0; unsure[n] = FORGET; \
		l[0] = 0; l[1] = 0; l[2] = 0; check() }

#ifdef NO_L5_TERM
#define BEGIN(n) quiet[n] = 0
#else
#define BEGIN(n) quiet[n] = SURE
#endif

#ifdef NO_P1
#define LANDS 1
#else
#define LANDS (log < 3 && log > 0)
#endif

init {
	do
	:: d_step { tick(); check() }

	/* the log: whoever leads, an entry lands at most once and in its place */
	:: d_step { log == 0 -> log = 1; look_again(); check() }
	:: d_step { log == 1 -> log = 2; fenced = 1; check() }
	:: d_step { log == 1 || log == 2 -> log = 3; aborted = 1; check() }
	:: d_step { (log == 1 || log == 2) && clear[0] && clear[1] && !commits -> commits = 1; check() }
	:: d_step { log == 3 && !aborted && clear[0] && clear[1] && !completes -> completes = 1; check() }
	:: d_step { commits ->
		commits = 0;
		if
		:: LANDS -> assert(!aborted && log < 3); log = 3; window = SURE; look_again() /* once, and not after an abort */
		:: else
		fi;
		check() }
	:: d_step { completes && log == 3 -> completes = 0; log = 4; check() }
	:: d_step { commits -> commits = 0 }
	:: d_step { completes -> completes = 0 }

	/* another leader, who knows nothing but the log */
	:: d_step { changes < 1 -> changes++; look_again(); BEGIN(0); BEGIN(1); check() }

	RESTART(lease0, 0)
	RESTART(lease1, 1)
	APPLY(0)
	APPLY(1)
	GIVE(0)
	GIVE(1)
	STALE(0)
	STALE(1)
	RENEW(lease0, 0, 0) RENEW(lease0, 0, 1) RENEW(lease1, 1, 0) RENEW(lease1, 1, 1)
	FRAME(0, 0) FRAME(0, 1) FRAME(1, 0) FRAME(1, 1)
#ifndef TWO_AGENTS
	RENEW(lease0, 0, 2) RENEW(lease1, 1, 2)
	FRAME(0, 2) FRAME(1, 2)
#endif
	REPORT(lease0, 0)
	REPORT(lease1, 1)
	SILENT(0)
	SILENT(1)
	od
}
