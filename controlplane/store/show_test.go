package store

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// clockStart is when the clocks of these tests begin. Times are shown as
// durations since then.
var clockStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func showTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Sub(clockStart).String()
}

func showVars(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return "{" + strings.Join(parts, " ") + "}"
}

func showRoute(r *release.Route) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", r)
	switch i := r.Integration.(type) {
	case release.HTTP:
		fmt.Fprintf(&b, " http %s", i.URI)
		if i.Method != "" {
			fmt.Fprintf(&b, " upstream %s", i.Method)
		}
	case release.Lambda:
		fmt.Fprintf(&b, " lambda %s", i.Function)
		if i.Qualifier != "" {
			fmt.Fprintf(&b, " qualifier %s", i.Qualifier)
		}
	case release.Mock:
		fmt.Fprintf(&b, " mock %d %s %q", i.Status, showVars(i.Headers), i.Body)
	}
	if r.Timeout != 0 {
		fmt.Fprintf(&b, " timeout %v", r.Timeout)
	}
	if r.Revision != 0 {
		fmt.Fprintf(&b, " rev %d", r.Revision)
	}
	return b.String() + showNotes(r.Annotations)
}

func showNotes(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	return " notes " + showVars(m)
}

func showConfig(c release.Config) string {
	text := fmt.Sprintf("base %d %s", c.Deployment, showVars(c.Variables))
	if k := c.Canary; k != nil {
		text += fmt.Sprintf(", canary %d at %v%% %s salt %d since %s",
			k.Deployment, release.Percent(k.PartsPerMillion), showVars(k.Overrides), k.Salt, showTime(k.StartTime))
		if len(k.Authors) > 0 {
			text += fmt.Sprintf(" by %v", k.Authors)
		}
	}
	return text
}

func showAPI(a *release.API) string {
	text := fmt.Sprintf("api %s rev %d deployments %d routes %d created %s updated %s",
		a.ID, a.Revision, a.LastDeployment, a.RouteCount, showTime(a.CreateTime), showTime(a.UpdateTime))
	if len(a.Hosts) > 0 {
		text += " hosts " + strings.Join(a.Hosts, ",")
	}
	if a.Description != "" {
		text += fmt.Sprintf(" %q", a.Description)
	}
	if a.DefaultTimeout != 0 {
		text += fmt.Sprintf(" timeout %v", a.DefaultTimeout)
	}
	if len(a.BinaryMediaTypes) > 0 {
		text += " binary " + strings.Join(a.BinaryMediaTypes, ",")
	}
	return text + showNotes(a.Annotations)
}

func showDeployment(d *release.Deployment) string {
	text := fmt.Sprintf("deployment %d rev %d digest %x routes %d created %s timeout %v",
		d.Number, d.Revision, d.Digest[:4], d.RouteCount, showTime(d.CreateTime), d.DefaultTimeout)
	if d.Description != "" {
		text += fmt.Sprintf(" %q", d.Description)
	}
	if len(d.BinaryMediaTypes) > 0 {
		text += " binary " + strings.Join(d.BinaryMediaTypes, ",")
	}
	return text
}

func showStage(s *release.Stage) string {
	text := fmt.Sprintf("stage %s revision %d index %d created %s updated %s: %s",
		s.ID, s.Revision, s.Index, showTime(s.CreateTime), showTime(s.UpdateTime), showConfig(s.Config))
	if s.Description != "" {
		text += fmt.Sprintf(" %q", s.Description)
	}
	if p := s.Split; p != (release.Split{}) {
		text += fmt.Sprintf(" sticky %d %q override %v %q", p.Source, p.Name, p.AllowOverride, p.OverrideKey)
	}
	for _, f := range []struct {
		text string
		set  bool
	}{{" exposed", s.ExposeHeaders}, {" fail-closed", s.FailClosed}, {" consistent", s.Consistent}, {" other-promoter", s.OtherPromoter}} {
		if f.set {
			text += f.text
		}
	}
	text += showNotes(s.Annotations)
	for _, w := range s.Waves {
		text += fmt.Sprintf(" wave(%s%s%d %v)", w.OnePerLabel, showVars(w.Labels), w.PartsPerMillion, w.Dwell)
	}
	if s.Throttle != (release.Throttle{}) {
		text += fmt.Sprintf(" throttle(%v)", s.Throttle)
	}
	if s.Promotion != nil {
		text += "\n  " + showPromotion(s.Promotion)
	}
	return text
}

