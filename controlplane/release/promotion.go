package release

import (
	"fmt"
	"slices"
	"time"
)

// Promotion is a promotion that takes more than one step: a synchronised one, or
// one in waves. A stage keeps the last one. Like a Stage it is never changed.
type Promotion struct {
	Number     uint64 // index of the change that opened it
	State      PromotionState
	Mode       SyncMode
	OnTimeout  TimeoutPolicy
	CreateTime time.Time
	Deadline   time.Time // by when agents must be prepared; zero in waves
	Config     Config    // what it leads to
	Former     Config    // what was before; set once committed
	Committed  uint64    // index of the commit; 0 before
	Epoch      uint64    // of the commit
	FlipTime   time.Time // when agents change over; SyncTimed only
	EndTime    time.Time
	Actor      string // who has opened it
	Reason     string // why it was aborted or has halted
	Fenced     uint64 // index of the change that denied leases; 0 if none has
	Report     PromotionReport
	Waves      []ReachedWave
}

// PromotionState says where a promotion is. The values are kept in the log.
type PromotionState uint8

// The states of a promotion.
const (
	Preparing PromotionState = 1 + iota // agents get it ready
	Rolling                             // the agents of the waves reached route by it
	Halted                              // as Rolling, but it goes on only if told to
	Committed                           // agents change over
	Complete                            // no agent with a lease routes by what was before
	Aborted                             // all agents route by what was before
)

// String returns the state as it is written in messages.
func (s PromotionState) String() string {
	return [...]string{"NONE", "PREPARING", "ROLLING", "HALTED", "COMMITTED", "COMPLETE", "ABORTED"}[s]
}

// SyncMode says how agents change over. The values are kept in the log.
type SyncMode uint8

// The modes of a promotion.
const (
	SyncVersion SyncMode = 1 + iota // each when it learns of the commit
	SyncTimed                       // all at one time
	SyncWaves                       // wave by wave
)

// TimeoutPolicy says what happens to a promotion at its deadline. The values are
// kept in the log.
type TimeoutPolicy uint8

// The policies of a deadline.
const (
	TimeoutAbort TimeoutPolicy = 1 + iota // the promotion is aborted
	TimeoutWait                           // it waits on
	TimeoutFence                          // leases are denied, and it goes on without their agents
)

// Bounds of the time in which agents get a promotion ready.
const (
	MinPrepareTimeout     = time.Second
	MaxPrepareTimeout     = 10 * time.Minute
	DefaultPrepareTimeout = 30 * time.Second
)

// PromotionReport is the evidence for a promotion.
type PromotionReport struct {
	Agents     uint32        // on the record when it was committed
	Prepared   uint32        // those of them that were prepared
	Fenced     []string      // not prepared, and denied their leases
	Stale      []string      // without a lease, and maybe on what was before
	Refused    []string      // refused it
	Window     time.Duration // how long both configurations were in use at most
	ClockError time.Duration // how far agents may have been wrong about the leader's clock
}

// SyncOptions are how a synchronised promotion is asked for.
type SyncOptions struct {
	Mode           SyncMode
	OnTimeout      TimeoutPolicy
	PrepareTimeout time.Duration
}

// Open reports whether the promotion has not ended; nil has.
func (p *Promotion) Open() bool { return p != nil && p.State != Complete && p.State != Aborted }

// Undecided reports whether the promotion is open and not committed.
func (p *Promotion) Undecided() bool { return p.Open() && p.State != Committed }

// checkNoPromotion refuses a change of what a stage serves beside an open promotion.
func (s *Stage) checkNoPromotion() error {
	if !s.Promotion.Open() {
		return nil
	}
	return refuse(PromotionOpen, s.Name(), "%s has an open promotion, %d, which is %v; wait for its end, or abort it",
		s.Name(), s.Promotion.Number, s.Promotion.State).
		with("promotion", fmt.Sprint(s.Promotion.Number)).with("state", s.Promotion.State.String())
}

