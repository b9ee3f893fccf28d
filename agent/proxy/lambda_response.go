package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"

	"github.com/fifegateway/fife/agent/http1"
)

// lambdaResponse is what a function answers the client, checked: its status is
// 200 to 599 and its headers can be sent.
type lambdaResponse struct {
	status int
	header http.Header
	body   string
}

// parseLambdaResponse reads the payload of a function in format 1.0. Scalars are
// taken for one another as API Gateway does: a status may be a string, a header
// true. accept is the request's Accept header, binary the deployment's media
// types: together they say whether a base64 body is decoded or sent as it is.
func parseLambdaResponse(payload []byte, accept string, binary []string) (*lambdaResponse, error) {
	fields, err := object(payload)
	if err != nil {
		return nil, err
	}
	res := &lambdaResponse{status: http.StatusOK, header: make(http.Header)}
	var single, encoded json.RawMessage
	for name, value := range fields {
		switch name {
		case "statusCode":
			res.status, err = statusCode(value)
		case "headers":
			single = value
		case "multiValueHeaders":
			err = res.addLists(value)
		case "body":
			res.body, _, err = scalar(value)
		case "isBase64Encoded":
			encoded = value
		default:
			err = errors.New("is not known")
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", name, err)
		}
	}
	if err := res.addSingle(single); err != nil {
		return nil, fmt.Errorf("key %q: %w", "headers", err)
	}
	if err := res.decode(encoded, isBinary(accept, binary)); err != nil {
		return nil, err
	}
	if len(res.header["Content-Type"]) == 0 {
		res.header["Content-Type"] = []string{"application/json"}
	}
	return res, nil
}

// fields returns the headers in the order of their names.
func (res *lambdaResponse) fields() []http1.Field {
	var out []http1.Field
	for _, name := range slices.Sorted(maps.Keys(res.header)) {
		for _, value := range res.header[name] {
			out = append(out, http1.Field{Name: name, Value: value, Kind: http1.KindOf(name)})
		}
	}
	return out
}

func statusCode(value json.RawMessage) (int, error) {
	text, ok, err := scalar(value)
	if err != nil || !ok {
		return http.StatusOK, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		return 0, fmt.Errorf("%q: want a number from 200 to 599", text)
	}
	return n, nil
}

// addLists adds the headers of multiValueHeaders.
func (res *lambdaResponse) addLists(value json.RawMessage) error {
	if isNull(value) {
		return nil
	}
	lists, err := object(value)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		var values []json.RawMessage
		if err := json.Unmarshal(lists[name], &values); err != nil || values == nil {
			return fmt.Errorf("%q: want a list", name)
		}
		for _, v := range values {
			if err := res.add(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// addSingle adds the headers of headers, after those of multiValueHeaders.
func (res *lambdaResponse) addSingle(value json.RawMessage) error {
	if isNull(value) {
		return nil
	}
	headers, err := object(value)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if err := res.add(name, headers[name]); err != nil {
			return err
		}
	}
	return nil
}

// add adds a header, unless it is null or there already.
func (res *lambdaResponse) add(name string, value json.RawMessage) error {
	text, ok, err := scalar(value)
	if err != nil || !ok {
		return err
	}
	if !http1.IsToken(name) || !http1.IsFieldValue(text) {
		return fmt.Errorf("header %q with value %q cannot be sent", name, text)
	}
	key := textproto.CanonicalMIMEHeaderKey(name)
	if !slices.Contains(res.header[key], text) {
		res.header[key] = append(res.header[key], text)
	}
	return nil
}

// decode takes the body out of base64, if it is in it and the client wants it.
func (res *lambdaResponse) decode(encoded json.RawMessage, wanted bool) error {
	text, _, err := scalar(encoded)
	if err != nil || text != "" && text != "true" && text != "false" {
		return fmt.Errorf("key %q: want true or false", "isBase64Encoded")
	}
	if text != "true" || !wanted {
		return nil
	}
	body, err := base64.StdEncoding.DecodeString(res.body)
	if err != nil {
		return fmt.Errorf("body is no base64: %w", err)
	}
	res.body = string(body)
	return nil
}

// object reads a JSON object. Keys count as they are written: unlike a struct's
// fields they are not compared without case.
func object(value []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil || fields == nil {
		return nil, errors.New("want a JSON object")
	}
	return fields, nil
}

// scalar returns the text of a JSON string, number or boolean. ok is false for
// null, and for a value that is not there.
func scalar(value json.RawMessage) (text string, ok bool, err error) {
	if isNull(value) {
		return "", false, nil
	}
	switch value[0] {
	case '"':
		err = json.Unmarshal(value, &text)
		return text, err == nil, err
	case '{', '[':
		return "", false, errors.New("want a string, a number or a boolean")
	}
	return string(value), true, nil
}

func isNull(value json.RawMessage) bool {
	return len(value) == 0 || bytes.Equal(value, []byte("null"))
}

// isFunctionError reports whether a payload says that its function failed. An
// emulator does not say so in a header.
func isFunctionError(payload []byte) bool {
	fields, err := object(payload)
	return err == nil && fields["errorMessage"] != nil && fields["errorType"] != nil
}
