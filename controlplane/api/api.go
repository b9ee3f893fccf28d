// Package api is the operators' face of the control plane: the services of
// fife.v1.
//
// A handler checks the shape of a request, builds a command and gives it to the
// store. It decides nothing and reads no state before it does so: what a change
// may do is decided when it is applied, by the rules of package release. Whether
// this node leads is not a handler's business either: see Forwarder.
package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Fleet is what the services need to know of the agents on this node.
type Fleet interface {
	// Len returns the number of agents that hold a stream to this node.
	Len() int
	// Agents returns the agents that hold a stream to this node, in id order, and
	// a channel that is closed when that answer is out of date.
	Agents() ([]*fifev1.Agent, <-chan struct{})
}

// Config says what the services work on. All fields but Trust, Bearers and Sealer are
// required.
type Config struct {
	Store  *store.Store
	Fleet  Fleet
	Peers  *Peers
	Key    ClusterKey
	Build  string
	Logger *slog.Logger

	Trust   NodeTrust // nil if nobody has a certificate
	Bearers *Bearers  // nil if nobody is asked for a token
	Sealer  Sealer    // nil on a node that has nothing to seal with
}

// Register adds the services of fife.v1 to a gRPC server.
func Register(s grpc.ServiceRegistrar, c Config) {
	changer := changer{c.Store, c.Sealer}
	fifev1.RegisterApiServiceServer(s, &apiService{changer: changer})
	fifev1.RegisterDeploymentServiceServer(s, &deploymentService{changer: changer})
	fifev1.RegisterStageServiceServer(s, &stageService{changer: changer, peers: c.Peers})
	fifev1.RegisterFleetServiceServer(s, &fleetService{store: c.Store, fleet: c.Fleet, peers: c.Peers, logger: c.Logger})
	fifev1.RegisterAuditServiceServer(s, &auditService{changer: changer})
	fifev1.RegisterTokenServiceServer(s, &tokenService{changer: changer})
	joins := &joinService{store: c.Store, key: c.Key, renewals: newUsages(renewalLimit)}
	fifev1.RegisterJoinServiceServer(s, joins)
	fifev1.RegisterCertificateServiceServer(s, &certificateService{changer: changer, issuer: joins})
	fifev1.RegisterAuthorityServiceServer(s, &authorityService{changer: changer, peers: c.Peers, key: c.Key, node: c.Trust})
	fifev1.RegisterAccessServiceServer(s, &accessService{changer: changer, bearers: c.Bearers})
	fifev1.RegisterSignInServiceServer(s, &signInService{bearers: c.Bearers})
	fifev1.RegisterAccessKeyServiceServer(s, &accessKeyService{changer: changer, key: c.Key, bearers: c.Bearers})
	fifev1.RegisterClusterServiceServer(s, &clusterService{store: c.Store, sealer: c.Sealer, fleet: c.Fleet, peers: c.Peers, build: c.Build, logger: c.Logger})
}

// changer is what the services share: reading what is agreed on, and changing it.
type changer struct {
	store  *store.Store
	sealer Sealer
}

// readRequest is what every reading request carries.
type readRequest interface {
	GetConsistency() fifev1.ReadConsistency
}

// view is a state to answer from.
type view struct {
	*store.State
	staleness *fifev1.Staleness // set if the state may be old
}

// read returns a state that holds everything acknowledged before the call, or
// the one at hand if the request is content with that.
func (c changer) read(ctx context.Context, req readRequest) (view, error) {
	if req.GetConsistency() == fifev1.ReadConsistency_READ_CONSISTENCY_STALE {
		state := c.store.State()
		return view{state, &fifev1.Staleness{
			Applied: toVersion(state.Applied()),
			Age:     durationpb.New(c.store.Age()),
		}}, nil
	}
	if err := c.store.Sync(ctx); err != nil {
		return view{}, err
	}
	return view{State: c.store.State()}, nil
}

// fresh returns a state of this node that holds everything acknowledged before
// the call, whether or not the node leads.
func fresh(ctx context.Context, s *store.Store, peers *Peers) (*store.State, error) {
	if s.IsLeader() {
		if err := s.Sync(ctx); err != nil {
			return nil, err
		}
		return s.State(), nil
	}
	leader, ok := s.Leader()
	if !ok {
		return nil, store.ErrNotLeader
	}
	conn, err := peers.Conn(leader.GRPCAddress)
	if err != nil {
		return nil, err
	}
	resp, err := fifev1.NewClusterServiceClient(conn).SyncCluster(ctx, &fifev1.SyncClusterRequest{})
	if err != nil {
		return nil, err
	}
	goal := fromVersion(resp.GetApplied())
	return s.Reach(ctx, goal)
}

// changeRequest is what every mutating request carries.
type changeRequest interface {
	proto.Message
	GetRequestId() string
	GetValidateOnly() bool
}

// changed is a change that was made or, with validate_only, would be.
type changed struct {
	store.Outcome
	before *store.State // set with validate_only only
	after  *store.State
}

// change carries a command out, or with validate_only says what it would do. The
// command's op must be set; everything else is stamped here. A refusal comes back
// as the error. The commands of first go into the log before it; what they do must
// come to nothing without it.
func (c changer) change(
	ctx context.Context, v release.Violations, req changeRequest, cmd *storev1.Command, first ...*storev1.Command,
) (changed, error) {
	checkRequestID(&v, req.GetRequestId())
	if err := v.Err(); err != nil {
		return changed{}, err
	}
	method, _ := grpc.Method(ctx)
	actor, authorization := authorizationOf(ctx)
	for _, c := range append(first, cmd) {
		c.Time = timestamppb.New(time.Now())
		c.Actor, c.Authorization, c.Source = actor, authorization, sourceOf(ctx)
		c.Method = path.Base(method)
	}
	var done changed
	if req.GetValidateOnly() {
		var err error
		if done.before, done.after, done.Outcome, err = c.store.Preview(ctx, append(first, cmd)...); err != nil {
			return changed{}, err
		}
		done.Version = store.Version{} // nobody can wait for what was not done
	} else {
		if id := req.GetRequestId(); id != "" {
			sum, err := fingerprint(method, req)
			if err != nil {
				return changed{}, err
			}
			cmd.RequestId, cmd.Fingerprint = id, sum
		}
		for _, f := range first {
			if outcome, err := c.store.Apply(ctx, f); err != nil || outcome.Refusal != nil {
				return changed{}, refusalOr(outcome, err)
			}
		}
		var err error
		done.Outcome, err = c.store.Apply(ctx, cmd)
		noteOf(ctx).logged = err == nil || errors.Is(err, store.ErrOutcomeUnknown)
		if err != nil {
			return changed{}, err
		}
		done.after = c.store.State()
	}
	if done.Refusal != nil {
		return changed{}, done.Refusal
	}
	return done, nil
}

func refusalOr(o store.Outcome, err error) error {
	if err != nil {
		return err
	}
	return o.Refusal
}

func checkRequestID(v *release.Violations, id string) {
	if len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool { return c < '!' || c > '~' }) {
		v.Addf("request_id", "%q must have 1 to 64 printable ASCII characters without spaces", id)
	}
}

// fingerprint sums up a call, so that its repeat can be told from another call
// with the same request id.
func fingerprint(method string, req proto.Message) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(withoutSecrets(req))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(method+"\x00"), data...))
	return sum[:], nil
}
