package discovery

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// sender is the one goroutine that writes to a stream.
type sender struct {
	server  *Server
	stream  discoveryv1.DiscoveryService_StreamServer
	session *session
	agent   string
	apis    []string
	cancel  context.CancelCauseFunc

	has      store.Version // what the agent holds; zero for nothing
	done     store.Version // the newest version that needs no frame: answered, or held from the start
	inFlight store.Version // sent and not answered; zero if none
	resynced store.Version // the version that was sent again in full
}

// run sends frames until ctx ends or the agent breaks the protocol.
func (s *sender) run(ctx context.Context, messages <-chan *discoveryv1.StreamRequest) error {
	s.done = s.has
	for {
		state := s.server.config.Store.State()
		if s.inFlight == (store.Version{}) && state.Version().Compare(s.done) > 0 {
			if err := s.send(state); err != nil {
				return err
			}
			continue
		}
		select {
		case m := <-messages:
			if err := s.answer(m); err != nil {
				return err
			}
		case <-state.Rerouted():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send writes the step from what the agent has to a state. A write that hangs
// ends the stream.
func (s *sender) send(state *store.State) error {
	messages, err := s.server.frames.get(state, s.has, s.apis)
	if err != nil {
		return err
	}
	for _, m := range messages {
		stalled := time.AfterFunc(writeTimeout, func() {
			s.cancel(status.Errorf(codes.DeadlineExceeded, "agent %s has not read for %v", s.agent, writeTimeout))
		})
		err := s.stream.Send(m)
		stalled.Stop()
		if err != nil {
			return err
		}
	}
	s.inFlight = state.Version()
	s.server.metrics.framesSent.Inc()
	return nil
}

// answer takes an agent's word on the frame in flight.
func (s *sender) answer(m *discoveryv1.StreamRequest) error {
	ack, nack := m.GetAck(), m.GetNack()
	version := decodeVersion(ack.GetVersion())
	if nack != nil {
		version = decodeVersion(nack.GetVersion())
	}
	if (ack == nil && nack == nil) || s.inFlight == (store.Version{}) || version != s.inFlight {
		return status.Errorf(codes.InvalidArgument, "agent %s answered %v, but %v is in flight", s.agent, version, s.inFlight)
	}
	s.inFlight = store.Version{}
	if ack != nil {
		s.has, s.done = version, version
		s.server.fleet.acked(s.session, version)
		s.server.metrics.acks.Inc()
		return nil
	}
	reason := strings.ToValidUTF8(nack.GetReason(), "?")
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxNackText)], "")
	s.server.fleet.nacked(s.session, version, reason)
	s.server.metrics.nacks.Inc()
	s.server.config.Logger.Warn("agent refused a version",
		"agent", s.agent, "version", version, "reason", reason, "resync", nack.GetResync())
	if nack.GetResync() && s.resynced != version {
		s.resynced = version
		s.has = store.Version{} // so that the same state goes out again, in full
		return nil
	}
	s.done = version
	return nil
}

// maxNackText is how much of an agent's reason is kept.
const maxNackText = 4 << 10
