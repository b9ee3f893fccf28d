package apigateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// deployment is the service's shape of a deployment.
type deployment struct {
	ID          string                               `json:"id"`
	Description string                               `json:"description,omitempty"`
	CreatedDate int64                                `json:"createdDate"`
	APISummary  map[string]map[string]methodSnapshot `json:"apiSummary,omitempty"`
}

type methodSnapshot struct {
	AuthorizationType string `json:"authorizationType"`
	APIKeyRequired    bool   `json:"apiKeyRequired"`
}

// deploymentID returns the id of a deployment of fife.v1: its number in six digits.
// Agents show the same as requestContext.deploymentId.
func deploymentID(name string) string {
	number, _ := strconv.ParseUint(name[strings.LastIndexByte(name, '/')+1:], 10, 64) // as fife.v1 spells it
	return fmt.Sprintf("%06d", number)
}

// deploymentName returns the name of the deployment with an id.
func deploymentName(api, id string) (string, bool) {
	number, err := strconv.ParseUint(id, 10, 64)
	if err != nil || number == 0 || deploymentID(fmt.Sprint("/", number)) != id {
		return "", false
	}
	return fmt.Sprintf("apis/%s/deployments/%d", api, number), true
}

func toDeployment(d *fifev1.Deployment) *deployment {
	return &deployment{ID: deploymentID(d.GetName()), Description: d.GetDescription(), CreatedDate: epoch(d.GetCreateTime())}
}

// createDeploymentRequest is the body of CreateDeployment.
type createDeploymentRequest struct {
	StageName           *string           `json:"stageName"`
	StageDescription    string            `json:"stageDescription"`
	Description         string            `json:"description"`
	Variables           map[string]string `json:"variables"`
	CanarySettings      *canarySettings   `json:"canarySettings"`
	CacheClusterEnabled bool              `json:"cacheClusterEnabled"`
	TracingEnabled      bool              `json:"tracingEnabled"`
}