func showPromotion(p *release.Promotion) string {
	text := fmt.Sprintf("promotion %d %v mode %d late %d", p.Number, p.State, p.Mode, p.OnTimeout)
	if p.Actor != "" {
		text += " by " + p.Actor
	}
	if !p.Deadline.IsZero() {
		text += " deadline " + showTime(p.Deadline)
	}
	text += " to " + showConfig(p.Config)
	if p.Committed != 0 {
		text += fmt.Sprintf(" committed %d.%d from %s %+v", p.Epoch, p.Committed, showConfig(p.Former), p.Report)
	}
	if !p.FlipTime.IsZero() {
		text += " flips " + showTime(p.FlipTime)
	}
	if p.Fenced != 0 {
		text += fmt.Sprintf(" fenced %d", p.Fenced)
	}
	for _, w := range p.Waves {
		text += fmt.Sprintf(" reached(%d: %v %s%d %v)", w.Index, w.Agents, showVars(w.Labels), w.PartsPerMillion, w.Dwell)
	}
	if !p.EndTime.IsZero() {
		text += " ended " + showTime(p.EndTime)
	}
	if p.Reason != "" {
		text += fmt.Sprintf(" %q", p.Reason)
	}
	return text
}

// showOutcome writes what a command came to.
func showOutcome(w io.Writer, o Outcome) {
	if r := o.Refusal; r != nil {
		fmt.Fprintf(w, "refused at version %v\n%s %s\n%s\n", o.Version, r.Reason, showVars(r.Metadata), r)
		return
	}
	fmt.Fprintf(w, "ok at version %v\n", o.Version)
	if o.API != nil {
		fmt.Fprintln(w, showAPI(o.API))
	}
	if o.Route != nil {
		fmt.Fprintln(w, showRoute(o.Route))
	}
	if o.Deployment != nil {
		fmt.Fprintln(w, showDeployment(o.Deployment))
	}
	if o.Stage != nil {
		fmt.Fprintln(w, showStage(o.Stage))
	}
	if i := o.Imported; i != nil {
		fmt.Fprintf(w, "imported %d added %d removed %d changed %d unchanged, names %v\n", i.Added, i.Removed, i.Changed, i.Unchanged, i.Names)
	}
}