// OpenPromotion opens a promotion of the canary under a number: in the stage's waves
// if it has any, else as the options say. Nothing is served differently yet.
func (s *Stage) OpenPromotion(c Change, number uint64, keep bool, sync SyncOptions) (*Stage, error) {
	if err := s.checkNoPromotion(); err != nil {
		return nil, err
	}
	config, err := s.promoted(c, keep)
	if err != nil {
		return nil, err
	}
	if err := s.checkPromoter(c); err != nil {
		return nil, err
	}
	c.Note = s.Config.Canary.provenance()
	p := &Promotion{
		Number: number, State: Preparing, Mode: sync.Mode, OnTimeout: sync.OnTimeout, CreateTime: c.Time, Config: config, Actor: c.Caller,
	}
	switch {
	case sync.Mode == SyncWaves && len(s.Waves) == 0:
		return nil, refuse(NoPromotion, s.Name(), "%s has no waves; promote it at once, or synchronised", s.Name())
	case sync.Mode != SyncWaves && len(s.Waves) > 0:
		return nil, refuse(InvalidField, s.Name(), "%s has waves, so its promotions cannot be synchronised", s.Name())
	case sync.Mode == SyncWaves:
		p.State, p.OnTimeout = Rolling, 0
	default:
		p.Deadline = c.Time.Add(sync.PrepareTimeout)
	}
	next := s.next(c, s.Config)
	next.Promotion = p
	return next, nil
}

// open returns the promotion of a number, or the open one for 0, if it is in one of
// some states.
func (s *Stage) open(number uint64, states ...PromotionState) (Promotion, error) {
	p := s.Promotion
	switch {
	case p == nil || (number != 0 && p.Number != number) || (number == 0 && !p.Open()):
		return Promotion{}, refuse(NoPromotion, s.Name(), "%s has no open promotion that this could be done to", s.Name())
	case !slices.Contains(states, p.State):
		return Promotion{}, refuse(NoPromotion, s.Name(), "promotion %d of %s is %v, which does not allow this", p.Number, s.Name(), p.State)
	}
	return *p, nil
}

// withPromotion returns the stage with its promotion one step on.
func (s *Stage) withPromotion(c Change, config Config, p Promotion) *Stage {
	next := s.next(c, config)
	next.Promotion = &p
	return next
}

// CommitPromotion makes what a promotion leads to the stage's own configuration, at
// the given epoch and index. With a flip time, agents route by the former one until then.
func (s *Stage) CommitPromotion(c Change, epoch, index, number uint64, flip time.Time, report PromotionReport) (*Stage, error) {
	p, err := s.open(number, Preparing, Rolling)
	if err != nil {
		return nil, err
	}
	p.State, p.Epoch, p.Committed, p.FlipTime, p.Report, p.Former = Committed, epoch, index, flip, report, s.Config
	if p.Actor != "" {
		c.Note = "promoted by " + p.Actor
	}
	next := s.withPromotion(c, p.Config, p)
	next.Promoted = p.Number
	return next, nil
}

// CompletePromotion ends a committed promotion that no agent with a lease lags
// behind.
func (s *Stage) CompletePromotion(c Change, number uint64, report PromotionReport) (*Stage, error) {
	p, err := s.open(number, Committed)
	if err != nil {
		return nil, err
	}
	p.State, p.EndTime, p.Report = Complete, c.Time, report
	return s.withPromotion(c, s.Config, p), nil
}

// AbortPromotion ends a promotion that is not committed.
func (s *Stage) AbortPromotion(c Change, number uint64, reason string) (*Stage, error) {
	p, err := s.open(number, Preparing, Rolling, Halted)
	if err != nil {
		return nil, err
	}
	return s.withPromotion(c, s.Config, *p.aborted(c, reason)), nil
}

// aborted returns the promotion as ended; nil for nil.
func (p *Promotion) aborted(c Change, reason string) *Promotion {
	if !p.Open() {
		return p
	}
	ended := *p
	ended.State, ended.EndTime, ended.Reason = Aborted, c.Time, reason
	return &ended
}

// FencePromotion records at an index that agents which lag are denied their leases.
func (s *Stage) FencePromotion(c Change, index, number uint64) (*Stage, error) {
	p, err := s.open(number, Preparing)
	if err != nil {
		return nil, err
	}
	p.Fenced = index
	return s.withPromotion(c, s.Config, p), nil
}

// HaltPromotion stops a promotion in waves where it is.
func (s *Stage) HaltPromotion(c Change, number uint64, reason string) (*Stage, error) {
	p, err := s.open(number, Rolling)
	if err != nil {
		return nil, err
	}
	p.State, p.Reason = Halted, reason
	return s.withPromotion(c, s.Config, p), nil
}

// ResumePromotion lets a halted promotion go on, which only those decide who could
// have opened it.
func (s *Stage) ResumePromotion(c Change, number uint64) (*Stage, error) {
	p, err := s.open(number, Halted)
	if err != nil {
		return nil, err
	}
	if err := s.checkPromoter(c); err != nil {
		return nil, err
	}
	p.State, p.Reason = Rolling, ""
	return s.withPromotion(c, s.Config, p), nil
}
