package release

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Stage is a named place where an API is served. A Stage is never changed once
// made: its methods return the next one, with one more revision.
type Stage struct {
	API           string
	ID            string
	Description   string
	Config        Config
	Split         Split
	ExposeHeaders bool
	CreateTime    time.Time
	UpdateTime    time.Time
	FailClosed    bool       // whether agents without a lease stop serving it
	Consistent    bool       // whether clients are kept from older promotions
	Waves         []Wave     // the order in which a promotion reaches the agents
	Throttle      Throttle   // a setting: no promotion and no rollback changes it
	OtherPromoter bool       // whether a canary is promoted by others than its authors
	Promotion     *Promotion // the open one, or the last; nil if there was none
	Promoted      uint64     // number of the last promotion that was committed
	Revision      uint64     // counts changes from 1
	Index         uint64     // index of the last change
	History       []*Revision
	Annotations   map[string]string
}

// Config is what one revision of a stage serves.
type Config struct {
	Deployment uint64 // the base
	Variables  map[string]string
	Canary     *Canary // nil if none is open
}

// Revision is one change of a stage. What was served before is what the
// revision before it left. It is never changed.
type Revision struct {
	Number uint64
	Change Change
	Config Config
}

// Name returns the stage's resource name.
func (s *Stage) Name() string { return StageName(s.API, s.ID) }

// Target is the part of a stage that a deployment goes to.
type Target uint8

// The parts of a stage.
const (
	TargetAuto   Target = iota // the canary if there is one, else the base
	TargetBase                 // the base, even beside a canary
	TargetCanary               // the canary; refused if there is none
)

// StageValues are the fields of a stage that callers set.
type StageValues struct {
	Description   string
	Deployment    uint64
	Variables     map[string]string
	Split         Split
	ExposeHeaders bool
	FailClosed    bool
	Consistent    bool
	Waves         []Wave
	Throttle      Throttle
	OtherPromoter bool
	Annotations   map[string]string
	// Canary is the one to open, or what the open one becomes; nil for none. Its salt
	// is taken only for one that is opened.
	Canary *Canary
	// KeepOverrideKey leaves the key as it is when Split is changed: callers never
	// see it, so they cannot send it back.
	KeepOverrideKey bool
}

// The fields of a stage that Update can change, beside FieldDescription, as
// update masks name them.
const (
	FieldDeployment    = "deployment"
	FieldVariables     = "variables"
	FieldSplit         = "split"
	FieldExposeHeaders = "expose_headers"
	FieldStalePolicy   = "stale_policy"
	FieldConsistent    = "consistent_clients"
	FieldWaves         = "waves"
	FieldThrottle      = "throttle"
	FieldCanary        = "canary"
	FieldOtherPromoter = "require_other_promoter"
)

// StageFields are the fields that Update changes if none are named. The canary,
// annotations, secrets and the promoter's rule are not among them: who does not know
// them must not lose them.
func StageFields() []string {
	return []string{
		FieldDescription, FieldDeployment, FieldVariables, FieldSplit, FieldExposeHeaders,
		FieldStalePolicy, FieldConsistent, FieldWaves, FieldThrottle,
	}
}

// NewStage makes a stage that serves one deployment, with a canary if the values have
// one, whose overrides must fit beside the variables.
func NewStage(c Change, api, id string, values StageValues) *Stage {
	s := &Stage{
		API:           api,
		ID:            id,
		Description:   values.Description,
		Split:         values.Split,
		ExposeHeaders: values.ExposeHeaders,
		FailClosed:    values.FailClosed,
		Consistent:    values.Consistent,
		Waves:         values.Waves,
		Throttle:      values.Throttle,
		OtherPromoter: values.OtherPromoter,
		Annotations:   values.Annotations,
		CreateTime:    c.Time,
	}
	config := Config{Deployment: values.Deployment, Variables: values.Variables}
	return s.next(c, config.withCanary(c, values.Canary))
}

// next returns the stage after a change. The list of the history is copied, as the old
// stage goes on being read; its revisions are shared.
func (s *Stage) next(c Change, config Config) *Stage {
	next := *s
	next.Config = config
	c.Caller = "" // history keeps the actor
	next.UpdateTime = c.Time
	next.Revision++
	kept := keep(s.History, config)
	next.History = append(append(make([]*Revision, 0, len(kept)+1), kept...), &Revision{Number: next.Revision, Change: c, Config: config})
	return &next
}

