package route

import "time"

// APISpec says that an API exists and which host names select it.
type APISpec struct {
	// ID is a DNS label of lower-case letters, digits and inner hyphens.
	ID string
	// Hosts are names without port, compared without case. A host belongs to
	// one API only.
	Hosts []string
}

// DeploymentSpec is a frozen set of routes, as CompileDeployment takes it.
type DeploymentSpec struct {
	// API is the id of the API that was deployed.
	API string
	// Number counts an API's deployments from 1.
	Number uint64
	// DefaultTimeout holds for routes that set none; 0 means 29 s.
	DefaultTimeout time.Duration
	// BinaryMediaTypes are the types whose bodies are binary for Lambda.
	BinaryMediaTypes []string
	// Routes in any order.
	Routes []RouteSpec
}

// RouteSpec sends the requests of one method and path to an integration.
type RouteSpec struct {
	// Method is GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or ANY.
	Method string
	// Path is "/" or segments that are literal, {name} or, last only, {name+}.
	Path string
	// Timeout is 50 ms to 29 s; 0 means the deployment's default.
	Timeout time.Duration
	// Integration is an HTTPSpec, a LambdaSpec or a MockSpec.
	Integration IntegrationSpec
}

// IntegrationSpec is what answers a route: HTTPSpec, LambdaSpec or MockSpec.
type IntegrationSpec interface{ integrationSpec() }

// HTTPSpec passes requests on to an HTTP upstream.
type HTTPSpec struct {
	// URI is absolute, http or https. ${stageVariables.x} may stand anywhere
	// behind the scheme, {name} of the route's path only in its path.
	URI string
	// Method to use upstream; empty means the request's own.
	Method string
}

// LambdaSpec invokes a Lambda function.
type LambdaSpec struct {
	// Function is a name or an ARN; ${stageVariables.x} may stand in the name
	// and in the ARN's qualifier.
	Function string
	// Qualifier is a version or alias, and empty if the ARN carries one.
	Qualifier string
}

// MockSpec answers with a response of its own.
type MockSpec struct {
	// Status is 200 to 599; 0 means 200.
	Status int
	// Headers of the response, at most 32.
	Headers map[string]string
	// Body of the response, at most 64 KiB.
	Body string
	// Parts make up the body instead, if some depend on the request.
	Parts []MockPart
}

// MockPart is a piece of a mock's body; one field is set.
type MockPart struct {
	// Text stands as it is.
	Text string
	// Variable is the name of a stage variable.
	Variable string
	// Context is the name of what API Gateway's $context has of the request.
	Context string
}

func (HTTPSpec) integrationSpec()   {}
func (LambdaSpec) integrationSpec() {}
func (MockSpec) integrationSpec()   {}

// StageSpec is what one stage serves.
type StageSpec struct {
	// API and ID name the stage.
	API, ID string
	// Deployment is the number of the base's deployment.
	Deployment uint64
	// Variables are the stage variables.
	Variables map[string]string
	// Secrets are the names of those that must be shown nowhere.
	Secrets []string
	// Canary is the open canary, or nil.
	Canary *CanarySpec
	// Sticky says where a request carries its key, and StickyName the name of
	// that header, cookie or query parameter.
	Sticky     KeySource
	StickyName string
	// AllowOverride lets requests choose their variant by header; with an
	// OverrideKey only those that are signed with it.
	AllowOverride bool
	OverrideKey   string
	// ExposeHeaders makes responses say what routed them.
	ExposeHeaders bool
	// FailClosed makes an agent without a lease refuse requests.
	FailClosed bool
	// ConsistentClients lets requests ask for what an earlier one was routed by.
	ConsistentClients bool
	// Throttle limits the stage's requests, in whatever configuration.
	Throttle ThrottleSpec
	// Promoted is the number of the promotion that led to what the stage serves; 0
	// for none, or one that is not known.
	Promoted uint64
	// Next is held ready beside what the stage serves, or nil.
	Next *ConfigSpec
	// Promotion is the number of the promotion that leads to Next; with 0 no request
	// can ask for it.
	Promotion uint64
}

// ThrottleSpec limits the requests of a stage. The zero ThrottleSpec limits nothing.
type ThrottleSpec struct {
	// Millirate is how many thousandths of a request per second are let through in
	// the long run, at most 1,000,000,000; 0 means any number.
	Millirate uint32
	// Burst is how many requests are let through at once after a quiet time, 1 to
	// 1,000,000; 0 without a rate.
	Burst uint32
	// Concurrency is how many requests are served at the same time, at most
	// 1,000,000; 0 means any number.
	Concurrency uint32
}

// ConfigSpec is what one configuration of a stage serves; see StageSpec.
type ConfigSpec struct {
	Deployment uint64
	Variables  map[string]string
	Secrets    []string
	Canary     *CanarySpec
}

// CanarySpec is a deployment on trial.
type CanarySpec struct {
	// Deployment is the number of its deployment.
	Deployment uint64
	// PartsPerMillion is its share of requests, 0 to 1,000,000.
	PartsPerMillion uint32
	// Overrides are its variables: they win over the stage's and may add names.
	Overrides map[string]string
	// Secrets are the names of those that must be shown nowhere.
	Secrets []string
	// Salt seeds the sticky split: constant for one canary, new for each.
	Salt uint64
}

// KeySource says where a request carries the key of a sticky split.
type KeySource uint8

// The sources of sticky keys.
const (
	KeyNone     KeySource = iota // no key: every request is split at random
	KeyHeader                    // the first value of a header
	KeyCookie                    // the value of a cookie
	KeyQuery                     // the first value of a query parameter
	KeyClientIP                  // the client's address
)
