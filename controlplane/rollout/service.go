// Package rollout takes promotions of more than one step on: synchronised ones and
// those in waves. Every step is an entry of the log; what this package adds is when
// the leader takes it, which rests on what the nodes report of their agents and on
// the leases that these hold. The rules are those of docs/propagation.md.
package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/discovery"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Config says what a Service works on. All fields are required.
type Config struct {
	Store  *store.Store
	Agents Reporter
	// Conn returns a connection to another node.
	Conn   func(address string) (*grpc.ClientConn, error)
	Logger *slog.Logger
	// ForgetAfter is how long agents stay on the record that hold no stream.
	ForgetAfter time.Duration
}

// Reporter tells what this node knows of its agents. See discovery.Server.Report.
type Reporter interface {
	Report(ctx context.Context, version store.Version) (*fifev1.ReportAgentsResponse, error)
}

// Service serves fife.v1.NodeService, and on the leader takes promotions on.
type Service struct {
	fifev1.UnimplementedNodeServiceServer
	config Config
	grants grants
	absent map[string]time.Time // agents without a stream, since when; Run's alone
}

// New returns a service that is not running.
func New(c Config) *Service { return &Service{config: c, absent: map[string]time.Time{}} }

// Register adds the service to a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) { fifev1.RegisterNodeServiceServer(r, s) }

// RenewGrant gives a node a grant. That a majority still takes this node for its
// leader is asked after the call has come: so no leader of a later term has begun
// before the grant's time.
func (s *Service) RenewGrant(ctx context.Context, req *fifev1.RenewGrantRequest) (*fifev1.RenewGrantResponse, error) {
	asked := time.Now()
	term, err := s.lead(ctx)
	if err != nil {
		return nil, err
	}
	applied := fromVersion(req.GetApplied())
	state := s.config.Store.State()
	if floor := state.EntryFloor(); applied.Compare(floor) < 0 {
		return nil, fmt.Errorf("node %s: %w: it has applied %v, leases need %v", req.GetNodeId(), store.ErrNotCaughtUp, applied, floor)
	}
	if _, ok := state.Node(req.GetNodeId()); !ok {
		return nil, release.Missing("members/" + req.GetNodeId())
	}
	s.grants.give(term, req.GetNodeId(), asked)
	return &fifev1.RenewGrantResponse{
		Ttl:  durationpb.New(discovery.GrantTTL),
		Time: timestamppb.New(time.Now()),
	}, nil
}

// lead makes sure that this node leads now, and returns its term.
func (s *Service) lead(ctx context.Context) (term uint64, err error) {
	term = s.config.Store.Term()
	if err := s.config.Store.Sync(ctx); err != nil {
		return 0, err
	}
	if now := s.config.Store.Term(); now != term {
		return 0, fmt.Errorf("%w: term %d has begun", store.ErrNotLeader, now)
	}
	s.grants.begin(term, time.Now())
	return term, nil
}

// maxRegistration is the most agents that one call puts on the record.
const maxRegistration = 1000

// RegisterAgents puts agents on the record.
func (s *Service) RegisterAgents(
	ctx context.Context, req *fifev1.RegisterAgentsRequest,
) (*fifev1.RegisterAgentsResponse, error) {
	var v release.Violations
	if n := len(req.GetAgents()); n > maxRegistration {
		v.Addf("agents", "%d agents, at most %d are allowed", n, maxRegistration)
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	op := &storev1.RegisterAgents{}
	for _, a := range req.GetAgents() {
		op.Agents = append(op.Agents, &storev1.Agent{Id: a.GetAgentId(), Labels: a.GetLabels()})
	}
	err := s.apply(ctx, &storev1.Command{Method: "RegisterAgents", Op: &storev1.Command_RegisterAgents{RegisterAgents: op}})
	if err != nil {
		return nil, err
	}
	return &fifev1.RegisterAgentsResponse{}, nil
}

// maxRecorded is the most calls that one call puts into the audit.
const maxRecorded = 100

// RecordCalls puts calls into the audit.
func (s *Service) RecordCalls(ctx context.Context, req *fifev1.RecordCallsRequest) (*fifev1.RecordCallsResponse, error) {
	var v release.Violations
	if n := len(req.GetCalls()); n > maxRecorded {
		v.Addf("calls", "%d calls, at most %d are allowed", n, maxRecorded)
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	op := &storev1.RecordCalls{}
	for _, c := range req.GetCalls() {
		op.Calls = append(op.Calls, &storev1.AuditEntry{
			Time: c.GetTime(), Actor: c.GetActor(), Source: c.GetSource(), Method: c.GetMethod(), Resource: c.GetResource(),
			Code: uint32(c.GetCode()), Reason: c.GetReason(), Message: c.GetMessage(), Count: c.GetCount(),
		})
	}
	err := s.apply(ctx, &storev1.Command{Method: "RecordCalls", Op: &storev1.Command_RecordCalls{RecordCalls: op}})
	if err != nil {
		return nil, err
	}
	return &fifev1.RecordCallsResponse{}, nil
}

// ReportAgents returns what this node knows of its agents.
func (s *Service) ReportAgents(
	ctx context.Context, req *fifev1.ReportAgentsRequest,
) (*fifev1.ReportAgentsResponse, error) {
	return s.config.Agents.Report(ctx, fromVersion(req.GetVersion()))
}

// apply carries out a command that this node gives itself. A refusal is an error.
func (s *Service) apply(ctx context.Context, cmd *storev1.Command) error {
	cmd.Time = timestamppb.New(time.Now())
	cmd.Actor = "node/" + s.config.Store.NodeID()
	outcome, err := s.config.Store.Apply(ctx, cmd)
	if err != nil {
		return err
	}
	if outcome.Refusal != nil {
		return outcome.Refusal
	}
	return nil
}
