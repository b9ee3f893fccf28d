package route

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The limits of a deployment.
const (
	maxRoutes     = 10_000
	maxPath       = 1024
	maxMediaTypes = 64
	maxMediaType  = 255
	minTimeout    = 50 * time.Millisecond
	maxTimeout    = 29 * time.Second
)

// Deployment is a compiled set of routes. It never changes.
type Deployment struct {
	// API and Number name it.
	API    string
	Number uint64
	// BinaryMediaTypes are the types whose bodies are binary for Lambda
	// integrations, matched exactly; `*/*` matches every type. Read only.
	BinaryMediaTypes []string

	tree *tree
}

// Route is one compiled route. It never changes.
type Route struct {
	// Method is what the route was declared with; it may be ANY.
	Method string
	// Path is the template, such as /pets/{id}.
	Path string
	// Timeout bounds the integration; the deployment's default is filled in.
	Timeout time.Duration
	// Integration is an *HTTP, a *Lambda or a *Mock.
	Integration Integration

	params []string
}

// CompileDeployment checks a deployment and builds the tree that Match walks.
// It is the one expensive step and is done once for each deployment. The result
// shares no memory with spec. An error names the API, the deployment, the route
// and the value that was wrong.
func CompileDeployment(spec DeploymentSpec) (*Deployment, error) {
	d, err := compileDeployment(spec)
	if err != nil {
		return nil, fmt.Errorf("api %q, deployment %d: %w", spec.API, spec.Number, err)
	}
	return d, nil
}

func compileDeployment(spec DeploymentSpec) (*Deployment, error) {
	if err := checkAPI(spec.API); err != nil {
		return nil, err
	}
	switch {
	case spec.Number == 0:
		return nil, errors.New("deployment numbers count from 1")
	case len(spec.Routes) > maxRoutes:
		return nil, fmt.Errorf("%d routes: at most %d are allowed", len(spec.Routes), maxRoutes)
	case len(spec.BinaryMediaTypes) > maxMediaTypes:
		return nil, fmt.Errorf("%d binary media types: at most %d are allowed", len(spec.BinaryMediaTypes), maxMediaTypes)
	}
	for _, m := range spec.BinaryMediaTypes {
		if m == "" || len(m) > maxMediaType {
			return nil, fmt.Errorf("binary media type %q: want 1 to %d characters", m, maxMediaType)
		}
	}
	timeout, err := checkTimeout(spec.DefaultTimeout, maxTimeout)
	if err != nil {
		return nil, fmt.Errorf("default timeout: %w", err)
	}
	d := &Deployment{
		API:              spec.API,
		Number:           spec.Number,
		BinaryMediaTypes: slices.Clone(spec.BinaryMediaTypes),
		tree:             newTree(len(spec.Routes)),
	}
	for i := range spec.Routes {
		r := &spec.Routes[i]
		if err := d.add(r, timeout); err != nil {
			return nil, fmt.Errorf("route %q: %w", r.Method+" "+r.Path, err)
		}
	}
	return d, nil
}

// add compiles one route into the tree.
func (d *Deployment) add(spec *RouteSpec, timeout time.Duration) error {
	method := methodIndex(spec.Method)
	if method == anyMethod && spec.Method != "ANY" {
		return fmt.Errorf("method %q: want GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or ANY", spec.Method)
	}
	timeout, err := checkTimeout(spec.Timeout, timeout)
	if err != nil {
		return fmt.Errorf("timeout: %w", err)
	}
	path, err := parsePath(spec.Path)
	if err != nil {
		return err
	}
	integration, err := compileIntegration(spec.Integration, path)
	if err != nil {
		return err
	}
	node, err := d.tree.insert(path)
	if err != nil {
		return err
	}
	if node.routes[method] != nil {
		return errors.New("declared twice")
	}
	node.routes[method] = &Route{Method: spec.Method, Path: path.template, Timeout: timeout, Integration: integration, params: path.params}
	return nil
}

func checkTimeout(t, unset time.Duration) (time.Duration, error) {
	if t == 0 {
		return unset, nil
	}
	if t < minTimeout || t > maxTimeout {
		return 0, fmt.Errorf("%v: want %v to %v", t, minTimeout, maxTimeout)
	}
	return t, nil
}
