package discovery

import (
	"errors"
	"fmt"
	"maps"
	"time"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// errOutOfStep is in the errors that a full snapshot would mend: both ends do not
// agree on what is held.
var errOutOfStep = errors.New("out of step with the control plane")

// apply returns what is held after a frame that came at a time by the leader's
// clock; zero if that is not known. It is pure: on an error nothing has changed,
// and h is as good as before in any case.
func (h *held) apply(f *discoveryv1.Frame, now time.Time) (*held, error) {
	from, to := fromProto(f.GetFrom()), fromProto(f.GetTo())
	full := from.IsZero()
	switch {
	case to.IsZero():
		return nil, errors.New("the frame has no version")
	case !full && from != h.version:
		return nil, fmt.Errorf("%w: the frame starts from version %v, held is %v", errOutOfStep, from, h.version)
	case !full && to.Compare(from) <= 0:
		return nil, fmt.Errorf("the frame goes from version %v to %v, which is not newer", from, to)
	case h.cluster != "" && f.GetClusterId() != "" && f.GetClusterId() != h.cluster && (!full || to.Epoch <= h.seen.Epoch):
		return nil, fmt.Errorf("the frame is of cluster %s at version %v; this agent follows cluster %s and has seen %v: another cluster needs a higher epoch",
			f.GetClusterId(), to, h.cluster, h.seen)
	case to.Compare(h.seen) < 0:
		return nil, fmt.Errorf("the frame leads to version %v, which is older than %v: that was applied before", to, h.seen)
	}

	next := &held{agent: h.agent, cluster: f.GetClusterId(), version: to, seen: to, resources: make(map[string]resource, len(f.GetUpserts()))}
	if !full {
		next.resources, next.digest = maps.Clone(h.resources), h.digest
	}
	// A frame that was merged from several steps may remove what this agent never
	// had; whether that is right, the digest says.
	for _, name := range f.GetRemoves() {
		if r, ok := next.resources[name]; ok {
			next.digest -= digest(r.pb)
			delete(next.resources, name)
		}
	}
	for _, pb := range f.GetUpserts() {
		if r, ok := next.resources[pb.GetName()]; ok {
			next.digest -= digest(r.pb)
		}
		next.digest += digest(pb)
		next.resources[pb.GetName()] = resource{pb: pb} // decoded below, once it is known to fit
	}
	if next.digest != f.GetDigest() {
		return nil, fmt.Errorf("%w: at version %v the %d resources held sum up to digest %016x, the frame says %016x",
			errOutOfStep, to, len(next.resources), next.digest, f.GetDigest())
	}

	for _, pb := range f.GetUpserts() {
		r, err := decode(pb)
		if err != nil {
			return nil, err
		}
		if before := h.resources[pb.GetName()].stage; isDue(r.stage, now) || hasLeft(before, r.stage) {
			r = r.leave()
		}
		next.resources[pb.GetName()] = r
	}
	table, err := next.compile()
	if err != nil {
		return nil, err
	}
	next.table = table
	return next, nil
}
