package apigateway

import (
	"maps"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// stageNotes are what only Amazon's model has of a stage.
type stageNotes struct {
	Tags          map[string]string `json:"tags,omitempty"`
	UseStageCache bool              `json:"useStageCache,omitempty"` // of its canary
}

// stage is the service's shape of a stage.
type stage struct {
	DeploymentID        string                   `json:"deploymentId"`
	StageName           string                   `json:"stageName"`
	Description         string                   `json:"description,omitempty"`
	CacheClusterEnabled bool                     `json:"cacheClusterEnabled"`
	CacheClusterStatus  string                   `json:"cacheClusterStatus"`
	MethodSettings      map[string]methodSetting `json:"methodSettings"`
	Variables           map[string]string        `json:"variables,omitempty"`
	CanarySettings      *canarySettings          `json:"canarySettings,omitempty"`
	TracingEnabled      bool                     `json:"tracingEnabled"`
	Tags                map[string]string        `json:"tags,omitempty"`
	CreatedDate         int64                    `json:"createdDate"`
	LastUpdatedDate     int64                    `json:"lastUpdatedDate"`
}

// canarySettings is the service's shape of a canary.
type canarySettings struct {
	PercentTraffic         float64           `json:"percentTraffic"`
	DeploymentID           string            `json:"deploymentId,omitempty"`
	StageVariableOverrides map[string]string `json:"stageVariableOverrides,omitempty"`
	UseStageCache          bool              `json:"useStageCache"`
}

func stageName(api, id string) string { return apiName(api) + "/stages/" + id }

func toStage(s *fifev1.Stage) *stage {
	var notes stageNotes
	readNotes(s.GetAnnotations(), &notes)
	shape := &stage{
		DeploymentID: deploymentID(s.GetDeployment()), StageName: s.GetName()[strings.LastIndexByte(s.GetName(), '/')+1:],
		Description: s.GetDescription(), CacheClusterStatus: "NOT_AVAILABLE", MethodSettings: methodSettings(s),
		Variables: s.GetVariables(), Tags: notes.Tags,
		CreatedDate: epoch(s.GetCreateTime()), LastUpdatedDate: epoch(s.GetUpdateTime()),
	}
	if canary := s.GetCanary(); canary != nil {
		shape.CanarySettings = &canarySettings{
			PercentTraffic: canary.GetPercent(), DeploymentID: deploymentID(canary.GetDeployment()),
			StageVariableOverrides: canary.GetVariableOverrides(), UseStageCache: notes.UseStageCache,
		}
	}
	return shape
}

// withCache returns a stage's annotations with its canary's use of the cache.
func withCache(s *fifev1.Stage, use bool) map[string]string {
	var notes stageNotes
	readNotes(s.GetAnnotations(), &notes)
	notes.UseStageCache = use
	return withNotes(s.GetAnnotations(), notes)
}

func checkStageName(name string) error {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return badRequest("Stage name only allows a-zA-Z0-9_-")
	}
	return nil
}

func checkPercent(percent float64) error {
	if percent < 0 || percent > 100 {
		return badRequest("Invalid canary percentTraffic specified: %v. It must be between 0.0 and 100.0", percent)
	}
	return nil
}

func (g *Gateway) getNativeStage(c *call, api, id string) (*fifev1.Stage, error) {
	if _, err := g.getAPI(c, api); err != nil {
		return nil, err
	}
	resp, err := g.stages.GetStage(c.ctx, &fifev1.GetStageRequest{Name: stageName(api, id)})
	switch reason, _ := reasonOf(err); reason {
	case "INVALID_FIELD", "RESOURCE_NOT_FOUND":
		return nil, errNoStage
	}
	return resp.GetStage(), err
}

func (g *Gateway) getStage(c *call) (answer, error) {
	s, err := g.getNativeStage(c, c.path[0], c.path[1])
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, toStage(s)}, nil
}

// listStages returns the stages of an API, of which there are not many.
func (g *Gateway) listStages(c *call, api string) ([]*fifev1.Stage, error) {
	if _, err := g.getAPI(c, api); err != nil {
		return nil, err
	}
	resp, err := g.stages.ListStages(c.ctx, &fifev1.ListStagesRequest{Parent: apiName(api), PageSize: 1000})
	return resp.GetStages(), err
}

