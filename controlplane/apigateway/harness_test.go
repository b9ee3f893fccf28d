package apigateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// client speaks to the management API of one node, and to the operators' API beside it.
type client struct {
	t      *testing.T
	node   string
	http   *http.Client
	native fifev1.StageServiceClient
	apis   fifev1.ApiServiceClient
	deploy fifev1.DeploymentServiceClient
}

// object is any JSON object.
type object = map[string]any

// inBubble runs a test on a cluster of n nodes, with clients of its nodes n1, n2 ...
func inBubble(t *testing.T, n int, test func(*testing.T, []*client)) {
	t.Helper()
	bubbletest.Test(t, func(t *testing.T) {
		cluster := controlplanetest.Start(t, n)
		var clients []*client
		for i := range n {
			node := fmt.Sprintf("n%d", i+1)
			conn := cluster.Conn(node)
			// A deadline of these connections may fire when it has been taken back, by which
			// net/http would end the next request: so each has one.
			transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return cluster.Network.Host("client").Dial(ctx, address)
			}}
			t.Cleanup(transport.CloseIdleConnections)
			c := &client{
				t, node, &http.Client{Transport: transport}, fifev1.NewStageServiceClient(conn),
				fifev1.NewApiServiceClient(conn), fifev1.NewDeploymentServiceClient(conn),
			}
			clients = append(clients, c)
			for status := 0; status != http.StatusOK; {
				<-time.After(10 * time.Millisecond)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+node+":7403/restapis", nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := c.http.Do(req); err == nil {
					status = resp.StatusCode
					_ = resp.Body.Close()
				}
			}
		}
		test(t, clients)
	})
}

// send sends a request with a body, a string as it is and anything else as JSON.
func (c *client) send(method, path string, body any) (int, http.Header, string) {
	c.t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		text = string(data)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.node+":7403"+path, strings.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.Header.Get("x-amzn-RequestId") == "" || resp.Header.Get("x-amz-apigw-id") == "" {
		c.t.Errorf("%s %s: an answer without request ids: %v", method, path, resp.Header)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// do sends a request that is to succeed with a status, and returns its answer.
func (c *client) do(status int, method, path string, body any) object {
	c.t.Helper()
	code, header, text := c.send(method, path, body)
	if code != status {
		c.t.Fatalf("%s %s: %d %s, want %d", method, path, code, text, status)
	}
	if strings.Contains(text, ":null") || strings.Contains(text, "[null") { // an id may have these letters
		c.t.Errorf("%s %s: a member that is null: %s", method, path, text)
	}
	var got object
	if text != "" {
		decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
		if err := decoder.Decode(&got); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
		if kind := header.Get("Content-Type"); kind != "application/json" {
			c.t.Errorf("%s %s: content type %q", method, path, kind)
		}
	}
	return got
}

// refused sends a request that is to be refused with a status, an error type and a message.
func (c *client) refused(status int, kind, message, method, path string, body any) {
	c.t.Helper()
	code, header, text := c.send(method, path, body)
	var got struct{ Message string }
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		c.t.Errorf("%s %s: %v in %s", method, path, err, text)
	}
	if code != status || header.Get("x-amzn-ErrorType") != kind || got.Message != message {
		c.t.Errorf("%s %s %v: got\n%d %s %q, want\n%d %s %q", method, path, body,
			code, header.Get("x-amzn-ErrorType"), got.Message, status, kind, message)
	}
}

// equal fails the test unless an answer is what is wanted, given as JSON; "*" in it
// stands for anything.
func (c *client) equal(what string, got object, want string) {
	c.t.Helper()
	var wanted object
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		c.t.Fatalf("%s: %v in %s", what, err, want)
	}
	if !matches(got, wanted) {
		data, _ := json.Marshal(got)
		c.t.Errorf("%s: got\n%s, want\n%s", what, data, want)
	}
}

func matches(got, want any) bool {
	switch want := want.(type) {
	case object:
		have, ok := got.(object)
		if !ok || len(have) != len(want) {
			return false
		}
		for name, value := range want {
			if v, ok := have[name]; !ok || !matches(v, value) {
				return false
			}
		}
		return true
	case []any:
		have, ok := got.([]any)
		if !ok || len(have) != len(want) {
			return false
		}
		for i, value := range want {
			if !matches(have[i], value) {
				return false
			}
		}
		return true
	}
	return want == "*" || got == want
}

// newAPI makes an API and returns the path of its resource and the root's id.
func (c *client) newAPI() (path, root string) {
	c.t.Helper()
	created := c.do(http.StatusCreated, http.MethodPost, "/restapis", object{"name": "demo"})
	return "/restapis/" + created["id"].(string), created["rootResourceId"].(string)
}

// mockAPI makes an API whose root answers with a body, and returns its path and the path
// of its method.
func (c *client) mockAPI(body string) (path, method string) {
	c.t.Helper()
	path, root := c.newAPI()
	method = path + "/resources/" + root + "/methods/GET"
	c.do(http.StatusCreated, http.MethodPut, method, object{"authorizationType": "NONE"})
	c.do(http.StatusCreated, http.MethodPut, method+"/responses/200", object{})
	c.do(http.StatusCreated, http.MethodPut, method+"/integration", object{
		"type": "MOCK", "requestTemplates": object{"application/json": `{"statusCode": 200}`},
	})
	c.do(http.StatusCreated, http.MethodPut, method+"/integration/responses/200", object{
		"responseTemplates": object{"application/json": body},
	})
	return path, method
}

// deployed makes a deployment and returns its id.
func (c *client) deployed(path string, body object) string {
	c.t.Helper()
	return c.do(http.StatusCreated, http.MethodPost, path+"/deployments", body)["id"].(string)
}

type op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value,omitempty"`
	From  string `json:"from,omitempty"`
}

func patches(ops ...op) object { return object{"patchOperations": ops} }
