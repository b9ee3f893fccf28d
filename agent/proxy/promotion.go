package proxy

import (
	"strconv"
	"strings"

	"github.com/fifegateway/fife/agent/route"
)

// asked returns the number of the promotion that a request carries in the value of
// X-Fife-Version, because an agent has answered its client by it; 0 for none, or one
// of another epoch.
func asked(value string, epoch uint64) uint64 {
	version, number, ok := strings.Cut(value, "-")
	if !ok {
		return 0
	}
	v, err1 := route.ParseVersion(version)
	n, err2 := strconv.ParseUint(number, 10, 64)
	if err1 != nil || err2 != nil || v.Epoch != epoch {
		return 0
	}
	return n
}

// version returns the value of X-Fife-Version for the response: EPOCH.INDEX and,
// behind a hyphen, the promotion that routed it, if there is one. It is empty if the
// response is not to carry the header.
func (x *exchange) version() string {
	promotion := uint64(0)
	if x.stage != nil {
		promotion = x.stage.Promotion
	}
	switch {
	case promotion != 0 && (x.expose || x.stage.ConsistentClients):
		return x.table.Version().String() + "-" + strconv.FormatUint(promotion, 10)
	case x.expose:
		return x.table.Version().String()
	}
	return ""
}
