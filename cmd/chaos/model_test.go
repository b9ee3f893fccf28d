//go:build linux

package chaos_test

import "fmt"

// This file says once more, independently of the control plane, what a stage is
// and which moves it makes.

// base is what a stage serves beside its canary: a deployment and the value of
// its only variable.
type base struct{ deployment, value uint32 }

// canary is a stage's open canary; the zero value is none.
type canary struct {
	deployment, percent uint32
	value               uint32 // overrides the base's; 0 leaves it
}

// view is all that a client sees of a stage. Revision 0 is a stage that does not
// exist.
type view struct {
	revision uint64
	base     base
	canary   canary
}

// stage is the state of the model: the view, and what a rollback restores.
type stage struct {
	view
	former  base   // the base before the last change of it
	rebased uint64 // the revision that made that change; 0 if none did
}

// keptRevisions is how far back a stage's history goes.
const keptRevisions = 100

// move is one of the calls that clients make.
type move string

const (
	get      move = "get"
	create   move = "create"
	update   move = "update"
	open     move = "open" // a canary
	promote  move = "promote"
	abort    move = "abort"
	rollback move = "rollback"
)

// call is a call on a stage: the input of a step.
type call struct {
	move   move
	stage  string
	etag   uint64 // revision of the etag that is sent; 0 goes on any
	token  string // that etag
	base   base   // of create and update
	canary canary // of open
}

// Refusals, as the reasons of fife.v1 spell them.
const (
	notFound     = "RESOURCE_NOT_FOUND"
	exists       = "RESOURCE_EXISTS"
	staleEtag    = "STALE_ETAG"
	canaryExists = "CANARY_EXISTS"
	noCanary     = "NO_CANARY"
	noHistory    = "NO_HISTORY"
)

// answer is what came of a call: the output of a step.
type answer struct {
	unknown bool   // it may take effect at any time after the call, or never
	refusal string // why nothing was done
	view    view   // the stage after the call
	etag    string // of the stage after the call
}

// apply returns the stage after a call, or the reason of its refusal.
func (s stage) apply(c call) (next stage, refusal string) {
	next = s
	switch {
	case c.move == create && s.revision > 0:
		return s, exists
	case c.move == create:
		return stage{view: view{revision: 1, base: c.base}}, ""
	case s.revision == 0:
		return s, notFound
	case c.move == get:
		return s, ""
	case c.etag != 0 && c.etag != s.revision:
		return s, staleEtag
	}
	next.revision++
	switch c.move {
	case update:
		next.rebase(c.base)
	case rollback:
		if s.rebased == 0 || next.revision-s.rebased >= keptRevisions {
			return s, noHistory
		}
		next.rebase(s.former)
	default:
		return s.applyCanary(c, next)
	}
	return next, ""
}

// applyCanary makes the moves of which a stage's canary decides whether they are
// legal.
func (s stage) applyCanary(c call, next stage) (stage, string) {
	isOpen := s.canary != canary{}
	switch {
	case c.move == open && isOpen:
		return s, canaryExists
	case c.move == open:
		next.canary = c.canary
		return next, ""
	case !isOpen:
		return s, noCanary
	}
	next.canary = canary{}
	if c.move == promote {
		promoted := base{deployment: s.canary.deployment, value: s.base.value}
		if s.canary.value != 0 {
			promoted.value = s.canary.value
		}
		next.rebase(promoted)
	}
	return next, ""
}

func (s *stage) rebase(b base) {
	if b != s.base {
		s.former, s.rebased, s.base = s.base, s.revision, b
	}
}

func describe(c call, a answer) string {
	question := fmt.Sprintf("%s etag %d", c.move, c.etag)
	switch c.move {
	case create, update:
		question += fmt.Sprintf(" %v", c.base)
	case open:
		question += fmt.Sprintf(" %v", c.canary)
	}
	switch {
	case a.unknown:
		return question + " -> ?"
	case a.refusal != "":
		return fmt.Sprintf("%s -> %s", question, a.refusal)
	}
	return fmt.Sprintf("%s -> %d: %v %v", question, a.view.revision, a.view.base, a.view.canary)
}
