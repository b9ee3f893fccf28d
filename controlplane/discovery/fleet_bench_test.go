package discovery

import (
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// newCrowd returns a server with sessions that no stream is behind.
func newCrowd(agents int) *Server {
	s := &Server{fleet: newFleet("n1"), leases: newLeases(nil)}
	s.metrics = newMetrics(prometheus.NewRegistry(), s.fleet)
	for i := range agents {
		s.fleet.connect(newSession(s, nil, nil, &discoveryv1.Hello{AgentId: fmt.Sprintf("agent-%05d", i)}, store.Version{}, ""))
	}
	return s
}

// TestFleetNews: whoever has looked is woken once, however much changes, and again
// only after another look; what changed after a look is in the next one.
func TestFleetNews(t *testing.T) {
	s := newCrowd(3)
	_, first := s.fleet.Agents()
	_, same := s.fleet.Agents()
	if first != same {
		t.Error("two looks without a change between wait for different things")
	}
	answer(t, s.fleet.all()[1], store.Version{Epoch: 1, Index: 7})
	select {
	case <-first:
	default:
		t.Fatal("an answer wakes nobody")
	}
	answer(t, s.fleet.all()[2], store.Version{Epoch: 1, Index: 7})
	agents, next := s.fleet.Agents()
	for i, want := range []uint64{0, 7, 7} {
		if got := agents[i].GetApplied().GetIndex(); got != want {
			t.Errorf("agent %d has applied %d, want %d", i, got, want)
		}
	}
	select {
	case <-next:
		t.Error("a look is out of date though nothing has changed since")
	default:
	}
}

// answer has an agent apply a version.
func answer(t testing.TB, s *session, v store.Version) {
	s.inFlight = v
	if err := s.acked(v); err != nil {
		t.Fatal(err)
	}
	s.server.fleet.changed()
}

// BenchmarkAnswers measures what it takes to record that every agent has applied a
// version while others look at the fleet whenever it has changed.
func BenchmarkAnswers(b *testing.B) {
	for _, agents := range []int{100, 10_000} {
		for _, watchers := range []int{0, 3} {
			b.Run(fmt.Sprintf("agents=%d/watchers=%d", agents, watchers), func(b *testing.B) {
				s := newCrowd(agents)
				done := make(chan struct{})
				var watching sync.WaitGroup
				for range watchers {
					watching.Go(func() {
						for {
							_, news := s.fleet.Agents()
							select {
							case <-news:
							case <-done:
								return
							}
						}
					})
				}
				b.ReportAllocs()
				index := uint64(0)
				for b.Loop() {
					index++
					for _, session := range s.fleet.all() {
						answer(b, session, store.Version{Epoch: 1, Index: index})
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*agents), "ns/answer")
				close(done)
				watching.Wait()
			})
		}
	}
}
