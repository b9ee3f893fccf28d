package discovery

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/agent/route"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

func TestApply(t *testing.T) {
	tests := []struct {
		name  string
		frame func(*controlPlane) *discoveryv1.Frame
		want  string // what /prod of demo serves afterwards
	}{
		{"promotion", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(stage("demo", "prod", 2, 11)))
		}, "demo/2"},
		{"canary", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(stage("demo", "prod", 1, 11, canary(2, 1))))
		}, "demo/2"}, // served asks for bucket 0
		{"canary without its deployment", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(stage("demo", "prod", 1, 11, canary(3, 1_000_000))))
		}, "demo/1"},
		{"new deployment", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(12, one(stage("demo", "prod", 3, 12), deployment("demo", 3, 11)))
		}, "demo/3"},
		{"removal of what nobody uses", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, nil, "apis/demo/deployments/2")
		}, "demo/1"},
		{"removal of a stage", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, nil, "apis/demo/stages/prod")
		}, "none"},
		{"removal of what was never held", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(stage("demo", "prod", 2, 11)), "apis/demo/stages/came-and-went")
		}, "demo/2"},
		{"versions in between skipped", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(99, one(stage("demo", "prod", 2, 98)))
		}, "demo/2"},
		{"nothing but a version", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, nil)
		}, "demo/1"},
		{"full snapshot of the same state", func(c *controlPlane) *discoveryv1.Frame {
			return c.full()
		}, "demo/1"},
		{"full snapshot forgets what it does not name", func(c *controlPlane) *discoveryv1.Frame {
			c.step(11, one(api("other", 11)), "apis/demo", "apis/demo/stages/prod", "apis/demo/deployments/1", "apis/demo/deployments/2")
			return c.full()
		}, "none"},
		{"newer epoch, lower index", func(c *controlPlane) *discoveryv1.Frame {
			c.step(4, one(stage("demo", "prod", 2, 4)))
			f := c.full()
			f.To.Epoch = 2
			return f
		}, "demo/2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newControlPlane()
			before := mustApply(t, nothing(), c.full())
			f := tt.frame(c)
			after := mustApply(t, before, f)
			if got := served(after.table, "demo", "prod"); got != tt.want {
				t.Errorf("serves %s, want %s", got, tt.want)
			}
			if v := fromProto(f.GetTo()); after.version != v || after.seen != v || after.table.Version() != v {
				t.Errorf("version %v, seen %v, table %v, want %v", after.version, after.seen, after.table.Version(), v)
			}
			if len(after.resources) != len(c.resources) {
				t.Errorf("%d resources, want %d", len(after.resources), len(c.resources))
			}
			if got := served(before.table, "demo", "prod"); got != "demo/1" || before.version.Index != 10 || len(before.resources) != 4 {
				t.Error("the set before has changed")
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	change := func(f *discoveryv1.Frame, change func(*discoveryv1.Frame)) *discoveryv1.Frame {
		change(f)
		return f
	}
	renamed := func(r *discoveryv1.Resource, name string) []*discoveryv1.Resource {
		r.Name = name
		return one(r)
	}
	tests := []struct {
		name   string
		frame  func(*controlPlane) *discoveryv1.Frame
		want   string
		resync bool
	}{
		{"wrong from", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.step(11, nil), func(f *discoveryv1.Frame) { f.From = version(9) })
		}, "starts from version 1.9, held is 1.10", true},
		{"wrong epoch of from", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.step(11, nil), func(f *discoveryv1.Frame) { f.From.Epoch = 2 })
		}, "starts from version 2.10", true},
		{"wrong digest", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.step(11, one(stage("demo", "prod", 2, 11))), func(f *discoveryv1.Frame) { f.Digest++ })
		}, "digest", true},
		{"a removal that is missing", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.step(11, nil, "apis/demo/stages/prod"), func(f *discoveryv1.Frame) { f.Removes = nil })
		}, "4 resources held", true},
		{"wrong digest of a full snapshot", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.full(), func(f *discoveryv1.Frame) { f.Digest = 0 })
		}, "digest", true},
		{"not newer", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(10, one(stage("demo", "prod", 2, 11)))
		}, "from version 1.10 to 1.10", false},
		{"older", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(9, one(stage("demo", "prod", 2, 11)))
		}, "from version 1.10 to 1.9", false},
		{"older full snapshot", func(c *controlPlane) *discoveryv1.Frame {
			c.step(9, one(stage("demo", "prod", 2, 9)))
			return c.full()
		}, "1.9, which is older than 1.10", false},
		{"older epoch", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.full(), func(f *discoveryv1.Frame) { f.To = &discoveryv1.Version{Epoch: 0, Index: 99} })
		}, "older", false},
		{"no version", func(c *controlPlane) *discoveryv1.Frame {
			return change(c.full(), func(f *discoveryv1.Frame) { f.To = nil })
		}, "no version", false},
		{"removal of a deployment in use", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, nil, "apis/demo/deployments/1")
		}, `stage "prod": deployment 1`, false},
		{"removal of an API in use", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, nil, "apis/demo")
		}, "no such API", false},
		{"stage without its deployment", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(stage("demo", "prod", 7, 11)))
		}, "deployment 7", false},
		{"poison", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(stage("demo", "prod", 2, 11), deploymentOf("demo", 3, 11, &discoveryv1.Route{Method: "GET", Path: "//"})))
		}, `api "demo", deployment 3: route "GET //"`, false},
		{"integration of an unknown kind", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(deploymentOf("demo", 3, 11, &discoveryv1.Route{Method: "GET", Path: "/"})))
		}, "no integration", false},
		{"no body", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, one(&discoveryv1.Resource{Name: "apis/x"}))
		}, `"apis/x": has no body`, false},
		{"API by the name of a stage", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, renamed(api("x", 1), "apis/x/stages/y"))
		}, "does not fit", false},
		{"stage by the name of an API", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, renamed(stage("x", "y", 1, 1), "apis/x"))
		}, "does not fit", false},
		{"deployment by the name of a stage", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, renamed(deployment("demo", 3, 1), "apis/demo/stages/3"))
		}, "does not fit", false},
		{"deployment without number", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, renamed(deployment("demo", 3, 1), "apis/demo/deployments/three"))
		}, "has a number", false},
		{"deployment by another spelling", func(c *controlPlane) *discoveryv1.Frame {
			return c.step(11, renamed(deployment("demo", 3, 1), "apis/demo/deployments/03"))
		}, "has a number", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newControlPlane()
			before := mustApply(t, nothing(), c.full())
			after, err := before.apply(tt.frame(c), time.Time{})
			if err == nil {
				t.Fatalf("was applied: version %v", after.version)
			}
			if !strings.Contains(err.Error(), tt.want) || errors.Is(err, errOutOfStep) != tt.resync {
				t.Errorf("error %q, want %q, and resync %v", err, tt.want, tt.resync)
			}
			if got := served(before.table, "demo", "prod"); got != "demo/1" || before.version.Index != 10 || len(before.resources) != 4 {
				t.Error("the set before has changed")
			}
		})
	}
}

