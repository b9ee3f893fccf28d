package release

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Canary is a deployment on trial beside a stage's base.
type Canary struct {
	Deployment      uint64
	PartsPerMillion uint32 // share of requests, 0 to 1,000,000
	Overrides       map[string]string
	Salt            uint64 // seed of the sticky split: constant for one canary, new for each
	StartTime       time.Time
	Authors         []string // who may have to leave its promotion to others: see authors
}

// The fields of a canary that UpdateCanary can change, beside FieldDeployment,
// as update masks name them.
const (
	FieldPercent           = "percent"
	FieldVariableOverrides = "variable_overrides"
)

// CanaryFields are the fields that UpdateCanary changes if none are named. Secrets are
// not among them, as with StageFields.
func CanaryFields() []string {
	return []string{FieldPercent, FieldVariableOverrides, FieldDeployment}
}

// StartCanary opens a canary; deployment 0 means the stage's own. With replace,
// an open canary gives way.
func (s *Stage) StartCanary(c Change, canary Canary, replace bool) (*Stage, error) {
	if err := s.checkNoPromotion(); err != nil {
		return nil, err
	}
	if s.Config.Canary != nil && !replace {
		return nil, refuse(CanaryExists, s.Name(),
			"%s has a canary already; change, promote or abort it, or start the new one with replace", s.Name())
	}
	if err := checkMerged(s, s.Config.Variables, canary.Overrides); err != nil {
		return nil, err
	}
	if err := checkOverrides(s.Config.Variables, canary.Overrides); err != nil {
		return nil, err
	}
	if canary.Deployment == 0 {
		canary.Deployment = s.Config.Deployment
	}
	canary.StartTime, canary.Authors = c.Time, authors(c, nil, &canary)
	config := s.Config
	config.Canary = &canary
	return s.next(c, config), nil
}

// UpdateCanary returns the stage with the named fields of its canary taken from
// values.
func (s *Stage) UpdateCanary(c Change, values Canary, fields []string) (*Stage, error) {
	if err := s.checkNoPromotion(); err != nil {
		return nil, err
	}
	if s.Config.Canary == nil {
		return nil, s.noCanary("changed")
	}
	canary, config := *s.Config.Canary, s.Config
	var err error
	canary.Overrides, err = editVariables("canary.secret_overrides", canary.Overrides, values.Overrides,
		slices.Contains(fields, FieldVariableOverrides), slices.Contains(fields, FieldSecretOverrides))
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		switch f {
		case FieldPercent:
			canary.PartsPerMillion = values.PartsPerMillion
		case FieldDeployment:
			canary.Deployment = values.Deployment
		}
	}
	if err := checkMerged(s, config.Variables, canary.Overrides); err != nil {
		return nil, err
	}
	canary.Authors = authors(c, config.Canary, &canary)
	if err := checkOverrides(config.Variables, canary.Overrides); err != nil {
		return nil, err
	}
	config.Canary = &canary
	return s.next(c, config), nil
}

// AbortCanary removes the canary: all traffic goes to the base. It ends an open
// promotion of it.
func (s *Stage) AbortCanary(c Change) (*Stage, error) {
	if s.Config.Canary == nil {
		return nil, s.noCanary("aborted")
	}
	config := s.Config
	config.Canary = nil
	next := s.next(c, config)
	if s.Promotion.Undecided() {
		next.Promotion = s.Promotion.aborted(c, "the canary was aborted")
	}
	return next, nil
}

// PromoteCanary makes the canary the base: its deployment is taken over and its
// overrides are laid over the stage's variables. With keep, the canary stays at
// 0 % and without overrides. With breakGlass it ends an open promotion that is not
// committed, and whoever calls may promote.
func (s *Stage) PromoteCanary(c Change, keep, breakGlass bool) (*Stage, error) {
	if !breakGlass || !s.Promotion.Undecided() {
		if err := s.checkNoPromotion(); err != nil {
			return nil, err
		}
	}
	config, err := s.promoted(c, keep)
	if err != nil {
		return nil, err
	}
	c.Note = s.Config.Canary.provenance()
	barred := s.checkPromoter(c)
	if breakGlass {
		c.Note = broken(c.Note, barred)
	} else if barred != nil {
		return nil, barred
	}
	next := s.next(c, config)
	next.Promotion = s.Promotion.aborted(c, "overtaken by a promotion that broke the glass")
	return next, nil
}

// broken returns what a promotion that breaks the glass notes, and what it has broken.
func broken(note string, barred error) string {
	notes := []string{"break glass: all agents at once"}
	if barred != nil {
		notes = append(notes, "no other promoter")
	}
	if note != "" {
		notes = append(notes, note)
	}
	return strings.Join(notes, "; ")
}

// promoted returns the configuration that a promotion of the canary leads to. A canary
// that stays is that of whoever has let it stay.
func (s *Stage) promoted(c Change, keep bool) (Config, error) {
	if s.Config.Canary == nil {
		return Config{}, s.noCanary("promoted")
	}
	canary := *s.Config.Canary
	config := Config{
		Deployment: canary.Deployment,
		Variables:  MergeVariables(s.Config.Variables, canary.Overrides),
	}
	if keep {
		canary.PartsPerMillion, canary.Overrides, canary.Authors = 0, nil, authors(c, nil, nil)
		config.Canary = &canary
	}
	return config, nil
}

func (s *Stage) noCanary(verb string) error {
	return refuse(NoCanary, s.Name(), "%s has no canary that could be %s; start one first", s.Name(), verb)
}

// PartsPerMillion converts a percent, and notes one that is no number from 0 to
// 100.
func PartsPerMillion(v *Violations, field string, percent float64) uint32 {
	if math.IsNaN(percent) || percent < 0 || percent > 100 {
		v.Addf(field, "%v must lie between 0 and 100", percent)
		return 0
	}
	return uint32(math.Round(percent * 10_000))
}

// Percent converts parts per million to a percent.
func Percent(partsPerMillion uint32) float64 { return float64(partsPerMillion) / 10_000 }
