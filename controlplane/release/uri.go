package release

import (
	"strconv"
	"strings"
)

// Agents take an expanded URI apart for every request, and let nothing through that
// another reader might take apart elsewhere. What they would never let through, whatever
// stage variables hold, is refused here, where somebody reads why.

// checkAuthority notes a host that no name in DNS can be, and a port that is none. A
// stage variable may hold the end of the authority, too.
func checkAuthority(v *Violations, field, uri string) {
	_, rest, _ := strings.Cut(uri, "://")
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	literal := stageVariable.ReplaceAllString(authority, "")
	host, port, hasPort := strings.Cut(literal, ":")
	allowed := alphanumeric + "-._"
	if inner, ok := strings.CutPrefix(literal, "["); ok {
		host, port, _ = strings.Cut(inner, "]")
		port, hasPort = strings.CutPrefix(port, ":")
		allowed = "0123456789abcdefABCDEF:."
	}
	if strings.Trim(host, allowed) != "" {
		v.Addf(field, "%q names the host %q, and agents know only names of letters, digits, hyphens, dots and underscores, "+
			"IPv4 addresses, and IPv6 addresses in brackets, without a zone", uri, host)
	}
	if !hasPort || literal != authority {
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || len(port) > len("65535") {
		v.Addf(field, "%q names the port %q; leave it out, or write one of 0 to 65535", uri, port)
	}
}

// checkDots notes dot segments in the escaped path of a URI: some upstreams resolve them,
// others do not.
func checkDots(v *Violations, field, uri, path string) {
	path = dots.Replace(path)
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			v.Addf(field, "%q has a dot segment, which agents send to nobody: write the path that it leads to", uri)
			return
		}
	}
}

// dots undoes what hides dot segments from one reader, and not from the next.
var dots = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/")