// showState writes all that a state holds.
func showState(w io.Writer, s *State) {
	fmt.Fprintf(w, "cluster %q version %v applied %v outcomes %d changes %d after %d\n",
		s.ClusterID(), s.Version(), s.Applied(), s.outcomes.byID.Len(), s.changes.entries.len(), s.changes.floor)
	if s.entryFloor > 0 || s.departed.Len() > 0 {
		fmt.Fprintf(w, "floors renewal %d entry %d departed %v\n", s.renewalFloor, s.entryFloor, slices.Collect(s.Departed()))
	}
	if s.auditLimits != (AuditLimits{}) {
		fmt.Fprintf(w, "audit for %v up to %d bytes\n", s.auditLimits.Retention, s.auditLimits.MaxBytes)
	}
	for c, l := range s.auditLogs {
		if l.last > 0 {
			fmt.Fprintf(w, "%v %d to %d head %x after %x\n", AuditChain(c), l.forgotten+1, l.last, l.head[:4], l.floor[:4])
		}
	}
	for a := range s.Agents() {
		fmt.Fprintf(w, "agent %s %s\n", a.ID, showVars(a.Labels))
	}
	if s.Trust() != nil {
		fmt.Fprintf(w, "trust %s %q\n", s.Trust().GetCluster(), s.Trust().GetRoots())
		showRotation(w, s.Trust())
	}
	for t := range s.JoinTokens("") {
		fmt.Fprintf(w, "join token %s for %s/%s apis %v until %v uses %d\n", t.GetId(), t.GetClass(), t.GetPattern(), t.GetApis(),
			showTime(decodeTime(t.GetExpireTime())), t.GetUses())
	}
	for e := range s.Enrolments() {
		fmt.Fprintf(w, "identity %s apis %v joined %s revoked %s\n", e.GetName(), e.GetApis(), showTime(decodeTime(e.GetJoinTime())), showTime(decodeTime(e.GetRevokeTime())))
	}
	for b := range s.Bindings(access.Binding{}) {
		fmt.Fprintf(w, "binding %v\n", b)
	}
	for c := range s.UserCertificates("") {
		fmt.Fprintf(w, "certificate %s of %s by %s from %s to %s\n", c.GetId(), c.GetUser(), c.GetCreator(),
			showTime(decodeTime(c.GetCreateTime())), showTime(decodeTime(c.GetExpireTime())))
	}
	for t := range s.UserTokens("") {
		fmt.Fprintf(w, "token %s of %s hash %x from %s to %s\n", t.ID, t.User, t.Hash[:4], showTime(t.CreateTime), showTime(t.ExpireTime))
	}
	for k := range s.AccessKeys("") {
		fmt.Fprintf(w, "access key %s of %s sealed %q from %s to %s\n", k.ID, k.User, k.Sealed, showTime(k.CreateTime), showTime(k.ExpireTime))
	}
	for n := range s.Nodes() {
		fmt.Fprintf(w, "node %s at %s schema %d\n", n.ID, n.GRPCAddress, n.Schema)
	}
	for i := range walk(s.staged, nil) {
		fmt.Fprintf(w, "import %s of %s at %s: %d routes, %d bytes\n", i.id, i.api, showTime(i.time), i.count, i.size)
		for n, part := range i.parts {
			for _, r := range part {
				fmt.Fprintf(w, "  part %d %s\n", n, showRoute(r))
			}
		}
	}
	for a := range s.APIs("") {
		fmt.Fprintln(w, showAPI(a))
		for r := range s.Routes(a.ID, "", "") {
			fmt.Fprintf(w, "  %s\n", showRoute(r))
		}
		for d := range s.Deployments(a.ID, 0) {
			live := ""
			if s.Live(a.ID, d.Number) {
				live = " live"
			}
			fmt.Fprintf(w, "  %s%s\n", showDeployment(d), live)
			for _, r := range d.Routes {
				fmt.Fprintf(w, "    %s\n", showRoute(r))
			}
		}
		for stage := range s.Stages(a.ID, "") {
			fmt.Fprintf(w, "  %s\n", showStage(stage))
			for _, r := range stage.History {
				fmt.Fprintf(w, "    %d %s by %s %s: %s\n", r.Number, r.Change.Method, r.Change.Actor, showTime(r.Change.Time), showConfig(r.Config))
			}
		}
	}
}

// showAudit writes the entries of the audit.
func showAudit(w io.Writer, s *State) {
	for e := range s.Audit(AuditPosition{}) {
		fmt.Fprintf(w, "%v %d at %d.%d %s %q from %q %s %s", e.Chain, e.Number, e.Term, e.Index, showTime(e.Time), e.Actor, e.Source, e.Method, e.Resource)
		if e.Count > 1 {
			fmt.Fprintf(w, " %d times", e.Count)
		}
		if e.Reason != "" {
			fmt.Fprintf(w, " refused %d %s: %s", e.Code, e.Reason, e.Message)
		}
		if len(e.Before)+len(e.After) > 0 {
			fmt.Fprintf(w, " %s -> %s", showVars(e.Before), showVars(e.After))
		}
		fmt.Fprintf(w, " %x\n", e.Hash[:4])
	}
}

func stateText(s *State) string {
	var b strings.Builder
	showState(&b, s)
	return b.String()
}

// showRotation writes what only the rotations of the root and the key bring.
func showRotation(w io.Writer, trust *storev1.Trust) {
	if r := trust.GetRotation(); r != nil {
		fmt.Fprintf(w, "rotation to %q at %s since %s, moved %s\n", r.GetRoot(), PhaseName(r.GetPhase()),
			showTime(decodeTime(r.GetStartTime())), showTime(decodeTime(r.GetMoveTime())))
	}
	if trust.GetRotation() != nil || trust.GetKey()+trust.GetNextKey() != "" {
		for _, i := range trust.GetIssuers() {
			fmt.Fprintf(w, "issuer %s %q sealed %q\n", i.GetClass(), i.GetCertificate(), i.GetSealedKey())
		}
		for _, i := range trust.GetRotation().GetIssuers() {
			fmt.Fprintf(w, "next issuer %s %q sealed %q\n", i.GetClass(), i.GetCertificate(), i.GetSealedKey())
		}
		fmt.Fprintf(w, "key %q next %q\n", trust.GetKey(), trust.GetNextKey())
	}
}
