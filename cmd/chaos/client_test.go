//go:build linux

package chaos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// errNothingDone says that a call has not taken effect and never will.
var errNothingDone = errors.New("nothing was done")

// variable is the only variable of the stages.
const variable = "v"

// do makes a call on a stage of an API through a node. The error is
// errNothingDone, or tells of a bug; a call whose outcome is open is an answer.
func (n *node) do(ctx context.Context, api string, c call, requestID string) (answer, error) {
	var (
		s    *fifev1.Stage
		err  error
		name = "apis/" + api + "/stages/" + c.stage
		etag = c.token
	)
	switch c.move {
	case get:
		resp, e := n.stages.GetStage(ctx, &fifev1.GetStageRequest{Name: name})
		s, err = resp.GetStage(), e
	case create:
		resp, e := n.stages.CreateStage(ctx, &fifev1.CreateStageRequest{
			Parent: "apis/" + api, StageId: c.stage, Stage: c.base.proto(api), RequestId: requestID,
		})
		s, err = resp.GetStage(), e
	case update:
		values := c.base.proto(api)
		values.Name, values.Etag = name, etag
		resp, e := n.stages.UpdateStage(ctx, &fifev1.UpdateStageRequest{
			Stage: values, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"deployment", "variables"}}, RequestId: requestID,
		})
		s, err = resp.GetStage(), e
	case open:
		resp, e := n.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{
			Name: name, Canary: c.canary.proto(api), Etag: etag, RequestId: requestID,
		})
		s, err = resp.GetStage(), e
	case promote:
		resp, e := n.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: name, Etag: etag, RequestId: requestID})
		s, err = resp.GetStage(), e
	case abort:
		resp, e := n.stages.AbortCanary(ctx, &fifev1.AbortCanaryRequest{Name: name, Etag: etag, RequestId: requestID})
		s, err = resp.GetStage(), e
	case rollback:
		resp, e := n.stages.RollbackStage(ctx, &fifev1.RollbackStageRequest{Name: name, Etag: etag, RequestId: requestID})
		s, err = resp.GetStage(), e
	}
	if err != nil {
		return classify(err)
	}
	return answer{view: parseStage(s), etag: s.GetEtag()}, nil
}

func (b base) proto(api string) *fifev1.Stage {
	return &fifev1.Stage{Deployment: deploymentName(api, b.deployment), Variables: variables(b.value)}
}

func (c canary) proto(api string) *fifev1.Canary {
	return &fifev1.Canary{
		Deployment: deploymentName(api, c.deployment), Percent: float64(c.percent), VariableOverrides: variables(c.value),
	}
}

func deploymentName(api string, number uint32) string {
	return fmt.Sprintf("apis/%s/deployments/%d", api, number)
}

func variables(value uint32) map[string]string {
	if value == 0 {
		return nil
	}
	return map[string]string{variable: strconv.FormatUint(uint64(value), 10)}
}

// parseStage returns what a client sees of a stage.
func parseStage(s *fifev1.Stage) view {
	v := view{revision: s.GetRevision(), base: base{parseNumber(s.GetDeployment()), parseNumber(s.GetVariables()[variable])}}
	if c := s.GetCanary(); c != nil {
		v.canary = canary{parseNumber(c.GetDeployment()), uint32(c.GetPercent()), parseNumber(c.GetVariableOverrides()[variable])}
	}
	return v
}

// parseNumber reads what follows the last slash; nothing is 0.
func parseNumber(s string) uint32 {
	n, err := strconv.ParseUint(s[strings.LastIndex(s, "/")+1:], 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// info returns the detail that every error of fife.v1 carries; nil if it comes
// from elsewhere.
func info(err error) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && i.GetDomain() == "fife" {
			return i
		}
	}
	return nil
}

// classify tells refusals from calls that were not carried out and from those
// whose outcome is open.
func classify(err error) (answer, error) {
	i := info(err)
	switch reason := i.GetReason(); reason {
	case "NO_LEADER", "DISK_FULL":
		return answer{}, errNothingDone
	case "OUTCOME_UNKNOWN":
		return answer{unknown: true}, nil
	case notFound, exists, canaryExists, noCanary, noHistory, staleEtag:
		return answer{refusal: reason}, nil
	case "":
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			return answer{unknown: true}, nil
		}
	}
	return answer{}, fmt.Errorf("unexpected error: %w", err)
}

