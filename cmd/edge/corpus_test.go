//go:build linux

package edge_test

import (
	"bytes"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// corpusTable is what the corpus is routed by. All routes but two go to one upstream:
// stage s passes a path on as it is, stage t below /other.
func corpusTable(upstream string) []*discoveryv1.Resource {
	hang := httpRoute("ANY", "/hang", "http://"+upstream+"/hang")
	hang.Timeout = durationpb.New(time.Second) // it has to get there
	routes := []*discoveryv1.Route{
		httpRoute("ANY", "/{proxy+}", "http://"+upstream+"/{proxy}"),
		httpRoute("ANY", "/id/{id}/x", "http://"+upstream+"/id/{id}"),
		httpRoute("POST", "/only-post", "http://"+upstream+"/posted"),
		httpRoute("GET", "/query", "http://"+upstream+"/query?fixed=1"),
		httpRoute("ANY", "/refused", "http://127.0.0.1:1/"),
		httpRoute("ANY", "/metadata", "http://169.254.169.254/latest"),
		httpRoute("ANY", "/var", "http://${stageVariables.target}/x"),
		hang,
		{Method: "ANY", Path: "/mock", Integration: &discoveryv1.Route_Mock{Mock: &discoveryv1.MockIntegration{
			Status: 200, Headers: map[string]string{"X-Mock": "yes"}, Body: "mock",
		}}},
		{Method: "GET", Path: "/large", Integration: &discoveryv1.Route_Mock{Mock: &discoveryv1.MockIntegration{
			Status: 200, Body: strings.Repeat("l", 60<<10),
		}}},
		{Method: "ANY", Path: "/fn", Integration: &discoveryv1.Route_Lambda{Lambda: &discoveryv1.LambdaIntegration{
			Function: "fn",
		}}},
	}
	other := []*discoveryv1.Route{httpRoute("ANY", "/{proxy+}", "http://"+upstream+"/other/{proxy}")}
	all := []*discoveryv1.Resource{
		apiResource(), deploymentResource(1, routes...), deploymentResource(2, other...),
		stageResource("s", &discoveryv1.Stage{Deployment: 1}),
		stageResource("t", &discoveryv1.Stage{Deployment: 2}),
		stageResource("exposed", &discoveryv1.Stage{Deployment: 1, ExposeHeaders: true}),
	}
	for name, target := range map[string]string{
		"v-dots": upstream + "/..", "v-fragment": upstream + "/#", "v-metadata": "169.254.169.254",
	} {
		all = append(all, stageResource(name, &discoveryv1.Stage{Deployment: 1, Variables: map[string]string{"target": target}}))
	}
	return all
}

// TestCorpus plays every case against an agent, with its bytes at once and one by
// one: what comes of them may not depend on how they arrive.
func TestCorpus(t *testing.T) {
	upstream := startUpstream(t)
	address := upstream.Addr().String()
	plane := startControlPlane(t, corpusTable(address)...)
	plain := startAgent(t, "plain", plane, nil, "--lambda-endpoint", "http://"+address)
	trusting := startAgent(t, "trusting", plane, nil, "--trusted-proxy", "127.0.0.0/8")
	cases := readCorpus(t)
	if len(cases) < 250 {
		t.Errorf("%d cases, want 250 at least", len(cases))
	}
	filter := regexp.MustCompile(*only)
	for _, manner := range []string{atOnce, byByte} {
		t.Run(manner, func(t *testing.T) {
			for _, c := range cases {
				large := len(c.sent()) > 1<<20
				if !filter.MatchString(c.name) || (large && manner == byByte) {
					continue // a large one comes in pieces anyway
				}
				t.Run(c.name, func(t *testing.T) {
					at := plain
					if c.trusted {
						at = trusting
					}
					o := play(at.http, upstream, c, manner, patience)
					faults := c.judge(o, c.defaults(address, at.http))
					for range 10 {
						if !c.nothing || len(faults) == 0 || o.took < prompt {
							break
						}
						// It took too long for the head to be held back.
						o = play(at.http, upstream, c, manner, patience)
						faults = c.judge(o, c.defaults(address, at.http))
					}
					for _, wrong := range faults {
						t.Errorf("%s: %s", c.file, wrong)
					}
					if *only != "" {
						t.Logf("%s\nsent %q\ngot %+v", c.why, c.sent(), o)
					}
				})
			}
		})
	}
}

// prompt is how long the agent holds back the head of a request whose body may turn
// out to be malformed from its beginning. A client that a busy machine holds up for
// longer shows nothing of that.
const prompt = 100 * time.Millisecond

// play plays one case, and then sends another client's request.
func play(proxy string, upstream *rawUpstream, c *testCase, manner string, limit time.Duration) outcome {
	upstream.begin(c.answer)
	o := converse(proxy, c, manner, limit)
	if err := probeFresh(proxy, limit); err != nil && o.problem == "" {
		o.problem = err.Error()
	}
	o.seen = upstream.seen()
	return o
}

// defaults returns the fields that every request reaches the upstream with.
func (c *testCase) defaults(upstream, proxy string) []field {
	_, port, _ := net.SplitHostPort(proxy)
	return []field{
		{"Host", upstream}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Forwarded-Proto", "http"},
		{"X-Forwarded-Host", c.host()}, {"X-Forwarded-Port", port},
	}
}

// host returns the first Host of the request.
func (c *testCase) host() string {
	for line := range strings.SplitSeq(string(c.sent()), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "host") {
			return strings.Trim(value, " \t")
		}
	}
	return ""
}

func (c *testCase) sent() []byte {
	var all [][]byte
	for _, s := range c.steps {
		all = append(all, s.send)
	}
	return bytes.Join(all, nil)
}
