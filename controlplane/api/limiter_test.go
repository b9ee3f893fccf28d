package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/identity"
)

// passed counts how many of n calls were let through, and returns the wait that the
// last refusal names.
func passed(u *usages, caller string, n int) (let int, wait time.Duration) {
	for range n {
		err := u.call(caller)
		var limited *limitError
		if errors.As(err, &limited) {
			wait = limited.wait
		} else if err == nil {
			let++
		}
	}
	return let, wait
}

// TestCallRate: a burst, then the rate; whoever waits as long as a refusal says is let
// through; and nobody is held up by others.
func TestCallRate(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		u := newUsages(Limit{Rate: 10, Burst: 5})
		let, wait := passed(u, "ann", 20)
		if let != 5 || wait != 100*time.Millisecond {
			t.Errorf("at once %d were let through, and the next after %v", let, wait)
		}
		if let, _ := passed(u, "bob", 20); let != 5 {
			t.Errorf("of somebody else %d were let through", let)
		}
		<-time.After(wait - time.Millisecond)
		if let, _ := passed(u, "ann", 5); let != 0 {
			t.Errorf("before the time %d were let through", let)
		}
		<-time.After(time.Millisecond)
		if let, _ := passed(u, "ann", 5); let != 1 {
			t.Errorf("after the time %d were let through", let)
		}
		<-time.After(time.Hour)
		if let, _ := passed(u, "ann", 20); let != 5 {
			t.Errorf("after a quiet hour %d were let through", let)
		}
		end, err := u.open("ann")
		if err != nil {
			t.Errorf("streams are not counted apart: %v", err)
		}
		end()
		if let, _ := passed(newUsages(Limit{}), "ann", 20); let != 20 {
			t.Errorf("without a limit %d were let through", let)
		}
	})
}

// TestOpenStreams: so many streams at a time, as soon as one ends another; and no more
// often than the rate.
func TestOpenStreams(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		u := newUsages(Limit{Rate: 10, Burst: 5, Streams: 2})
		end, err := u.open("ann")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.open("ann"); err != nil {
			t.Fatal(err)
		}
		_, err = u.open("ann")
		if reasonOf(toStatus(err)) != reasonManyStreams {
			t.Errorf("a third stream: %v", err)
		}
		if _, err := u.open("bob"); err != nil {
			t.Errorf("somebody else's: %v", err)
		}
		end()
		if _, err := u.open("ann"); err != nil {
			t.Errorf("one after another has ended: %v", err)
		}
		if let, _ := passed(u, "ann", 10); let != 5 {
			t.Errorf("calls are not counted apart: %d were let through", let)
		}
		u = newUsages(Limit{Rate: 10, Burst: 5})
		for range 5 {
			end, err := u.open("ann")
			if err != nil {
				t.Fatal(err)
			}
			end()
		}
		_, err = u.open("ann")
		if reasonOf(toStatus(err)) != reasonRateLimited {
			t.Errorf("streams that are opened too often: %v", err)
		}
	})
}

// TestManyCallers: memory is bounded however many callers there are; those who have used
// up nothing are forgotten, those who have are not.
func TestManyCallers(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		u := newUsages(Limit{Rate: 1, Burst: 2, Streams: 1})
		if _, err := u.open("watcher"); err != nil {
			t.Fatal(err)
		}
		let := 0
		for i := range 5 * maxUsages {
			if u.call(fmt.Sprint("a", i)) == nil {
				let++
			}
		}
		if len(u.of) > maxUsages || let > maxUsages+2 {
			t.Errorf("%d callers are remembered, %d calls were let through", len(u.of), let)
		}
		if let, _ := passed(u, "a7", 5); let != 1 {
			t.Errorf("one who was there before: %d were let through", let)
		}
		<-time.After(time.Minute)
		if let, _ := passed(u, "new", 5); let != 2 || len(u.of) != 2 {
			t.Errorf("a minute later %d calls of somebody new were let through, %d callers are remembered", let, len(u.of))
		}
		if _, err := u.open("watcher"); err == nil {
			t.Error("who has a stream open was forgotten")
		}
	})
}