func (g *Gateway) getStages(c *call) (answer, error) {
	stages, err := g.listStages(c, c.path[0])
	if err != nil {
		return answer{}, err
	}
	page := list[*stage]{Item: []*stage{}}
	for _, s := range stages {
		shape := toStage(s)
		if id := c.query.Get("deploymentId"); id == "" || id == shape.DeploymentID {
			page.Item = append(page.Item, shape)
		}
	}
	return answer{http.StatusOK, page}, nil
}

// createStageRequest is the body of CreateStage.
type createStageRequest struct {
	StageName            string            `json:"stageName"`
	DeploymentID         string            `json:"deploymentId"`
	Description          string            `json:"description"`
	Variables            map[string]string `json:"variables"`
	CanarySettings       *canarySettings   `json:"canarySettings"`
	Tags                 map[string]string `json:"tags"`
	CacheClusterEnabled  bool              `json:"cacheClusterEnabled"`
	TracingEnabled       bool              `json:"tracingEnabled"`
	DocumentationVersion string            `json:"documentationVersion"`
}

func (g *Gateway) createStage(c *call) (answer, error) {
	var req createStageRequest
	if err := c.read(&req); err != nil {
		return answer{}, err
	}
	api := c.path[0]
	if _, err := g.getAPI(c, api); err != nil {
		return answer{}, err
	}
	switch {
	case req.StageName == "":
		return answer{}, badRequest("Stage name must be non-empty")
	case req.CacheClusterEnabled:
		return answer{}, unsupported("cache clusters")
	case req.TracingEnabled:
		return answer{}, unsupported("tracing")
	case req.DocumentationVersion != "":
		return answer{}, unsupported("documentation versions")
	}
	if err := checkStageName(req.StageName); err != nil {
		return answer{}, err
	}
	if err := checkTags(req.Tags); err != nil {
		return answer{}, err
	}
	deployed, ok := deploymentName(api, req.DeploymentID)
	if !ok {
		return answer{}, errBadDeployment
	}
	native := &fifev1.Stage{Deployment: deployed, Description: req.Description, Variables: req.Variables}
	notes := stageNotes{Tags: req.Tags}
	if canary := req.CanarySettings; canary != nil {
		if err := checkPercent(canary.PercentTraffic); err != nil {
			return answer{}, err
		}
		native.Canary = &fifev1.Canary{Deployment: deployed, Percent: canary.PercentTraffic, VariableOverrides: canary.StageVariableOverrides}
		if canary.DeploymentID != "" {
			if native.Canary.Deployment, ok = deploymentName(api, canary.DeploymentID); !ok {
				return answer{}, errBadDeployment
			}
		}
		notes.UseStageCache = canary.UseStageCache
	}
	native.Annotations = withNotes(nil, notes)
	resp, err := g.stages.CreateStage(c.ctx, &fifev1.CreateStageRequest{Parent: apiName(api), StageId: req.StageName, Stage: native})
	switch reason, _ := reasonOf(err); reason {
	case "RESOURCE_EXISTS":
		return answer{}, conflict("Stage already exists")
	case "RESOURCE_NOT_FOUND":
		return answer{}, errBadDeployment
	}
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, toStage(resp.GetStage())}, nil
}

func (g *Gateway) deleteStage(c *call) (answer, error) {
	s, err := g.getNativeStage(c, c.path[0], c.path[1])
	if err != nil {
		return answer{}, err
	}
	_, err = g.stages.DeleteStage(c.ctx, &fifev1.DeleteStageRequest{Name: s.GetName()})
	return answer{status: http.StatusAccepted}, err
}