// TestApplyNothing: a new agent takes a full snapshot and no delta.
func TestApplyNothing(t *testing.T) {
	c := newControlPlane()
	if got := served(nothing().table, "demo", "prod"); got != "none" {
		t.Errorf("nothing serves %s", got)
	}
	if _, err := nothing().apply(c.step(11, nil), time.Time{}); !errors.Is(err, errOutOfStep) {
		t.Errorf("delta on nothing: %v", err)
	}
	if got := served(mustApply(t, nothing(), c.full()).table, "demo", "prod"); got != "demo/1" {
		t.Errorf("serves %s", got)
	}
}

// TestDecode: every field of the wire arrives in the table.
func TestDecode(t *testing.T) {
	c := newControlPlane()
	f := c.step(11, one(
		api("demo", 11, "api.example.com"),
		&discoveryv1.Resource{Name: "apis/demo/deployments/3", Revision: 11, Body: &discoveryv1.Resource_Deployment{Deployment: &discoveryv1.Deployment{
			DefaultTimeout:   durationpb.New(2 * time.Second),
			BinaryMediaTypes: []string{"image/png"},
			Routes: []*discoveryv1.Route{
				{Method: "GET", Path: "/h", Integration: &discoveryv1.Route_Http{Http: &discoveryv1.HttpIntegration{Uri: "http://h/", Method: "POST"}}},
				{Method: "GET", Path: "/l", Timeout: durationpb.New(time.Second), Integration: &discoveryv1.Route_Lambda{
					Lambda: &discoveryv1.LambdaIntegration{Function: "f", Qualifier: "1"}}},
				{Method: "GET", Path: "/m", Integration: &discoveryv1.Route_Mock{
					Mock: &discoveryv1.MockIntegration{Status: 418, Headers: map[string]string{"X-A": "b"}, Body: "c"}}},
			},
		}}},
		stage("demo", "prod", 3, 11, func(s *discoveryv1.Stage) {
			s.Variables = map[string]string{"a": "1", "b": "1"}
			s.AllowOverride, s.OverrideKey, s.ExposeHeaders = true, "0123456789abcdef", true
			s.Canary = &discoveryv1.Canary{Deployment: 3, PartsPerMillion: 500_000, VariableOverrides: map[string]string{"b": "2"}, Salt: 7}
		}),
	))
	h := mustApply(t, mustApply(t, nothing(), newControlPlane().full()), f)
	s, _, ok := h.table.Lookup("api.example.com", "/prod", "")
	if !ok || !s.AllowOverride || s.OverrideKey != "0123456789abcdef" || !s.ExposeHeaders {
		t.Fatalf("stage %+v", s)
	}
	v := s.Canary()
	if !maps.Equal(v.Variables, map[string]string{"a": "1", "b": "2"}) || v.Deployment.BinaryMediaTypes[0] != "image/png" || v.Deployment.Number != 3 {
		t.Errorf("canary %+v", v)
	}
	if s.Pick(1<<63-1) != v || s.Pick(1<<63) != s.Base() {
		t.Error("the share is not one half")
	}
	var p route.Params
	r := v.Match("GET", "/h", &p)
	if i := r.Integration.(*route.HTTP); r.Timeout != 2*time.Second || i.URI.String() != "http://h/" || i.Method != "POST" {
		t.Errorf("http %+v", r)
	}
	r = v.Match("GET", "/l", &p)
	if i := r.Integration.(*route.Lambda); r.Timeout != time.Second || i.Function.String() != "f" || i.Qualifier.String() != "1" {
		t.Errorf("lambda %+v", r)
	}
	r = v.Match("GET", "/m", &p)
	if i := r.Integration.(*route.Mock); i.Status != 418 || i.Headers["X-A"] != "b" || i.Body != "c" {
		t.Errorf("mock %+v", r)
	}
}