// TestManyStreams: streams without a limit take nobody's place among those told apart.
func TestManyStreams(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		u := newUsages(Limit{Rate: 1, Burst: 1})
		for i := range maxUsages {
			if _, err := u.open(fmt.Sprint("agent/", i)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(2 * time.Second)
		for _, name := range []string{"agent/x", "agent/y"} {
			if _, err := u.open(name); err != nil {
				t.Errorf("%s, beside streams that nobody limits: %v", name, err)
			}
		}
	})
}

// TestWhoIsCounted: callers are counted by what was verified, and not again where a call
// was passed on.
func TestWhoIsCounted(t *testing.T) {
	l := newLimiter(DefaultLimits())
	from := func(address string) context.Context {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return peer.NewContext(t.Context(), &peer.Peer{Addr: a})
	}
	known := func(class identity.Class, name, token string) context.Context {
		ctx := identity.NewContext(from("192.0.2.1:5"), identity.Identity{Cluster: "c", Class: class, Name: name})
		if token != "" {
			ctx = context.WithValue(ctx, tokenKey{}, token)
		}
		return ctx
	}
	forwarded := metadata.NewIncomingContext(known(identity.User, "ann", ""), metadata.Pairs(forwardedBy, "n2"))
	for _, tt := range []struct {
		what          string
		ctx, verified context.Context
		kind          *usages
		caller        string
	}{
		{"certificate", from("192.0.2.1:5"), known(identity.User, "ann", ""), l.users, "user/ann"},
		{"token", from("192.0.2.1:5"), known(identity.User, "ann", "t1"), l.users, "token t1"},
		{"agent", from("192.0.2.1:5"), known(identity.Agent, "a", ""), l.agents, "agent/a"},
		{"server", from("192.0.2.1:5"), known(identity.Server, "n1", ""), l.servers, "server/n1"},
		{"nobody", from("192.0.2.1:5"), from("192.0.2.1:5"), l.addresses, "address 192.0.2.1"},
		{"not verified", from("192.0.2.1:5"), nil, l.addresses, "address 192.0.2.1"},
		{"not verified, who says it was passed on", metadata.NewIncomingContext(from("192.0.2.1:5"), metadata.Pairs(forwardedBy, "n2")), nil,
			l.addresses, "address 192.0.2.1"},
		{"IPv4 in IPv6", from("[::ffff:192.0.2.1]:5"), nil, l.addresses, "address 192.0.2.1"},
		{"IPv6", from("[2001:db8:1:2:3:4:5:6]:5"), nil, l.addresses, "network 2001:db8:1:2::/64"},
		{"no address", t.Context(), nil, l.addresses, "address unknown"},
		{"passed on", from("192.0.2.1:5"), forwarded, nil, ""},
	} {
		if kind, caller, _ := l.of(tt.ctx, tt.verified); kind != tt.kind || caller != tt.caller {
			t.Errorf("%s: counted as %q", tt.what, caller)
		}
	}
}

// TestRetryInfo: a refusal says when to try again.
func TestRetryInfo(t *testing.T) {
	err := toStatus(&limitError{caller: "user/ann", limit: Limit{Rate: 2.5}, wait: 300 * time.Millisecond})
	var retry *errdetails.RetryInfo
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			retry = r
		}
	}
	if retry.GetRetryDelay().AsDuration() != 300*time.Millisecond {
		t.Errorf("%v says to try again in %v", err, retry)
	}
}

// TestCheckLimits: a rate needs a burst.
func TestCheckLimits(t *testing.T) {
	for _, l := range []Limits{{Users: Limit{Rate: 1}}, {Agents: Limit{Burst: 1}}, {Servers: Limit{Rate: -1, Burst: 1}}, {Addresses: Limit{Streams: -1}}} {
		if l.Check() == nil {
			t.Errorf("%+v is taken", l)
		}
	}
	if err := errors.Join(DefaultLimits().Check(), Limits{}.Check()); err != nil {
		t.Error(err)
	}
}

func BenchmarkCall(b *testing.B) {
	u := newUsages(DefaultLimits().Users)
	b.ReportAllocs()
	for b.Loop() {
		_ = u.call("user/ann")
	}
}