func (g *Gateway) createDeployment(c *call) (answer, error) {
	var req createDeploymentRequest
	if err := c.read(&req); err != nil {
		return answer{}, err
	}
	switch {
	case req.CacheClusterEnabled:
		return answer{}, unsupported("cache clusters")
	case req.TracingEnabled:
		return answer{}, unsupported("tracing")
	}
	var made *fifev1.Deployment
	err := retry(func() error {
		native, err := g.deploymentRequest(c, &req)
		if err != nil {
			return err
		}
		resp, err := g.deployments.CreateDeployment(c.ctx, native)
		made = resp.GetDeployment()
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, toDeployment(made)}, nil
}

// deploymentRequest returns the call that a CreateDeployment comes to, on condition that
// its stage stays as it is now.
func (g *Gateway) deploymentRequest(c *call, req *createDeploymentRequest) (*fifev1.CreateDeploymentRequest, error) {
	const invalid = "Invalid deployment content specified."
	if _, err := g.getAPI(c, c.path[0]); err != nil {
		return nil, err
	}
	native := &fifev1.CreateDeploymentRequest{Parent: apiName(c.path[0]), Description: req.Description}
	if req.StageName == nil || *req.StageName == "" {
		if req.CanarySettings != nil {
			value := "null"
			if req.StageName != nil {
				value = *req.StageName
			}
			return nil, badRequest(invalid+"Non null and non empty stageName must be provided for canary deployment. Provided value is %s", value)
		}
		return native, nil
	}
	name := *req.StageName
	if err := checkStageName(name); err != nil {
		return nil, err
	}
	native.StageId = name
	present, err := g.findStage(c, c.path[0], name)
	if err != nil {
		return nil, err
	}
	set := &fifev1.Stage{Description: req.StageDescription, Variables: req.Variables}
	mask := &fieldmaskpb.FieldMask{}
	if req.StageDescription != "" {
		mask.Paths = append(mask.Paths, "description")
	}
	if len(req.Variables) > 0 {
		mask.Paths = append(mask.Paths, "variables")
	}
	switch canary := req.CanarySettings; {
	case canary != nil && present == nil:
		return nil, badRequest(invalid+"Stage %s must already be created before making a canary release deployment", name)
	case canary != nil:
		if err := checkPercent(canary.PercentTraffic); err != nil {
			return nil, err
		}
		set.Canary = &fifev1.Canary{
			Percent: canary.PercentTraffic, VariableOverrides: canary.StageVariableOverrides,
			SecretOverrides: present.GetCanary().GetSecretOverrides(), // which the service knows nothing of: they stay
		}
		mask.Paths = append(mask.Paths, "canary")
		// Only if it changes them: it takes more than the permission to deploy.
		if set.Annotations = withCache(present, canary.UseStageCache); !maps.Equal(set.Annotations, present.GetAnnotations()) {
			mask.Paths = append(mask.Paths, "annotations")
		}
	case present.GetCanary() != nil:
		return nil, badRequest(invalid+"Non canary deployment not supported on stage %s because Canary is enabled. Provide CanarySettings in deploymentInput.", name)
	}
	native.Etag = present.GetEtag()
	if len(mask.GetPaths()) > 0 {
		native.Stage, native.StageMask = set, mask
	}
	return native, nil
}

// findStage returns a stage, or nil if there is none.
func (g *Gateway) findStage(c *call, api, name string) (*fifev1.Stage, error) {
	s, err := g.getNativeStage(c, api, name)
	if err == errNoStage { //nolint:errorlint // returned as it is
		return nil, nil
	}
	return s, err
}

// getNativeDeployment returns a deployment by its id.
func (g *Gateway) getNativeDeployment(c *call) (*fifev1.Deployment, error) {
	if _, err := g.getAPI(c, c.path[0]); err != nil {
		return nil, err
	}
	name, ok := deploymentName(c.path[0], c.path[1])
	if !ok {
		return nil, errNoDeployment
	}
	resp, err := g.deployments.GetDeployment(c.ctx, &fifev1.GetDeploymentRequest{Name: name})
	return resp.GetDeployment(), err
}

func (g *Gateway) getDeployment(c *call) (answer, error) {
	native, err := g.getNativeDeployment(c)
	if err != nil {
		return answer{}, err
	}
	d := toDeployment(native)
	if c.embeds("apisummary") {
		if d.APISummary, err = g.summary(c, native.GetName()); err != nil {
			return answer{}, err
		}
	}
	return answer{http.StatusOK, d}, nil
}

// routesOf returns the routes of a deployment.
func (g *Gateway) routesOf(c *call, name string) (routes []*fifev1.Route, err error) {
	token := ""
	for {
		resp, err := g.deployments.ListDeploymentRoutes(c.ctx, &fifev1.ListDeploymentRoutesRequest{Parent: name, PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		routes = append(routes, resp.GetRoutes()...)
		if token = resp.GetNextPageToken(); token == "" {
			return routes, nil
		}
	}
}

// summary returns the methods of a deployment by path.
func (g *Gateway) summary(c *call, name string) (map[string]map[string]methodSnapshot, error) {
	routes, err := g.routesOf(c, name)
	if err != nil {
		return nil, err
	}
	summary := map[string]map[string]methodSnapshot{}
	for _, r := range routes {
		if summary[r.GetPath()] == nil {
			summary[r.GetPath()] = map[string]methodSnapshot{}
		}
		summary[r.GetPath()][r.GetMethod()] = methodSnapshot{AuthorizationType: "NONE"}
	}
	return summary, nil
}

func (g *Gateway) getDeployments(c *call) (answer, error) {
	size, err := c.pageSize()
	if err != nil {
		return answer{}, err
	}
	if _, err := g.getAPI(c, c.path[0]); err != nil {
		return answer{}, err
	}
	resp, err := g.deployments.ListDeployments(c.ctx, &fifev1.ListDeploymentsRequest{
		Parent: apiName(c.path[0]), PageSize: size, PageToken: c.query.Get("position"),
	})
	if err != nil {
		return answer{}, err
	}
	page := list[*deployment]{Item: []*deployment{}, Position: resp.GetNextPageToken()}
	for _, d := range resp.GetDeployments() {
		page.Item = append(page.Item, toDeployment(d))
	}
	return answer{http.StatusOK, page}, nil
}

// updateDeployment refuses what would change a deployment: nothing does.
func (g *Gateway) updateDeployment(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	native, err := g.getNativeDeployment(c)
	if err != nil {
		return answer{}, err
	}
	d := toDeployment(native)
	for _, p := range patches {
		if !p.is("description") || p.Op != opReplace {
			return answer{}, p.only(opReplace, "/description")
		}
		if p.Value != d.Description {
			return answer{}, unsupported("a change of a deployment, not even of its description")
		}
	}
	return answer{http.StatusOK, d}, nil
}

func (g *Gateway) deleteDeployment(c *call) (answer, error) {
	native, err := g.getNativeDeployment(c)
	if err != nil {
		return answer{}, err
	}
	_, err = g.deployments.DeleteDeployment(c.ctx, &fifev1.DeleteDeploymentRequest{Name: native.GetName()})
	if reason, metadata := reasonOf(err); reason == "DEPLOYMENT_IN_USE" {
		return answer{}, g.inUse(c, native.GetName(), metadata["used_by"])
	}
	return answer{status: http.StatusAccepted}, err
}

// inUse says what keeps a deployment: a stage that points at it, or the history of one
// that could be rolled back to it, which the service has not.
func (g *Gateway) inUse(c *call, name, usedBy string) error {
	stages, err := g.listStages(c, c.path[0])
	if err != nil {
		return err
	}
	pointing := func(s *fifev1.Stage) bool {
		return s.GetDeployment() == name || s.GetCanary().GetDeployment() == name
	}
	if slices.ContainsFunc(stages, pointing) {
		return badRequest("Active stages pointing to this deployment must be moved or deleted")
	}
	return badRequest("The history of stage %s, which can be rolled back to this deployment, must be deleted with the stage first",
		usedBy[strings.LastIndexByte(usedBy, '/')+1:])
}
