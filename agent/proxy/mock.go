package proxy

import (
	"net/http"

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
	return x.answer(c, m.Status, fields, m.Body)
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