func TestDecodeStickyKey(t *testing.T) {
	tests := []struct {
		key    *discoveryv1.StickyKey
		source route.KeySource
		name   string
	}{
		{nil, route.KeyNone, ""},
		{&discoveryv1.StickyKey{}, route.KeyNone, ""},
		{&discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Header{Header: "X-User"}}, route.KeyHeader, "X-User"},
		{&discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Cookie{Cookie: "sid"}}, route.KeyCookie, "sid"},
		{&discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_QueryParameter{QueryParameter: "u"}}, route.KeyQuery, "u"},
		{&discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_ClientIp{ClientIp: true}}, route.KeyClientIP, ""},
	}
	for _, tt := range tests {
		s := new(agent).stageSpec("apis/demo/stages/prod", &discoveryv1.Stage{StickyKey: tt.key})
		if s.Sticky != tt.source || s.StickyName != tt.name {
			t.Errorf("%v: source %d, name %q", tt.key, s.Sticky, s.StickyName)
		}
	}
}

func TestThrottleSpec(t *testing.T) {
	s := new(agent).stageSpec("apis/demo/stages/prod", &discoveryv1.Stage{
		Throttle: &discoveryv1.Throttle{MillirequestsPerSecond: 2500, Burst: 5, Concurrency: 50},
	})
	if want := (route.ThrottleSpec{Millirate: 2500, Burst: 5, Concurrency: 50}); s.Throttle != want {
		t.Errorf("got %+v, want %+v", s.Throttle, want)
	}
}

// TestDigest pins the sum to the protocol: XXH64 of NAME@REVISION.
func TestDigest(t *testing.T) {
	if got, want := digest(stage("demo", "prod", 1, 42)), uint64(0x6aa5aa7c8e72c2); got != want {
		t.Errorf("digest of apis/demo/stages/prod@42 = %#x, want %#x", got, want)
	}
}

func FuzzFrame(f *testing.F) {
	add := func(frame *discoveryv1.Frame) {
		data, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, false)
		f.Add(data, true)
	}
	c := newControlPlane()
	add(c.full())
	add(c.step(11, one(stage("demo", "prod", 2, 11, canary(1, 7)), deployment("demo", 3, 11)), "apis/demo/deployments/1"))
	f.Add([]byte("\x12\x02\x08\x01"), true)
	before := mustApply(f, nothing(), newControlPlane().full())
	f.Fuzz(func(t *testing.T, data []byte, fits bool) {
		frame := new(discoveryv1.Frame)
		if proto.Unmarshal(data, frame) != nil {
			return
		}
		if fits { // get past the first checks, to where resources are decoded
			frame.From, frame.To = version(10), version(11)
			frame.Digest = digestAfter(before, frame)
		}
		after, err := before.apply(frame, time.Time{})
		if before.version.Index != 10 || len(before.resources) != 4 || served(before.table, "demo", "prod") != "demo/1" {
			t.Fatal("the set before has changed")
		}
		if err != nil {
			if after != nil {
				t.Fatal("refused, and something to go on with")
			}
			return
		}
		var sum uint64
		for name, r := range after.resources {
			sum += digest(r.pb)
			if r.pb.GetName() != name || kinds(r) != 1 {
				t.Fatalf("resource %q: %+v", name, r)
			}
		}
		if sum != after.digest || sum != frame.GetDigest() || after.version.Compare(before.version) < 0 || after.table.Version() != after.version {
			t.Fatalf("digest %x of %x, version %v", after.digest, sum, after.version)
		}
	})
}

func kinds(r resource) (n int) {
	for _, is := range []bool{r.api != nil, r.deployment != nil, r.stage != nil} {
		if is {
			n++
		}
	}
	return n
}

// digestAfter sums what is held after a frame in the plainest way.
func digestAfter(h *held, f *discoveryv1.Frame) (sum uint64) {
	after := make(map[string]*discoveryv1.Resource)
	for name, r := range h.resources {
		after[name] = r.pb
	}
	for _, name := range f.GetRemoves() {
		delete(after, name)
	}
	for _, r := range f.GetUpserts() {
		after[r.GetName()] = r
	}
	for _, r := range after {
		sum += digest(r)
	}
	return sum
}
