package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TrustView is what all nodes know of who trusts whom.
type TrustView struct {
	Reports     []*fifev1.TrustReport
	Keys        map[string][]string // ids of the keys that a node has, by its id
	Unreachable []string            // nodes that did not answer
}

// ViewTrust asks all members what they know of who trusts whom. own is what this node
// knows.
func ViewTrust(ctx context.Context, s *store.Store, peers *Peers, own func() *fifev1.ReportTrustResponse) (TrustView, error) {
	members, err := s.Members()
	if err != nil {
		return TrustView{}, err
	}
	view := TrustView{Keys: map[string][]string{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range members {
		asking.Go(func() {
			var resp *fifev1.ReportTrustResponse
			var err error
			if m.ID == s.NodeID() {
				resp = own()
			} else {
				resp, err = trustOf(ctx, peers, m)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				view.Unreachable = append(view.Unreachable, m.ID)
				return
			}
			view.Reports = append(view.Reports, resp.GetReports()...)
			view.Keys[m.ID] = resp.GetKeys()
		})
	}
	asking.Wait()
	slices.Sort(view.Unreachable)
	return view, nil
}

func trustOf(ctx context.Context, peers *Peers, m store.Member) (*fifev1.ReportTrustResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	conn, err := peers.Conn(m.GRPCAddress)
	if err != nil {
		return nil, err
	}
	return fifev1.NewAuthorityServiceClient(conn).ReportTrust(ctx, &fifev1.ReportTrustRequest{})
}

// ServersBy reports whether all members have answered, and have their certificates by
// a root.
func (v TrustView) ServersBy(root []byte) bool {
	sum := sha256.Sum256(root)
	return len(v.Unreachable) == 0 && !slices.ContainsFunc(v.Reports, func(r *fifev1.TrustReport) bool {
		return strings.HasPrefix(r.GetName(), serverPrefix) && !bytes.Equal(r.GetBy(), sum[:])
	})
}

// HaveKey reports whether all members have answered, and have a key.
func (v TrustView) HaveKey(id string) bool {
	for _, keys := range v.Keys {
		if !slices.Contains(keys, id) {
			return false
		}
	}
	return len(v.Unreachable) == 0
}

// The prefixes of names by their class.
const (
	serverPrefix = string(identity.Server) + "/"
	agentClass   = string(identity.Agent) + "/"
	userPrefix   = string(identity.User) + "/"
)

// holderView is what is known of one holder of a certificate, from all nodes.
type holderView struct {
	connected bool
	trusts    bool // the new root
	byOld     bool
	old, new  time.Time // when a user's certificates by each root were last seen
}

// lacks returns what keeps a holder from the step that follows a phase; empty for
// nothing.
func (h *holderView) lacks(class string, phase storev1.RotationPhase) string {
	switch {
	case class == serverPrefix && phase == storev1.RotationPhase_ROTATION_PHASE_RETIRE:
		if h.byOld {
			return "its certificate is by the old root"
		}
	case class == userPrefix:
		if phase == storev1.RotationPhase_ROTATION_PHASE_SWITCH && h.old.After(h.new) {
			return "its certificate is by the old root: fife certificate renew"
		}
	case !h.trusts:
		return "it does not trust the new root yet"
	case class == agentClass && phase == storev1.RotationPhase_ROTATION_PHASE_SWITCH && h.byOld:
		return "its certificate is by the old root"
	}
	return ""
}

// pending returns who keeps a rotation of the root from its next step, who may be cut
// off by it without anybody knowing, and how many holders have been looked at. What
// nobody has seen of a user or an agent says nothing: it may have what it needs.
func (v TrustView) pending(state *store.State) (pending, unknown []*fifev1.Holder, holders int) {
	rotation := state.Trust().GetRotation()
	phase := rotation.GetPhase()
	if rotation == nil {
		return nil, nil, len(v.Reports)
	}
	sum := sha256.Sum256(rotation.GetRoot())
	found := map[string]*holderView{}
	for _, r := range v.Reports {
		h := found[r.GetName()]
		if h == nil {
			h = &holderView{}
			found[r.GetName()] = h
		}
		byNew := bytes.Equal(r.GetBy(), sum[:])
		h.connected = h.connected || r.GetConnected()
		h.byOld = h.byOld || !byNew
		h.trusts = h.trusts || slices.ContainsFunc(r.GetTrusts(), func(t []byte) bool { return bytes.Equal(t, sum[:]) })
		if seen := r.GetSeenTime().AsTime(); byNew && seen.After(h.new) {
			h.new = seen
		} else if !byNew && seen.After(h.old) {
			h.old = seen
		}
	}
	for name, h := range found {
		class, _, _ := strings.Cut(name, "/")
		if wants := h.lacks(class+"/", phase); wants != "" {
			pending = append(pending, &fifev1.Holder{Name: name, Wants: wants, Connected: h.connected})
		}
	}
	for _, node := range v.Unreachable {
		pending = append(pending, &fifev1.Holder{Name: serverPrefix + node, Wants: "it does not answer"})
	}
	// Servers come last: by then whoever is away has had its time.
	absent := &unknown
	if phase == storev1.RotationPhase_ROTATION_PHASE_SWITCH {
		absent = &pending
	}
	for a := range state.Agents() {
		if name := agentClass + a.ID; found[name] == nil {
			found[name] = &holderView{}
			*absent = append(*absent, &fifev1.Holder{Name: name, Wants: "it is not connected"})
		}
	}
	if phase != storev1.RotationPhase_ROTATION_PHASE_RETIRE {
		unknown = append(unknown, neverSeen(state, found)...)
	}
	byName := func(a, b *fifev1.Holder) int { return strings.Compare(a.GetName(), b.GetName()) }
	slices.SortFunc(pending, byName)
	slices.SortFunc(unknown, byName)
	return pending, unknown, len(found)
}

// neverSeen returns the agents that have joined and are not on the record, and the
// users with a role, of whom no node knows anything.
func neverSeen(state *store.State, found map[string]*holderView) []*fifev1.Holder {
	names := map[string]bool{}
	for e := range state.Enrolments() {
		if strings.HasPrefix(e.GetName(), agentClass) && !state.RevokedAt(e.GetName()).After(e.GetJoinTime().AsTime()) {
			names[e.GetName()] = true
		}
	}
	for b := range state.Bindings(access.Binding{}) {
		if user, ok := strings.CutPrefix(string(b.Subject), access.UserPrefix); ok {
			names[userPrefix+user] = true
		}
	}
	var out []*fifev1.Holder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if found[name] == nil {
			out = append(out, &fifev1.Holder{Name: name, Wants: "it has not been seen"})
		}
	}
	return out
}
