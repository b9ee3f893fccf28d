package release

import (
	"maps"
	"slices"
	"strings"
)

// A stage that requires another promoter gets a new base by a promotion or a rollback
// alone, and the authors of its canary leave the promotion to others. Authors are who
// has started the canary and who has changed what it serves since, its deployment or
// its overrides. Its percent is not what it serves: whoever looks after a canary may
// raise it and then promote.

// authors returns those of a canary after a change; open is what it was before, nil if
// it was not. None means that they are not known: somebody has changed it whom nobody
// has asked who that is.
func authors(c Change, open, canary *Canary) []string {
	switch {
	case open != nil && open.Deployment == canary.Deployment && maps.Equal(open.Overrides, canary.Overrides):
		return open.Authors
	case c.Caller == "":
		return nil
	case open == nil:
		return []string{c.Caller}
	case len(open.Authors) == 0 || slices.Contains(open.Authors, c.Caller):
		return open.Authors
	}
	return append(slices.Clip(open.Authors), c.Caller)
}

// provenance says for the history whose a canary is; empty if that is not known.
func (c *Canary) provenance() string {
	if len(c.Authors) == 0 {
		return ""
	}
	return "canary of " + strings.Join(c.Authors, ", ")
}

// CheckCallerKnown refuses to require another promoter where nobody is asked who calls.
func CheckCallerKnown(c Change, stage string) error {
	if c.Caller != "" {
		return nil
	}
	return refuse(CallersUnknown, stage,
		"%s cannot require another promoter: who calls is not known on a port without TLS; serve with certificates, or do not require one", stage)
}

// checkPromoter refuses a promotion of the canary by one of its authors, on a stage
// that requires another promoter.
func (s *Stage) checkPromoter(c Change) error {
	if !s.OtherPromoter || s.Config.Canary == nil {
		return nil
	}
	authors := s.Config.Canary.Authors
	switch {
	case c.Caller == "":
		return CheckCallerKnown(c, s.Name())
	case len(authors) == 0:
		return refuse(SamePromoter, s.Name(),
			"%s requires another promoter than who has started the canary, which is not known of this one; start it again with replace, and let somebody else promote it",
			s.Name()).with("subject", c.Caller)
	case !slices.Contains(authors, c.Caller):
		return nil
	}
	return refuse(SamePromoter, s.Name(),
		"%s may not promote the canary of %s, which requires another promoter than who has started the canary or changed what it serves: %s; ask somebody else",
		c.Caller, s.Name(), strings.Join(authors, ", ")).with("subject", c.Caller).with("authors", strings.Join(authors, ","))
}

// checkOtherPromoter refuses, of a stage that was something else before, a new base
// past its canary if both require another promoter, and to require one where nobody is
// known.
func (s *Stage) checkOtherPromoter(c Change, before *Stage, config Config) error {
	switch {
	case s.OtherPromoter && !before.OtherPromoter:
		return CheckCallerKnown(c, s.Name())
	case s.OtherPromoter && !sameBase(before.Config, config):
		return refuse(PromotionNeeded, s.Name(),
			"%s requires another promoter, so its deployment and variables change by promotions and rollbacks alone; start a canary, and let somebody else promote it",
			s.Name())
	}
	return nil
}
