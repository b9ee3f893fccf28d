// Package store keeps what the cluster has agreed on: one immutable State,
// replicated by Raft.
//
// A change is a storev1.Command. Apply puts it in the log; once a majority has
// it, every node applies it to its State by a pure function and swaps one
// pointer. Whoever wants to follow loads the State, uses it, and waits on its
// Changed channel: nobody subscribes, nothing queues, and a slow reader skips
// what it has missed.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Errors of Apply and Sync. In both cases of ErrNotLeader and *TooLargeError
// nothing has been done.
var (
	// ErrNotLeader says that this node does not lead, or is giving it up.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrOutcomeUnknown says that a command may or may not come into effect.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// MaxCommand is the most bytes that one command may have: an entry has to
// travel to every node between two heartbeats.
const MaxCommand = 512 << 10

// TooLargeError says that a command is over MaxCommand.
type TooLargeError struct{ Size int }

// Error says how large the command is.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the change has %d bytes, at most %d are allowed", e.Size, MaxCommand)
}

// Config says how a Store is made. All fields but Bootstrap, Epoch and Tune are
// required.
type Config struct {
	NodeID      string         // unique in the cluster and kept for ever
	GRPCAddress string         // where clients and the other nodes reach this node
	Transport   raft.Transport // closed by whoever made it, after the Store
	Storage     *Storage
	Bootstrap   bool        // whether to found a cluster of this one node
	Epoch       uint64      // of a cluster that is founded; 0 means 1
	Audit       AuditLimits // how much audit the cluster keeps while this node leads; zero leaves it as it is
	Fatal       func(error) // ends the process; called when going on would be unsafe
	Logger      *slog.Logger

	// Tune changes Raft's settings, for simulations: with short logs a node is soon
	// sent a snapshot. Nil, as on every node that serves, leaves them as they are.
	Tune func(*raft.Config)
}

// Errors of Open, beside those of the storage.
var (
	// ErrUsed says that a cluster cannot be founded on storage with a past.
	ErrUsed = errors.New("the data directory already belongs to a cluster")
	// ErrHalfRecovered says that a recovery of the storage was cut short.
	ErrHalfRecovered = errors.New("a recovery was cut short: repeat it")
)

// Store is one node's copy of the state. It is safe for concurrent use.
type Store struct {
	config Config
	fsm    *fsm
	raft   *raft.Raft
	sync   barrier
	calls  calls
	writes sync.RWMutex // held by commands, and alone by a restore
	disk   *diskGauge
	cancel context.CancelFunc
	duties sync.WaitGroup
}

// raftConfig returns the settings of Raft. The timeouts are equal on all nodes,
// and the election's equals the heartbeat's: otherwise a node whose disk has
// failed can win every election and then fail to write. Followers learn of a
// commit with the next append or after CommitTimeout; agents hang on followers
// too, so it is short. The log keeps more than the snapshots retained are apart,
// so that falling back to an older snapshot leaves no hole.
func raftConfig(c Config) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.NodeID)
	r.Logger = raftLogger(c.Logger)
	r.HeartbeatTimeout = time.Second
	r.ElectionTimeout = time.Second
	r.LeaderLeaseTimeout = 500 * time.Millisecond
	r.CommitTimeout = 2 * time.Millisecond
	r.MaxAppendEntries = 256
	r.BatchApplyCh = true
	r.SnapshotInterval = 10 * time.Second // what is written between two looks is replayed at a start
	r.SnapshotThreshold = 8192
	r.TrailingLogs = retainSnapshots * 8192
	if c.Tune != nil {
		c.Tune(r)
	}
	return r
}

// NewTransport returns a transport over a layer of connections. Two calls at most
// are under way to a node at a time: more has been seen to wedge the pipeline.
func NewTransport(layer raft.StreamLayer, logger *slog.Logger) raft.Transport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, MaxRPCsInFlight: 2, Timeout: 10 * time.Second,
		Logger: raftLogger(logger.With("part", "transport")),
	})
}

