package api

import (
	"slices"
	"strconv"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
)

// parseAPI reads `apis/{api}` and notes what is wrong with it.
func parseAPI(v *release.Violations, field, name string) string {
	id, ok := strings.CutPrefix(name, "apis/")
	if !ok || strings.Contains(id, "/") {
		v.Addf(field, "%q must have the form apis/{api}", name)
		return ""
	}
	release.CheckAPIID(v, field, id)
	return id
}

// parseStage reads `apis/{api}/stages/{stage}`.
func parseStage(v *release.Violations, field, name string) (api, stage string) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "apis" || parts[2] != "stages" {
		v.Addf(field, "%q must have the form apis/{api}/stages/{stage}", name)
		return "", ""
	}
	release.CheckAPIID(v, field, parts[1])
	release.CheckStageID(v, field, parts[3])
	return parts[1], parts[3]
}

// parseDeployment reads `apis/{api}/deployments/{number}`.
func parseDeployment(v *release.Violations, field, name string) (api string, number uint64) {
	parts := strings.Split(name, "/")
	if len(parts) == 4 && parts[0] == "apis" && parts[2] == "deployments" {
		if n, err := strconv.ParseUint(parts[3], 10, 64); err == nil && n > 0 {
			release.CheckAPIID(v, field, parts[1])
			return parts[1], n
		}
	}
	v.Addf(field, "%q must have the form apis/{api}/deployments/{number}", name)
	return "", 0
}

// parseDraftOrDeployment reads `apis/{api}`, for which number is 0, or
// `apis/{api}/deployments/{number}`.
func parseDraftOrDeployment(v *release.Violations, field, name string) (api string, number uint64) {
	if strings.Contains(name, "/deployments/") {
		return parseDeployment(v, field, name)
	}
	return parseAPI(v, field, name), 0
}

// parseDeploymentOf reads the name of a deployment that must belong to an API;
// an empty name is 0.
func parseDeploymentOf(v *release.Violations, field, name, api string) uint64 {
	if name == "" {
		return 0
	}
	of, number := parseDeployment(v, field, name)
	if number != 0 && of != api {
		v.Addf(field, "%q belongs to another API than %s", name, release.APIName(api))
	}
	return number
}

// parseMember reads `members/{node}`.
func parseMember(v *release.Violations, field, name string) string {
	id, ok := strings.CutPrefix(name, "members/")
	if !ok {
		v.Addf(field, "%q must have the form members/{node}", name)
		return ""
	}
	release.CheckNodeID(v, field, id)
	return id
}

// parseEtag reads an etag as the revision it stands for; empty is 0, for any.
func parseEtag(v *release.Violations, field, etag string) uint64 {
	if etag == "" {
		return 0
	}
	n, err := strconv.ParseUint(etag, 10, 64)
	if err != nil || n == 0 {
		v.Addf(field, "%q is no etag that this service gave out", etag)
	}
	return n
}

// selectFields returns the fields of an update mask; none, or `*`, means all. Those
// of more can be changed too, but only by name.
func selectFields(v *release.Violations, paths, all []string, more ...string) []string {
	if len(paths) == 0 || (len(paths) == 1 && paths[0] == "*") {
		return all
	}
	checkFields(v, "update_mask", paths, slices.Concat(all, more))
	return paths
}

// checkFields notes the fields of a mask that cannot be changed.
func checkFields(v *release.Violations, mask string, paths, known []string) {
	for _, p := range paths {
		if !slices.Contains(known, p) {
			v.Addf(mask, "%q cannot be changed; name %s", p, strings.Join(known, ", "))
		}
	}
}
