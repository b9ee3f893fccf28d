package api

import (
	"encoding/base64"
	"iter"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// listRequest is what every List request carries.
type listRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

// pageStart reads a page token: the n parts of the key of the page's first
// element. An empty token stands for the first page.
func pageStart(v *release.Violations, req listRequest, n int) []string {
	if req.GetPageSize() < 0 {
		v.Addf("page_size", "%d must not be negative", req.GetPageSize())
	}
	if req.GetPageToken() == "" {
		return make([]string, n)
	}
	text, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
	parts := strings.Split(string(text), "\x00")
	if err != nil || len(parts) != n {
		v.Addf("page_token", "%q is no token that this method gave out", req.GetPageToken())
		return make([]string, n)
	}
	return parts
}

// page takes one page of elements, converts them and returns the token of the
// next page, whose parts come from key.
func page[T, P any](req listRequest, from iter.Seq[T], convert func(T) P, key func(T) []string) (out []P, next string) {
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	size = min(size, maxPageSize)
	for e := range from {
		if len(out) == size {
			return out, base64.RawURLEncoding.EncodeToString([]byte(strings.Join(key(e), "\x00")))
		}
		out = append(out, convert(e))
	}
	return out, ""
}