// Open starts a node. Close must be called, before the transport and the storage
// are closed. The error wraps ErrUsed, ErrOtherNode or ErrHalfRecovered if the
// storage is not one to start from.
func Open(c Config) (*Store, error) {
	used, err := c.Storage.Used()
	if err != nil {
		return nil, err
	}
	if used && c.Bootstrap {
		return nil, ErrUsed
	}
	if err := c.Storage.identity.claim(c.NodeID); err != nil {
		return nil, err
	}
	dog := watchdog{logger: c.Logger, fatal: c.Fatal}
	logs := &anchoredLogs{LogStore: watchedLogs{LogStore: c.Storage.logs, dog: dog}}
	stable := watchedStable{StableStore: c.Storage.stable, dog: dog}
	rc := raftConfig(c)
	if c.Bootstrap {
		err := raft.BootstrapCluster(rc, logs, stable, c.Storage.snapshots, c.Transport,
			raft.Configuration{Servers: []raft.Server{{ID: rc.LocalID, Address: c.Transport.LocalAddr()}}})
		if err != nil {
			return nil, fmt.Errorf("found cluster: %w", err)
		}
		used = true
	}
	if used {
		// A past without a cluster is that of a founder that went no further.
		if err := c.Storage.identity.found(); err != nil {
			return nil, fmt.Errorf("found cluster: %w", err)
		}
	}
	f := newFSM()
	f.fatal = c.Fatal
	transport := keepLateSnapshots(c.Transport, logs)
	r, err := raft.NewRaft(rc, f, logs, stable, c.Storage.snapshots, transport)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	logs.raft.Store(r)
	if ours, found := c.Storage.ClusterID(), f.state.Load().ClusterID(); found != "" && found != ours {
		err := fmt.Errorf("%w: its disk is of cluster %s, its state of %s", ErrHalfRecovered, ours, found)
		return nil, errors.Join(err, r.Shutdown().Error())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{config: c, fsm: f, raft: r, disk: &diskGauge{free: c.Storage.free}, cancel: cancel}
	s.duties.Go(func() { transport.run(ctx, r) })
	s.duties.Go(func() { s.lead(ctx) })
	s.duties.Go(func() { s.watchDisk(ctx) })
	return s, nil
}

// closeTimeout bounds how long calls under way may keep a node from stopping.
const closeTimeout = 2 * time.Second

// Close stops the node. Commands on their way end with ErrOutcomeUnknown.
func (s *Store) Close() error {
	s.cancel()
	s.calls.close(closeTimeout)
	err := s.raft.Shutdown().Error()
	s.duties.Wait()
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

// Reach returns the first state of this node that is not older than a goal. The
// goal must be of the same epoch or an earlier one, or ctx must end.
func (s *Store) Reach(ctx context.Context, goal Version) (*State, error) {
	for {
		state := s.State()
		if state.Applied().Compare(goal) >= 0 {
			return state, nil
		}
		select {
		case <-state.Changed():
		case <-ctx.Done():
			return nil, fmt.Errorf("at %v of %v: %w", state.Applied(), goal, context.Cause(ctx))
		}
	}
}

// Age returns the time since this node last heard from a leader; 0 if it leads.
func (s *Store) Age() time.Duration {
	if s.IsLeader() {
		return 0
	}
	return time.Since(s.raft.LastContact())
}

// Term returns the term of Raft that this node is in.
func (s *Store) Term() uint64 { return s.raft.CurrentTerm() }

// LastIndex returns the index of the last entry in this node's log.
func (s *Store) LastIndex() uint64 { return s.raft.LastIndex() }

// HandOver gives leadership to another voter, if this node leads and there is
// one, so that the cluster need not wait for an election when the node stops. It
// is a courtesy: if it fails, an election follows.
func (s *Store) HandOver(timeout time.Duration) {
	members, err := s.Members()
	voters := slices.DeleteFunc(members, func(m Member) bool { return !m.Voter })
	if err != nil || len(voters) < 2 || !s.IsLeader() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := s.TransferLeadership(ctx, ""); err != nil {
		s.config.Logger.Warn("leadership was not handed over; an election will follow", "error", err)
	}
}

// State returns the newest state this node has applied. It never blocks; for
// what the cluster has agreed on by now, call Sync first.
func (s *Store) State() *State { return s.fsm.state.Load() }

// enqueueTimeout bounds how long a command may wait before Raft takes it.
const enqueueTimeout = 5 * time.Second

// Apply puts a command in the log, waits until this node has applied it, and
// returns what it came to. A refusal is an Outcome, not an error. The error wraps
// ErrNotLeader, ErrDiskFull or ErrNotSupported or is a *TooLargeError if nothing was done, and wraps
// ErrOutcomeUnknown otherwise: when ctx ends too early, or leadership is lost
// underway.
func (s *Store) Apply(ctx context.Context, cmd *storev1.Command) (Outcome, error) {
	data, err := s.admit(cmd)
	if err != nil {
		return Outcome{}, err
	}
	s.writes.RLock()
	defer s.writes.RUnlock()
	var future raft.ApplyFuture
	err = s.await(ctx, func() raft.Future {
		future = s.raft.Apply(data, enqueueTimeout)
		return future
	})
	if err != nil {
		return Outcome{}, err
	}
	return future.Response().(Outcome), nil
}

// Preview returns what Apply would do now with one command after the other: the
// state as it is, the state that they would lead to, and what the last of them, or
// the first that is refused, would come to. Nothing is changed. Its errors are
// those of Apply and of Sync.
func (s *Store) Preview(ctx context.Context, cmds ...*storev1.Command) (before, after *State, outcome Outcome, err error) {
	for _, cmd := range cmds {
		if _, err := s.admit(cmd); err != nil {
			return nil, nil, Outcome{}, err
		}
	}
	if err := s.Sync(ctx); err != nil {
		return nil, nil, Outcome{}, err
	}
	before = s.State()
	after, outcome = before.Preview(cmds...)
	return before, after, outcome, nil
}

// admit returns a command as it goes into the log, or why it must not.
func (s *Store) admit(cmd *storev1.Command) ([]byte, error) {
	cmd.Schema = commandSchema(cmd)
	data, err := proto.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if len(data) > MaxCommand {
		return nil, &TooLargeError{Size: len(data)}
	}
	if err := s.State().checkSchema(cmd); err != nil {
		return nil, err
	}
	return data, s.disk.check()
}

// await starts a call of Raft and waits for its end, or that of ctx. Raft resolves
// every call while it runs, but none that it is given while it stops: so the
// goroutine that may stay behind is waited for before that.
func (s *Store) await(ctx context.Context, start func() raft.Future) error {
	if !s.calls.begin() {
		return fmt.Errorf("%w: it has stopped", ErrNotLeader)
	}
	future := start()
	done := make(chan error, 1)
	go func() {
		defer s.calls.end()
		done <- future.Error()
	}()
	select {
	case err := <-done:
		return classify(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// calls counts the calls of Raft under way, until it is closed.
type calls struct {
	mu     sync.Mutex
	closed bool
	open   sync.WaitGroup
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.open.Add(1)
	}
	return !c.closed
}

func (c *calls) end() { c.open.Done() }

// close lets no more calls begin and waits for those under way, for a while: a
// leader without a majority gives them up when its lease ends.
func (c *calls) close(patience time.Duration) {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		c.open.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
	}
}

// classify tells the errors of Raft that say "not done" from those that leave it
// open.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// Sync returns once State holds everything that was acknowledged before the
// call. It must be called on the leader; the error wraps ErrNotLeader otherwise.
//
// It puts a barrier in the log: asking whether this node still leads and then
// reading would let a node that has just been deposed answer with the past.
// Readers that wait at the same time share a barrier.
func (s *Store) Sync(ctx context.Context) error {
	return s.sync.wait(ctx, func() error {
		err := s.await(context.Background(), func() raft.Future { return s.raft.Barrier(enqueueTimeout) })
		if errors.Is(err, ErrOutcomeUnknown) {
			return fmt.Errorf("%w: %w", ErrNotLeader, err) // nothing was asked to be done
		}
		return err
	})
}

// barrier lets callers that arrive while one run of an expensive wait is under
// way share the next one.
type barrier struct {
	mu      sync.Mutex
	running bool
	next    *barrierRun
}

type barrierRun struct {
	done chan struct{}
	err  error
}

func (b *barrier) wait(ctx context.Context, run func() error) error {
	b.mu.Lock()
	if b.next == nil {
		b.next = &barrierRun{done: make(chan struct{})}
	}
	mine := b.next
	if !b.running {
		b.running = true
		go b.loop(run)
	}
	b.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loop runs until nobody waits. A caller joins only runs that have not begun.
func (b *barrier) loop(run func() error) {
	for {
		b.mu.Lock()
		current := b.next
		b.next = nil
		if current == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		current.err = run()
		close(current.done)
	}
}

// lead does what only a leader does, in every term that this node leads: found
// the cluster's identity if nobody has, and record where this node is reached.
func (s *Store) lead(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case leading := <-s.raft.LeaderCh():
			if !leading {
				continue
			}
			for err := s.beginTerm(ctx); err != nil && s.IsLeader(); err = s.beginTerm(ctx) {
				s.config.Logger.Warn("leader duties failed; trying again", "error", err)
				select {
				case <-time.After(dutyPause):
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// dutyPause is the time between two attempts at a leader's duties.
const dutyPause = time.Second

func (s *Store) beginTerm(ctx context.Context) error {
	if err := s.Sync(ctx); err != nil {
		return fmt.Errorf("begin term: %w", err)
	}
	if s.State().ClusterID() == "" {
		cmd := s.command("InitCluster")
		cmd.Op = &storev1.Command_InitCluster{InitCluster: &storev1.InitCluster{
			ClusterId: s.config.Storage.ClusterID(), Epoch: max(s.config.Epoch, 1), Audit: encodeAuditLimits(s.config.Audit),
			Bindings: []*storev1.Binding{EncodeBinding(founder)},
		}}
		if _, err := s.Apply(ctx, cmd); err != nil {
			return fmt.Errorf("found cluster identity: %w", err)
		}
	}
	if err := s.moveSelf(ctx); err != nil {
		return err
	}
	return s.RecordNode(ctx, s.self())
}

func (s *Store) self() Node {
	return Node{ID: s.config.NodeID, GRPCAddress: s.config.GRPCAddress, Schema: Schema}
}

// command returns a command that the node gives itself.
func (s *Store) command(method string) *storev1.Command {
	return &storev1.Command{
		Time:   timestamppb.New(time.Now()),
		Actor:  "node/" + s.config.NodeID,
		Method: method,
	}
}
