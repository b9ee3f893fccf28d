package proxy

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/fifegateway/fife/agent/http1"
)

func TestParseLambdaResponse(t *testing.T) {
	type header = map[string][]string
	plain := header{"Content-Type": {"application/json"}}
	for _, c := range []struct {
		payload string
		accept  string
		binary  []string
		status  int // 0: an error
		header  header
		body    string
	}{
		{payload: `{}`, status: 200, header: plain},
		{payload: `{"statusCode":200}`, status: 200, header: plain},
		{payload: `{"headers":{}}`, status: 200, header: plain},
		{payload: ` { "statusCode" : 404 , "body" : "x" } `, status: 404, header: plain, body: "x"},
		{payload: `{"statusCode":"201"}`, status: 201, header: plain},
		{payload: `{"statusCode":null,"body":null,"headers":null,"multiValueHeaders":null,"isBase64Encoded":null}`, status: 200, header: plain},
		{payload: `{"statusCode":"abc"}`},
		{payload: `{"statusCode":""}`},
		{payload: `{"statusCode":[200]}`},
		{payload: `{"statusCode":200.5}`},
		{payload: `{"statusCode":0}`},
		{payload: `{"statusCode":101}`},
		{payload: `{"statusCode":600}`},

		{payload: `{"statusCode":200,"cookies":[]}`},
		{payload: `{"statuscode":200}`},
		{payload: `{"errorMessage":"boom","errorType":"Error"}`},
		{payload: `"Hello"`},
		{payload: `[]`},
		{payload: `null`},
		{payload: `42`},
		{payload: `{"statusCode":200`},
		{payload: `Task timed out after 3.00 seconds`},
		{payload: ``},

		{payload: `{"headers":{"x-a":true,"x-b":1.50,"x-c":null,"content-type":"text/plain"}}`, status: 200,
			header: header{"X-A": {"true"}, "X-B": {"1.50"}, "Content-Type": {"text/plain"}}},
		{payload: `{"headers":{"x-a":{}}}`},
		{payload: `{"headers":{"x-a":["b"]}}`},
		{payload: `{"headers":[]}`},
		{payload: `{"headers":{"x a":"b"}}`},
		{payload: `{"headers":{"":"b"}}`},
		{payload: `{"headers":{"x-a":"b\r\nx-c: d"}}`},
		{payload: `{"multiValueHeaders":{"x-a":["1",2,true,null]}}`, status: 200,
			header: header{"X-A": {"1", "2", "true"}, "Content-Type": {"application/json"}}},
		{payload: `{"multiValueHeaders":{"x-a":"1"}}`},
		{payload: `{"multiValueHeaders":{"x-a":null}}`},
		{payload: `{"multiValueHeaders":{"x-a":[["1"]]}}`},
		{payload: `{"headers":{"X-A":"3","x-b":"1"},"multiValueHeaders":{"x-a":["1","2"],"X-B":["1"]}}`, status: 200,
			header: header{"X-A": {"1", "2", "3"}, "X-B": {"1"}, "Content-Type": {"application/json"}}},

		{payload: `{"body":{"a":1}}`},
		{payload: `{"body":12}`, status: 200, header: plain, body: "12"},
		{payload: `{"body":"<é>"}`, status: 200, header: plain, body: "<é>"},
		{payload: `{"body":"aGk=","isBase64Encoded":true}`, status: 200, header: plain, body: "aGk="},
		{payload: `{"body":"aGk=","isBase64Encoded":true}`, accept: "image/png", binary: []string{"image/png"}, status: 200, header: plain, body: "hi"},
		{payload: `{"body":"aGk=","isBase64Encoded":true}`, accept: "Image/PNG;q=0.9, text/html", binary: []string{"image/png"}, status: 200, header: plain, body: "hi"},
		{payload: `{"body":"aGk=","isBase64Encoded":true}`, accept: "text/html, image/png", binary: []string{"image/png"}, status: 200, header: plain, body: "aGk="},
		{payload: `{"body":"aGk=","isBase64Encoded":true}`, accept: "image/*", binary: []string{"image/png"}, status: 200, header: plain, body: "aGk="},
		{payload: `{"body":"aGk=","isBase64Encoded":true}`, binary: []string{"*/*"}, status: 200, header: plain, body: "hi"},
		{payload: `{"body":"aGk=","isBase64Encoded":false}`, binary: []string{"*/*"}, status: 200, header: plain, body: "aGk="},
		{payload: `{"body":"!","isBase64Encoded":true}`, binary: []string{"*/*"}},
		{payload: `{"body":"!","isBase64Encoded":"yes"}`},
		{payload: `{"body":"!","isBase64Encoded":{}}`},
	} {
		res, err := parseLambdaResponse([]byte(c.payload), c.accept, c.binary)
		if c.status == 0 {
			if err == nil {
				t.Errorf("%s: got %+v, want an error", c.payload, res)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.payload, err)
			continue
		}
		if res.status != c.status || res.body != c.body || !reflect.DeepEqual(map[string][]string(res.header), c.header) {
			t.Errorf("%s: got %d %v %q, want %d %v %q", c.payload, res.status, res.header, res.body, c.status, c.header, c.body)
		}
	}
}

func FuzzLambdaResponse(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"statusCode":"201","headers":{"a":true},"multiValueHeaders":{"a":["b"]},"body":"aGk=","isBase64Encoded":true}`,
		`{"statusCode": 200 }`, `null`, `[]`, `""`, `{"headers":{"a":null,"A":1e9}}`, `{"multiValueHeaders":{"a":[]}}`,
	} {
		f.Add([]byte(s), "image/png")
	}
	f.Fuzz(func(t *testing.T, payload []byte, accept string) {
		res, err := parseLambdaResponse(payload, accept, []string{"image/png"})
		if err != nil {
			if res != nil {
				t.Fatalf("%q: both a response and %v", payload, err)
			}
			return
		}
		if res.status < 200 || res.status > 599 {
			t.Fatalf("%q: status %d", payload, res.status)
		}
		if len(res.header["Content-Type"]) == 0 {
			t.Fatalf("%q: no content type", payload)
		}
		for name, values := range res.header {
			if !http1.IsToken(name) || http.CanonicalHeaderKey(name) != name || len(values) == 0 || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
				t.Fatalf("%q: header %q: %q", payload, name, values)
			}
		}
		again, err := parseLambdaResponse(payload, accept, []string{"image/png"})
		if err != nil || !reflect.DeepEqual(res, again) {
			t.Fatalf("%q: %+v, then %+v, %v", payload, res, again, err)
		}
	})
}
