package apigateway

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// methodSetting is the service's shape of the settings of all methods of a stage. Of
// these Fife has the throttle.
type methodSetting struct {
	MetricsEnabled                      bool    `json:"metricsEnabled"`
	DataTraceEnabled                    bool    `json:"dataTraceEnabled"`
	ThrottlingBurstLimit                int32   `json:"throttlingBurstLimit"`
	ThrottlingRateLimit                 float64 `json:"throttlingRateLimit"`
	CachingEnabled                      bool    `json:"cachingEnabled"`
	CacheTTLInSeconds                   int     `json:"cacheTtlInSeconds"`
	CacheDataEncrypted                  bool    `json:"cacheDataEncrypted"`
	RequireAuthorizationForCacheControl bool    `json:"requireAuthorizationForCacheControl"`
	UnauthorizedCacheControlStrategy    string  `json:"unauthorizedCacheControlHeaderStrategy"`
}

// allMethods is the only key of method settings that there is.
const allMethods = "*/*"

// methodSettings shows the throttle of a stage. A burst that is not set is what comes in
// a second.
func methodSettings(s *fifev1.Stage) map[string]methodSetting {
	t := s.GetThrottle()
	if t.GetRateLimit() == 0 {
		return map[string]methodSetting{}
	}
	return map[string]methodSetting{allMethods: {
		ThrottlingRateLimit:  t.GetRateLimit(),
		ThrottlingBurstLimit: cmp.Or(t.GetBurstLimit(), int32(math.Ceil(t.GetRateLimit()))),
		CacheTTLInSeconds:    300, RequireAuthorizationForCacheControl: true,
		UnauthorizedCacheControlStrategy: "SUCCEED_WITH_RESPONSE_HEADER",
	}}
}

// isMethodSetting matches the paths of a stage's method settings.
func (p patch) isMethodSetting() bool {
	n := len(p.tokens)
	return n >= 4 && slices.Contains([]string{"metrics", "logging", "throttling", "caching"}, p.tokens[n-2])
}

// ofAllMethods reports whether a path is one under /*/*.
func (p patch) ofAllMethods() bool {
	return len(p.tokens) >= 2 && p.tokens[0] == "*" && p.tokens[1] == "*"
}

// replaceMethodSetting sets the throttle of a stage. A limit that is not set by a list of
// patches stays.
func replaceMethodSetting(s *fifev1.Stage, p patch) error {
	switch {
	case p.tokens[len(p.tokens)-2] != "throttling":
		return unsupported("method settings other than throttling")
	case !p.ofAllMethods():
		return unsupported("throttling by method; throttle the stage by /*/*/throttling/rateLimit and /*/*/throttling/burstLimit")
	}
	if s.Throttle == nil {
		s.Throttle = &fifev1.Throttle{}
	}
	switch {
	case p.is("*", "*", "throttling", "rateLimit"):
		rate, err := strconv.ParseFloat(p.Value, 64)
		if err != nil || !(rate > 0) {
			return badRequest("Invalid throttling rate limit specified: %s. It must be more than 0 requests per second; remove /*/* for no limit", p.Value)
		}
		s.Throttle.RateLimit = rate
	case p.is("*", "*", "throttling", "burstLimit"):
		burst, err := strconv.ParseInt(p.Value, 10, 32)
		if err != nil || burst <= 0 {
			return badRequest("Invalid throttling burst limit specified: %s. It must be a number of requests of 1 or more", p.Value)
		}
		s.Throttle.BurstLimit = int32(burst)
	default:
		return badRequest("Invalid method setting path: %s. Must be one of: %s", p.Path, stagePaths)
	}
	return nil
}

// removeMethodSettings takes the throttle of a stage off. What bounds requests at the
// same time, which the service does not have, stays.
func removeMethodSettings(s *fifev1.Stage) {
	s.Throttle = &fifev1.Throttle{ConcurrencyLimit: s.GetThrottle().GetConcurrencyLimit()}
	if s.Throttle.GetConcurrencyLimit() == 0 {
		s.Throttle = nil
	}
}
