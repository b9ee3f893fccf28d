package api

import (
	"fmt"

	"github.com/fifegateway/fife/controlplane/release"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// warnings says what will not work on the stage that the change has left.
func (c changed) warnings() []string {
	if c.Stage == nil {
		return nil
	}
	config := c.Stage.Config
	warnings := c.unset("base", config.Deployment, config.Variables)
	if canary := config.Canary; canary != nil {
		vars := release.MergeVariables(config.Variables, canary.Overrides)
		warnings = append(warnings, c.unset("canary", canary.Deployment, vars)...)
	}
	return warnings
}

func (c changed) unset(variant string, number uint64, vars map[string]string) []string {
	d, ok := c.after.Deployment(c.Stage.API, number)
	if !ok {
		return nil // deleted since
	}
	var warnings []string
	for _, w := range release.UnsetVariables(d, vars) {
		warnings = append(warnings, fmt.Sprintf("%s: %s", variant, w))
	}
	return warnings
}

// previewRoutes bounds how many routes a preview names of each kind.
const previewRoutes = 100

// preview says what the change would mean for the stage's clients; nil unless it
// was only asked for.
func (c changed) preview() *fifev1.StagePreview {
	if c.before == nil || c.Stage == nil {
		return nil
	}
	p := &fifev1.StagePreview{MovedPercent: 100}
	var old *release.Deployment
	if was, ok := c.before.Stage(c.Stage.API, c.Stage.ID); ok {
		p.MovedPercent = release.Percent(release.Moved(was, c.Stage))
		old, _ = c.before.Deployment(was.API, was.Config.Deployment)
	}
	if next, ok := c.after.Deployment(c.Stage.API, c.Stage.Config.Deployment); ok {
		diff := release.DiffRoutes(old, next)
		p.RoutesAdded = diff.Added[:min(len(diff.Added), previewRoutes)]
		p.RoutesRemoved = diff.Removed[:min(len(diff.Removed), previewRoutes)]
		p.RoutesChanged = diff.Changed[:min(len(diff.Changed), previewRoutes)]
	}
	return p
}
