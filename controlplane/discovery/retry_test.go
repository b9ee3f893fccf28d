package discovery_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// TestRetries: an agent that could not take a version for a reason that passes is sent it
// again, after longer pauses each time, and has its lease once it takes it. Nothing else
// needs to change for that.
func TestRetries(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.settle("n1", "full")
		a.obtainLease()
		v := b.setHosts("demo", "h")
		refuse := func(want time.Duration) *discoveryv1.Frame {
			t.Helper()
			f := a.next()
			a.nackForNow(f.GetTo())
			refused := time.Now()
			for len(a.frames) == 0 && time.Since(refused) < 2*time.Minute {
				a.renew()
				time.Sleep(time.Second)
			}
			if took := time.Since(refused); took < want || took > want+3*time.Second {
				t.Errorf("it was sent again after %v, want %v", took, want)
			}
			return f
		}
		f := refuse(5 * time.Second)
		for _, want := range []time.Duration{10, 20, 40, 60, 60} {
			if again := refuse(want * time.Second); !proto.Equal(again, f) {
				t.Errorf("sent again was %v, first %v", again, f)
			}
		}
		a.takeUntil(v)
		a.obtainLease()
		a.wantNoFrames(10 * time.Minute)

		// What does not pass is not tried again, and a newer version begins anew.
		b.setHosts("demo", "h", "i")
		a.nack(a.next().GetTo(), "no", false)
		a.wantNoFrames(10 * time.Minute)
		b.setHosts("demo", "h", "j")
		refuse(5 * time.Second)
		refuse(10 * time.Second)
		again := a.next()
		v = b.setHosts("demo", "h", "k")
		a.nackForNow(again.GetTo())
		refuse(5 * time.Second)
		a.takeUntil(v)
	})
}

// nackForNow refuses a version for a reason that passes.
func (a *agent) nackForNow(v *discoveryv1.Version) {
	a.t.Helper()
	a.say(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Nack{Nack: &discoveryv1.Nack{
		Version: v, Reason: "no space left on device", Retry: true,
	}}})
}

// renew asks for a lease and takes the answer, whatever it is.
func (a *agent) renew() *discoveryv1.Lease {
	a.t.Helper()
	a.renewals++
	a.say(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Renew{Renew: &discoveryv1.Renew{Sequence: a.renewals}}})
	select {
	case l := <-a.leases:
		return l
	case err := <-a.end:
		a.t.Fatalf("agent %s: the stream ended: %v", a.id, err)
	}
	return nil
}

// wantNoFrames fails the test if a frame comes within d, in which the agent asks for
// leases.
func (a *agent) wantNoFrames(d time.Duration) {
	a.t.Helper()
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(3 * time.Second) {
		if a.renew(); len(a.frames) > 0 {
			a.t.Fatalf("agent %s: a frame came: %v", a.id, <-a.frames)
		}
	}
}