// keep returns what of a history stays beside one more revision: the newest ones
// and, if all of them have the base of that one, the last before them that had
// another: what a rollback restores stays within reach, however often a percent was
// changed since.
func keep(history []*Revision, next Config) []*Revision {
	dropped := max(0, len(history)-HistoryLimit+1)
	kept := history[dropped:]
	other := func(r *Revision) bool { return !sameBase(r.Config, next) }
	if dropped == 0 || slices.ContainsFunc(kept, other) {
		return kept
	}
	for _, r := range slices.Backward(history[:dropped]) {
		if other(r) {
			return append([]*Revision{r}, kept...)
		}
	}
	return kept
}

// Update returns the stage with the named fields taken from values. The history
// notes a throttle that has changed: revisions keep what is served, not settings.
func (s *Stage) Update(c Change, values StageValues, fields []string) (*Stage, error) {
	if err := s.checkNoPromotion(); err != nil {
		return nil, err
	}
	edited, config := *s, s.Config
	var err error
	config.Variables, err = editVariables("stage.secret_variables", config.Variables, values.Variables,
		slices.Contains(fields, FieldVariables), slices.Contains(fields, FieldSecretVariables))
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		switch f {
		case FieldDescription:
			edited.Description = values.Description
		case FieldDeployment:
			config.Deployment = values.Deployment
		case FieldSplit:
			edited.Split = values.Split
			if values.KeepOverrideKey {
				edited.Split.OverrideKey = s.Split.OverrideKey
			}
		case FieldExposeHeaders:
			edited.ExposeHeaders = values.ExposeHeaders
		case FieldStalePolicy:
			edited.FailClosed = values.FailClosed
		case FieldConsistent:
			edited.Consistent = values.Consistent
		case FieldWaves:
			edited.Waves = values.Waves
		case FieldThrottle:
			edited.Throttle = values.Throttle
		case FieldOtherPromoter:
			edited.OtherPromoter = values.OtherPromoter
		case FieldAnnotations:
			edited.Annotations = values.Annotations
		}
	}
	if slices.Contains(fields, FieldCanary) { // last: it may stand for the new base's deployment
		canary, err := s.replaceCanary(values.Canary)
		if err != nil {
			return nil, err
		}
		config = config.withCanary(c, canary)
	}
	if err := checkMerged(s, config.Variables, config.overrides()); err != nil {
		return nil, err
	}
	if err := checkOverrides(config.Variables, config.overrides()); err != nil {
		return nil, err
	}
	if err := edited.checkOtherPromoter(c, s, config); err != nil {
		return nil, err
	}
	if s.Throttle != edited.Throttle {
		c.Note = fmt.Sprintf("throttle %v -> %v", s.Throttle, edited.Throttle)
	}
	return edited.next(c, config), nil
}

// withCanary returns the configuration with another canary, or none. An open one that
// is changed keeps its salt and its start, so that sticky keys stay where they are;
// deployment 0 stands for the base's.
func (c Config) withCanary(by Change, canary *Canary) Config {
	open := c.Canary
	if c.Canary = canary; canary == nil || canary == open {
		return c
	}
	next := *canary
	next.StartTime = by.Time
	if open != nil {
		next.Salt, next.StartTime = open.Salt, open.StartTime
	}
	if next.Deployment == 0 {
		next.Deployment = c.Deployment
	}
	next.Authors = authors(by, open, &next)
	c.Canary = &next
	return c
}

// Deploy puts a deployment on the stage.
func (s *Stage) Deploy(c Change, deployment uint64, target Target) (*Stage, error) {
	if err := s.checkNoPromotion(); err != nil {
		return nil, err
	}
	config := s.Config
	switch {
	case target == TargetCanary && config.Canary == nil:
		return nil, s.noCanary("deployed to")
	case target != TargetBase && config.Canary != nil:
		canary := *config.Canary
		canary.Deployment = deployment
		canary.Authors = authors(c, config.Canary, &canary)
		config.Canary = &canary
	default:
		config.Deployment = deployment
	}
	if err := s.checkOtherPromoter(c, s, config); err != nil {
		return nil, err
	}
	return s.next(c, config), nil
}

