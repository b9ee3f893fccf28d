package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const (
	waitInterval = time.Second // between two messages without news
	waitShare    = 10          // a look at the fleet is followed by a pause this many times as long
	maxNamed     = 20          // agents named in one message
)

// waitStream is where the reports of a wait go.
type waitStream = grpc.ServerStreamingServer[fifev1.WaitForVersionResponse]

func (s *fleetService) WaitForVersion(req *fifev1.WaitForVersionRequest, stream waitStream) error {
	if req.GetVersion() == nil {
		var v release.Violations
		v.Addf("version", "is required")
		return v.Err()
	}
	begin := time.Now()
	send := func(p *fifev1.WaitForVersionResponse) error {
		p.Elapsed = durationpb.New(time.Since(begin))
		return stream.Send(p)
	}
	if req.GetNode() == s.store.NodeID() {
		return s.waitHere(stream.Context(), req, send)
	}
	return s.waitEverywhere(stream.Context(), req, send)
}

// waitHere reports on this node's agents at every change. It ends when all have
// the version, unless the request follows: what is done now may be undone by an
// agent that comes over from another node.
func (s *fleetService) waitHere(
	ctx context.Context, req *fifev1.WaitForVersionRequest, send func(*fifev1.WaitForVersionResponse) error,
) error {
	want := fromVersion(req.GetVersion())
	for {
		look := time.Now()
		agents, changed := s.fleet.Agents()
		p := progress(agents, want)
		if err := send(p); err != nil || (p.GetDone() && !req.GetFollow()) {
			return err
		}
		pause := time.After(waitShare * time.Since(look))
		select {
		case <-changed:
		case <-time.After(waitInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-pause:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// progress counts the agents that have come to a version.
func progress(agents []*fifev1.Agent, want store.Version) *fifev1.WaitForVersionResponse {
	p := &fifev1.WaitForVersionResponse{Total: int32(len(agents))}
	for _, a := range agents {
		has := fromVersion(a.GetApplied())
		if has.Compare(want) >= 0 {
			p.Applied++
			continue
		}
		if len(p.GetLaggards()) < maxNamed {
			p.Laggards = append(p.Laggards, a.GetName())
		}
		if a.GetLastNack() != nil && len(p.GetRefused()) < maxNamed {
			p.Refused = append(p.Refused, a)
		}
	}
	p.Done = p.GetApplied() == p.GetTotal()
	return p
}

// waitEverywhere follows every node's reports and sends their sum. A node that
// does not answer keeps the wait open: its agents may be serving anything.
func (s *fleetService) waitEverywhere(
	ctx context.Context, req *fifev1.WaitForVersionRequest, send func(*fifev1.WaitForVersionResponse) error,
) error {
	members, err := s.store.Members()
	if err != nil {
		return err
	}
	if req.GetNode() != "" {
		members = slices.DeleteFunc(members, func(m store.Member) bool { return m.ID != req.GetNode() })
	}
	if len(members) == 0 {
		return release.Missing("members/" + req.GetNode())
	}
	reports := newReports()
	ctx, cancel := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	follow := func(members []store.Member) {
		for _, m := range members {
			if reports.expect(m.ID) {
				followers.Go(func() { s.follow(ctx, m, req, reports) })
			}
		}
	}
	follow(members)
	grace := time.After(peerTimeout) // until then a node without an answer is only slow
	patient := true
	for {
		select {
		case <-reports.news:
		case <-time.After(waitInterval):
		case <-grace:
			patient = false
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if req.GetNode() == "" {
			if members, err := s.store.Members(); err == nil {
				follow(members) // of a node that has joined meanwhile, too
			}
		}
		sum := reports.sum()
		if patient && len(sum.GetUnreachableNodes()) > 0 {
			continue
		}
		if err := send(sum); err != nil || sum.GetDone() {
			return err
		}
	}
}

// follow takes one node's reports until ctx ends, and asks again when the node
// cannot be reached.
func (s *fleetService) follow(ctx context.Context, m store.Member, req *fifev1.WaitForVersionRequest, to *reports) {
	for {
		take := func(p *fifev1.WaitForVersionResponse) error {
			to.set(m.ID, p)
			return nil
		}
		if m.ID == s.store.NodeID() {
			_ = s.waitHere(ctx, following(req, m.ID), take) // it ends with ctx
		} else if err := s.waitThere(ctx, m, req, take); err != nil && ctx.Err() == nil {
			s.logger.Debug("node does not report on its agents", "node", m.ID, "error", err)
		}
		to.set(m.ID, nil)
		select {
		case <-time.After(waitInterval):
		case <-ctx.Done():
			return
		}
	}
}

// following returns the request for one node's reports.
func following(req *fifev1.WaitForVersionRequest, node string) *fifev1.WaitForVersionRequest {
	return &fifev1.WaitForVersionRequest{Version: req.GetVersion(), Node: node, Follow: true}
}

// waitThere takes the reports of another node on its own agents. A node reports at
// least every waitInterval; one that falls silent cannot be reached.
func (s *fleetService) waitThere(
	ctx context.Context, m store.Member, req *fifev1.WaitForVersionRequest,
	take func(*fifev1.WaitForVersionResponse) error,
) error {
	conn, err := s.peers.Conn(m.GRPCAddress)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(peerTimeout, cancel)
	defer silence.Stop()
	stream, err := fifev1.NewFleetServiceClient(conn).WaitForVersion(ctx,
		following(req, m.ID))
	if err != nil {
		return err
	}
	for {
		p, err := stream.Recv()
		if err != nil {
			return err
		}
		silence.Reset(peerTimeout)
		if err := take(p); err != nil {
			return err
		}
	}
}

// reports holds the newest report of every node; nil of one that has not
// answered. It is safe for concurrent use.
type reports struct {
	news chan struct{} // holds a token when there is something new

	mu     sync.Mutex
	byNode map[string]*fifev1.WaitForVersionResponse
}

func newReports() *reports {
	return &reports{news: make(chan struct{}, 1), byNode: map[string]*fifev1.WaitForVersionResponse{}}
}

// expect notes that a node is to report; false if that was known.
func (r *reports) expect(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.byNode[node]
	if !known {
		r.byNode[node] = nil
	}
	return !known
}

func (r *reports) set(node string, p *fifev1.WaitForVersionResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byNode[node] = p
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// sum adds up what the nodes have reported.
func (r *reports) sum() *fifev1.WaitForVersionResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := &fifev1.WaitForVersionResponse{Done: true}
	for node, p := range r.byNode {
		if p == nil {
			sum.UnreachableNodes = append(sum.UnreachableNodes, node)
			sum.Done = false
			continue
		}
		sum.Total += p.GetTotal()
		sum.Applied += p.GetApplied()
		sum.Laggards = append(sum.Laggards, p.GetLaggards()...)
		sum.Refused = append(sum.Refused, p.GetRefused()...)
		sum.Done = sum.GetDone() && p.GetDone()
	}
	slices.Sort(sum.GetUnreachableNodes())
	slices.Sort(sum.GetLaggards())
	sum.Laggards = sum.GetLaggards()[:min(len(sum.GetLaggards()), maxNamed)]
	sum.Refused = sum.GetRefused()[:min(len(sum.GetRefused()), maxNamed)]
	return sum
}
