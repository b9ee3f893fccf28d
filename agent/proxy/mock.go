package proxy

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// serveMock answers from the table.
func (x *exchange) serveMock(c client, m *route.Mock) error {
	fields := x.scratch.fields[:0]
	for name, value := range m.Headers {
		fields = append(fields, http1.Field{Name: name, Value: value, Kind: http1.KindOf(name)})
	}
	x.scratch.fields = fields
	if len(m.Parts) > 0 {
		return x.answer(c, m.Status, fields, x.fill(m.Parts))
	}
	return x.answer(c, m.Status, fields, m.Body)
}

// fill puts the parts of a body together. What is not set is empty.
func (x *exchange) fill(parts []route.MockPart) string {
	var b strings.Builder
	for i := range parts {
		switch p := &parts[i]; {
		case p.Variable != "":
			b.WriteString(x.variant.Variables[p.Variable])
		case p.Context != "":
			b.WriteString(x.context(p.Context))
		default:
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

// context returns what API Gateway's $context has of the request by a name; the table
// holds no other names.
func (x *exchange) context(name string) string {
	switch name {
	case "apiId":
		return x.stage.API
	case "deploymentId":
		return fmt.Sprintf("%06d", x.variant.Deployment.Number)
	case "httpMethod":
		return x.method
	case "isCanaryRequest":
		if canary := x.stage.Canary(); canary != nil {
			return strconv.FormatBool(x.variant == canary)
		}
		return ""
	case "path":
		return route.StagePath(x.path)
	case "requestId", "extendedRequestId":
		return x.id
	case "resourcePath":
		return x.route.Path
	case "stage":
		return x.stage.Name
	}
	return ""
}

// answer sends a whole response that an integration has made up.
func (x *exchange) answer(c client, status int, fields []http1.Field, body string) error {
	res := response{
		status: status, fields: fields, length: int64(len(body)),
		bodiless: x.method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified,
	}
	typed := false
	for i := range fields {
		typed = typed || fields[i].Kind == http1.ContentType
		res.lists = res.lists || fields[i].Kind == http1.Connection
	}
	if !typed {
		res.fields = append(res.fields, http1.Field{Name: "Content-Type", Value: "application/json", Kind: http1.ContentType})
	}
	if res.bodiless {
		body = ""
		if x.method != http.MethodHead {
			res.length = -1
		}
	}
	x.status = status
	first := body[:min(len(body), pieceSize)]
	if err := c.begin(x, &res, []byte(first)); err != nil {
		return errClientGone
	}
	for rest := body[len(first):]; rest != ""; {
		n := min(len(rest), pieceSize)
		if err := c.write([]byte(rest[:n])); err != nil {
			return errClientGone
		}
		rest = rest[n:]
	}
	if err := c.end(nil); err != nil {
		return errClientGone
	}
	return nil
}