func (g *Gateway) updateStage(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	s, err := g.changeStage(c, c.path[0], c.path[1], func(s *fifev1.Stage, notes *stageNotes) error {
		for _, p := range patches {
			if err := patchStage(c.path[0], s, notes, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, toStage(s)}, nil
}

// changeStage reads a stage, has it edited and writes back what has changed of it, as one
// change and on condition that nothing has changed it meanwhile.
func (g *Gateway) changeStage(c *call, api, id string, edit func(*fifev1.Stage, *stageNotes) error) (s *fifev1.Stage, err error) {
	err = retry(func() error {
		if s, err = g.getNativeStage(c, api, id); err != nil {
			return err
		}
		before := proto.CloneOf(s)
		var notes stageNotes
		readNotes(s.GetAnnotations(), &notes)
		if err := edit(s, &notes); err != nil {
			return err
		}
		if s.GetCanary() == nil {
			notes.UseStageCache = false
		}
		s.Annotations = withNotes(s.GetAnnotations(), notes)
		mask := &fieldmaskpb.FieldMask{}
		for _, f := range []struct {
			name    string
			changed bool
		}{
			{"description", s.GetDescription() != before.GetDescription()},
			{"deployment", s.GetDeployment() != before.GetDeployment()},
			{"variables", !maps.Equal(s.GetVariables(), before.GetVariables())},
			{"throttle", !proto.Equal(s.GetThrottle(), before.GetThrottle())},
			{"canary", !proto.Equal(s.GetCanary(), before.GetCanary())},
			{"annotations", !maps.Equal(s.GetAnnotations(), before.GetAnnotations())},
		} {
			if f.changed {
				mask.Paths = append(mask.Paths, f.name)
			}
		}
		if len(mask.GetPaths()) == 0 {
			return nil
		}
		resp, err := g.stages.UpdateStage(c.ctx, &fifev1.UpdateStageRequest{Stage: s, UpdateMask: mask})
		if reason, metadata := reasonOf(err); reason == "RESOURCE_NOT_FOUND" && strings.Contains(metadata["resource"], "/deployments/") {
			return errBadDeployment
		}
		s = resp.GetStage()
		return err
	})
	return s, err
}

// stagePaths is what the service names when a patch of a stage has none of its paths.
var stagePaths = strings.Join([]string{
	"[/deploymentId", "/description", "/cacheClusterEnabled", "/cacheClusterSize", "/clientCertificateId",
	"/accessLogSettings", "/accessLogSettings/destinationArn", "/accessLogSettings/format",
	"/{resourcePath}/{httpMethod}/metrics/enabled", "/{resourcePath}/{httpMethod}/logging/dataTrace",
	"/{resourcePath}/{httpMethod}/logging/loglevel",
	"/{resourcePath}/{httpMethod}/throttling/burstLimit/{resourcePath}/{httpMethod}/throttling/rateLimit/{resourcePath}/{httpMethod}/caching/ttlInSeconds",
	"/{resourcePath}/{httpMethod}/caching/enabled", "/{resourcePath}/{httpMethod}/caching/dataEncrypted",
	"/{resourcePath}/{httpMethod}/caching/requireAuthorizationForCacheControl",
	"/{resourcePath}/{httpMethod}/caching/unauthorizedCacheControlHeaderStrategy",
	"/*/*/metrics/enabled", "/*/*/logging/dataTrace", "/*/*/logging/loglevel",
	"/*/*/throttling/burstLimit /*/*/throttling/rateLimit /*/*/caching/ttlInSeconds", "/*/*/caching/enabled",
	"/*/*/caching/dataEncrypted", "/*/*/caching/requireAuthorizationForCacheControl",
	"/*/*/caching/unauthorizedCacheControlHeaderStrategy", "/variables/{variable_name}", "/tracingEnabled]",
}, ", ")

// patchStage applies one patch to a stage.
func patchStage(api string, s *fifev1.Stage, notes *stageNotes, p patch) error {
	switch p.Op {
	case opReplace:
		return replaceInStage(api, s, notes, p)
	case opRemove:
		return removeFromStage(s, p)
	case opCopy:
		return promoteByCopy(s, p)
	}
	return badRequest("Invalid %s operation with path: %s", p.Op, p.Path)
}

func replaceInStage(api string, s *fifev1.Stage, notes *stageNotes, p patch) error {
	switch {
	case p.is("deploymentId"):
		name, ok := deploymentName(api, p.Value)
		if !ok {
			return errBadDeployment
		}
		s.Deployment = name
	case p.is("description"):
		s.Description = p.Value
	case p.is("variables", "*"):
		if err := checkPlain(p, s.GetSecretVariables()); err != nil {
			return err
		}
		s.Variables = patchMap(s.GetVariables(), p, p.Value)
	case p.is("canarySettings", "*"), p.is("canarySettings", "stageVariableOverrides", "*"):
		return replaceInCanary(api, s, notes, p)
	case p.is("cacheClusterEnabled"), p.is("tracingEnabled"):
		if p.Value != "false" {
			return unsupported(p.tokens[0])
		}
	case p.is("cacheClusterSize"), p.is("clientCertificateId"), p.is("documentationVersion"), p.under("accessLogSettings"):
		return unsupported(p.tokens[0])
	case p.isMethodSetting():
		return replaceMethodSetting(s, p)
	default:
		return badRequest("Invalid method setting path: %s. Must be one of: %s", p.Path, stagePaths)
	}
	return nil
}

// replaceInCanary sets one member of a canary. A stage without one gets one: of the
// stage's own deployment, at 0 %.
func replaceInCanary(api string, s *fifev1.Stage, notes *stageNotes, p patch) error {
	canary := s.GetCanary()
	if canary == nil {
		canary = &fifev1.Canary{Deployment: s.GetDeployment()}
	}
	switch {
	case p.is("canarySettings", "percentTraffic"):
		percent, err := parsePercent(p.Value)
		if err != nil {
			return err
		}
		canary.Percent = percent
	case p.is("canarySettings", "deploymentId"):
		name, ok := deploymentName(api, p.Value)
		if !ok {
			return errBadDeployment
		}
		canary.Deployment = name
	case p.is("canarySettings", "useStageCache"):
		notes.UseStageCache = p.Value == "true"
	case p.is("canarySettings", "stageVariableOverrides", "*"):
		if err := checkPlain(p, s.GetSecretVariables(), canary.GetSecretOverrides()); err != nil {
			return err
		}
		canary.VariableOverrides = patchMap(canary.GetVariableOverrides(), p, p.Value)
	default:
		return badRequest("Invalid method setting path: %s. Must be one of: %s", p.Path, stagePaths)
	}
	s.Canary = canary
	return nil
}

func removeFromStage(s *fifev1.Stage, p patch) error {
	switch {
	case p.is("canarySettings"):
		s.Canary = nil
	case p.is("canarySettings", "stageVariableOverrides", "*"):
		if err := checkPlain(p, s.GetCanary().GetSecretOverrides()); err != nil {
			return err
		}
		patchMap(s.GetCanary().GetVariableOverrides(), p, "")
	case p.is("variables", "*"):
		if err := checkPlain(p, s.GetSecretVariables()); err != nil {
			return err
		}
		patchMap(s.GetVariables(), p, "")
	case p.is("description"):
		s.Description = ""
	case p.ofAllMethods() && len(p.tokens) == 2 && s.GetThrottle().GetRateLimit() != 0:
		removeMethodSettings(s)
	default:
		return badRequest("Cannot remove method setting %s because there is no method setting for this method ", strings.TrimPrefix(p.Path, "/"))
	}
	return nil
}

// checkPlain refuses a patch of a variable that is secret. The service has no such
// variables: they are not shown, and only Fife's own API changes them.
func checkPlain(p patch, secrets ...map[string]string) error {
	name := p.tokens[len(p.tokens)-1]
	for _, names := range secrets {
		if _, secret := names[name]; secret {
			return badRequest("Stage variable %s is secret: change it by Fife's own API", name)
		}
	}
	return nil
}

// promoteByCopy carries out one of the two copies that a promotion is made of.
func promoteByCopy(s *fifev1.Stage, p patch) error {
	const deployment, overrides = "/canarySettings/deploymentId", "/canarySettings/stageVariableOverrides"
	if (p.Path != "/deploymentId" && p.Path != "/variables") || (p.From != deployment && p.From != overrides) ||
		(p.Path == "/deploymentId") != (p.From == deployment) {
		return badRequest("Invalid copy operation with path: %s and from %s. Valid copy:path are [/deploymentId, /variables] "+
			"and valid copy:from are [/canarySettings/deploymentId, /canarySettings/stageVariableOverrides]", p.Path, p.From)
	}
	canary := s.GetCanary()
	if canary == nil {
		return badRequest("Promotion not available. Canary does not exist.")
	}
	if p.From == deployment {
		s.Deployment = canary.GetDeployment()
		return nil
	}
	if len(canary.GetSecretOverrides()) > 0 {
		return badRequest("The canary overrides secrets, which cannot be copied: promote it by Fife's own API")
	}
	for name, value := range canary.GetVariableOverrides() {
		if s.Variables == nil {
			s.Variables = map[string]string{}
		}
		s.Variables[name] = value
	}
	return nil
}