// NewStageWith makes a stage that serves one deployment, with the named fields taken
// from values.
func NewStageWith(c Change, api, id string, deployment uint64, values StageValues, fields []string) (*Stage, error) {
	blank := &Stage{API: api, ID: id, CreateTime: c.Time}
	values.Deployment = deployment
	return blank.Update(c, values, append(slices.Clone(fields), FieldDeployment))
}

// DeployWith is Deploy and Update in one: it puts a deployment on the stage and takes
// the named fields from values. If these name the canary, the deployment goes to that.
func (s *Stage) DeployWith(c Change, deployment uint64, target Target, values StageValues, fields []string) (*Stage, error) {
	if !slices.Contains(fields, FieldCanary) {
		deployed, err := s.Deploy(c, deployment, target)
		if err != nil {
			return nil, err
		}
		values.Deployment, values.Canary = deployed.Config.Deployment, deployed.Config.Canary
		fields = append(slices.Clone(fields), FieldDeployment, FieldCanary)
	} else if values.Canary != nil {
		canary := *values.Canary
		canary.Deployment = deployment
		values.Canary = &canary
	}
	return s.Update(c, values, fields)
}

// Rollback restores the base, its deployment and variables both, as revision to
// left it; 0 means the base before the last change of it. The canary stays. It ends
// an open promotion.
func (s *Stage) Rollback(c Change, to uint64) (*Stage, error) {
	base, ok := s.RollbackTarget()
	if to != 0 {
		i := slices.IndexFunc(s.History, func(r *Revision) bool { return r.Number == to })
		if ok = i >= 0; ok {
			base = s.History[i].Config
		}
	}
	if !ok {
		if to != 0 {
			return nil, refuse(NoHistory, s.Name(), "%s keeps no revision %d; its history has %d to %d",
				s.Name(), to, s.History[0].Number, s.Revision)
		}
		return nil, refuse(NoHistory, s.Name(), "%s keeps no other base, so there is nothing to roll back to", s.Name())
	}
	config := s.Config
	config.Deployment, config.Variables = base.Deployment, base.Variables
	if config.Canary != nil {
		if err := checkMerged(s, config.Variables, config.Canary.Overrides); err != nil {
			return nil, err
		}
	}
	next := s.next(c, config)
	next.Promotion = s.Promotion.aborted(c, "the stage was rolled back")
	return next, nil
}

// RollbackTarget returns what a rollback without a revision restores: the base
// before the last change of it. ok is false if the history holds none.
func (s *Stage) RollbackTarget() (base Config, ok bool) {
	for i := len(s.History) - 2; i >= 0; i-- {
		if c := s.History[i].Config; !sameBase(c, s.Config) {
			return c, true
		}
	}
	return Config{}, false
}

func sameBase(a, b Config) bool {
	return a.Deployment == b.Deployment && maps.Equal(a.Variables, b.Variables)
}

// Uses reports whether the stage, its canary or a kept revision points at a
// deployment.
func (s *Stage) Uses(deployment uint64) bool {
	uses := func(c Config) bool {
		return c.Deployment == deployment || (c.Canary != nil && c.Canary.Deployment == deployment)
	}
	return uses(s.Config) || slices.ContainsFunc(s.History, func(r *Revision) bool { return uses(r.Config) })
}

// Live returns the deployments that agents hold for the stage, without
// repetition: the base's, the canary's and the one that a rollback restores.
func (s *Stage) Live() []uint64 {
	live := []uint64{s.Config.Deployment}
	add := func(d uint64) {
		if !slices.Contains(live, d) {
			live = append(live, d)
		}
	}
	if s.Config.Canary != nil {
		add(s.Config.Canary.Deployment)
	}
	if base, ok := s.RollbackTarget(); ok {
		add(base.Deployment)
	}
	if s.Promotion.Open() {
		add(s.Promotion.Config.Deployment)
	}
	if s.Promotion.Open() && s.Promotion.State == Committed {
		add(s.Promotion.Former.Deployment)
	}
	return live
}
