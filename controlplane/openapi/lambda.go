package openapi

import (
	"regexp"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
)

// defaultRegion stands in the URI of a function that is known by its name alone.
const defaultRegion = "us-east-1"

var lambdaURI = regexp.MustCompile(
	`^arn:aws[a-z-]*:apigateway:[a-z0-9-]+:lambda:path/[0-9]{4}-[0-9]{2}-[0-9]{2}/functions/(.+)/invocations$`)

// ParseLambdaURI takes the function out of the URI by which API Gateway's
// integrations name one. An ARN keeps its qualifier; a mere name is parted from it.
func ParseLambdaURI(uri string) (release.Lambda, bool) {
	if len(uri) > 2*release.MaxURI {
		return release.Lambda{}, false
	}
	found := lambdaURI.FindStringSubmatch(uri)
	if found == nil {
		return release.Lambda{}, false
	}
	l := release.Lambda{Function: found[1]}
	if !strings.HasPrefix(l.Function, "arn:") {
		l.Function, l.Qualifier, _ = strings.Cut(l.Function, ":")
	}
	return l, true
}

// LambdaURI returns the URI by which API Gateway's integrations name a function.
func LambdaURI(l release.Lambda) string {
	partition, region := "aws", defaultRegion
	if parts := strings.Split(l.Function, ":"); len(parts) > 3 {
		partition, region = parts[1], parts[3]
	}
	function := l.Function
	if l.Qualifier != "" {
		function += ":" + l.Qualifier
	}
	return "arn:" + partition + ":apigateway:" + region + ":lambda:path/2015-03-31/functions/" + function + "/invocations"
}