// client makes calls one after the other and keeps their history.
type client struct {
	id      int
	api     string
	cluster *cluster
	rand    *mathrand.Rand
	stages  func() string // draws a stage
	clock   func() int64  // nanoseconds
	seen    map[string]answer
	values  uint32 // given out so far

	history []porcupine.Operation
	tally   map[string]int
}

// How a client takes it when a call's outcome is open.
const (
	hastyTimeout   = 2 * time.Second  // gives up, and leaves it open
	patientTimeout = 15 * time.Second // has waited longer than a node looks for a leader
	attempts       = 6                // repeats the call through other nodes
)

// run makes calls until ctx ends. The error tells of a bug.
func (c *client) run(ctx context.Context) error {
	for pause(ctx, time.Duration(c.rand.IntN(10))*time.Millisecond) {
		next := c.draw()
		op := porcupine.Operation{ClientId: c.id, Input: next, Call: c.clock()}
		a, err := c.insist(next)
		if errors.Is(err, errNothingDone) || (next.move == get && a.unknown) {
			c.tally["nothing done"]++
			continue
		}
		if err != nil {
			return fmt.Errorf("client %d: %s: %w", c.id, describe(next, a), err)
		}
		op.Output, op.Return = a, c.clock()
		switch {
		case a.unknown:
			op.Return = never
			c.tally["unknown"]++
		case a.refusal != "":
			c.tally["refused"]++
		default:
			c.seen[next.stage] = a
			c.tally[string(next.move)]++
		}
		c.history = append(c.history, op)
	}
	return nil
}

// never is when a call returns whose outcome is open.
const never = int64(1) << 62

// insist makes one call in the client's own manner: a third of them gives up
// soon, a third is patient, a third repeats the call with its request id.
func (c *client) insist(next call) (answer, error) {
	switch c.id % 3 {
	case 0:
		return c.once(next, "", hastyTimeout)
	case 1:
		return c.once(next, "", patientTimeout)
	}
	id, unknown := rand.Text(), false
	for range attempts {
		a, err := c.once(next, id, hastyTimeout)
		if !a.unknown && !errors.Is(err, errNothingDone) {
			return a, err
		}
		unknown = unknown || a.unknown
	}
	if unknown {
		return answer{unknown: true}, nil
	}
	return answer{}, errNothingDone
}

// once makes a call through a node that is connected.
func (c *client) once(next call, requestID string, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for {
		for _, i := range c.rand.Perm(len(c.cluster.nodes)) {
			if n := c.cluster.nodes[i]; n.reachable() {
				return n.do(ctx, c.api, next, requestID)
			}
		}
		if !pause(ctx, 10*time.Millisecond) {
			return answer{}, errNothingDone
		}
	}
}

// draw chooses the next call: half of them read, most changes fit what the client
// saw last, and half of those insist on it by its etag.
func (c *client) draw() call {
	next := call{stage: c.stages()}
	seen, known := c.seen[next.stage]
	switch p := c.rand.IntN(100); {
	case !known && p < 30:
		next.move, next.base = create, base{c.deployment(), c.value()}
		return next
	case p < 50:
		next.move = get
		return next
	case p < 65:
		next.move, next.base = update, base{c.deployment(), c.value()}
	case p < 80 && seen.view.canary == canary{}:
		next.move = open
		next.canary = canary{c.deployment(), uint32(1 + c.rand.IntN(100)), uint32(c.rand.IntN(2)) * c.value()}
	case p < 80:
		next.move = promote
	case p < 90:
		next.move = abort
	default:
		next.move = rollback
	}
	if c.rand.IntN(2) == 0 {
		next.etag, next.token = seen.view.revision, seen.etag
	}
	return next
}

func (c *client) deployment() uint32 { return uint32(1 + c.rand.IntN(deployments)) }

// value returns a value that no client has used.
func (c *client) value() uint32 {
	c.values++
	return uint32(c.id+1)*1_000_000 + c.values
}

// deployments is how many deployments the API of a history has.
const deployments = 3
