package controlplane

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// signedCall is a request to the management API.
type signedCall struct {
	id, secret         string
	method, path, body string
	at                 time.Time           // of the signature; zero is now
	change             func(*http.Request) // after it was signed
}

// send sends a request over HTTPS as a client does that believes the cluster's root and
// verifies the name of the host.
func (n secureNode) send(t *testing.T, c signedCall) (status int, kind, body string) {
	t.Helper()
	_, root := n.trust(t)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	req, err := http.NewRequestWithContext(t.Context(), c.method, "https://"+n.http+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	sum := sha256.Sum256([]byte(c.body))
	if c.id != "" {
		if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: c.id, SecretAccessKey: c.secret}, req,
			hex.EncodeToString(sum[:]), "apigateway", "eu-west-1", c.at); err != nil {
			t.Fatal(err)
		}
	}
	if c.change != nil {
		c.change(req)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("x-amzn-ErrorType"), string(data)
}

// TestSignedRequests: on a node that asks who calls, the management API takes what an
// access key has signed, lets its user do what the user's roles allow and nothing else,
// and puts all of it into the audit.
func TestSignedRequests(t *testing.T) {
	n := startSecure(t)
	conn := n.dial(t, identity.ClientConfig(n.holder(t, "user/"+AdminName)))
	keys, accesses := fifev1.NewAccessKeyServiceClient(conn), fifev1.NewAccessServiceClient(conn)
	create := func(user string) (id, secret string) {
		t.Helper()
		made, err := keys.CreateAccessKey(t.Context(), &fifev1.CreateAccessKeyRequest{User: user, Ttl: durationpb.New(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		id = strings.TrimPrefix(made.GetKey().GetName(), "accessKeys/")
		if len(id) != 20 || !strings.HasPrefix(id, "FIFE") || len(made.GetSecret()) != 40 {
			t.Fatalf("access key %q with a secret of %d characters", id, len(made.GetSecret()))
		}
		return id, made.GetSecret()
	}
	ci, ciSecret := create("ci")
	viewer, viewerSecret := create("ann")
	for user, role := range map[string]string{"user:ci": "operator", "user:ann": "viewer"} {
		if _, err := accesses.CreateBinding(t.Context(), &fifev1.CreateBindingRequest{
			Binding: &fifev1.Binding{Subject: user, Role: role, Api: "*", Stage: "*"},
		}); err != nil {
			t.Fatal(err)
		}
	}

	status, kind, body := n.send(t, signedCall{id: ci, secret: ciSecret, method: "POST", path: "/restapis", body: `{"name": "demo"}`})
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(body), &made); status != http.StatusCreated || err != nil || made.ID == "" {
		t.Fatalf("CreateRestApi: %d %s %s", status, kind, body)
	}
	if status, kind, body = n.send(t, signedCall{id: viewer, secret: viewerSecret, method: "GET", path: "/restapis/" + made.ID}); status != http.StatusOK {
		t.Errorf("a viewer reads: %d %s %s", status, kind, body)
	}

	const wrongSignature = "The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	deploy := signedCall{id: ci, secret: ciSecret, method: "POST", path: "/restapis/" + made.ID + "/deployments", body: `{"stageName": "prod"}`}
	for _, tt := range []struct {
		name    string
		call    func(*signedCall)
		kind    string
		message string
	}{
		{"a viewer deploys", func(c *signedCall) { c.id, c.secret = viewer, viewerSecret }, "AccessDeniedException",
			"User: arn:aws:iam::000000000000:user/ann is not authorized to perform: apigateway:POST on resource: " +
				"arn:aws:apigateway:us-east-1::/restapis/" + made.ID + "/deployments because user:ann has no permission stages.deploy"},
		{"a wrong secret", func(c *signedCall) { c.secret = viewerSecret }, "InvalidSignatureException", wrongSignature},
		{"an unknown key", func(c *signedCall) { c.id = "AKIAIOSFODNN7EXAMPLE" }, "UnrecognizedClientException",
			"The security token included in the request is invalid."},
		{"no signature", func(c *signedCall) { c.id = "" }, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{"signed too long ago", func(c *signedCall) { c.at = time.Now().Add(-6 * time.Minute) }, "InvalidSignatureException", "Signature expired: "},
		{"signed in the future", func(c *signedCall) { c.at = time.Now().Add(6 * time.Minute) }, "InvalidSignatureException", "Signature not yet current: "},
		{"another body", func(c *signedCall) {
			c.change = func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(`{"stageName": "evil"}`))
			}
		}, "InvalidSignatureException", wrongSignature},
		{"another path", func(c *signedCall) {
			c.change = func(r *http.Request) { r.URL.Path += "/000001" }
		}, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{"an unsigned payload", func(c *signedCall) {
			c.change = func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }
		}, "InvalidSignatureException", "The value of the 'X-Amz-Content-Sha256' header is not the SHA-256 of the request body."},
	} {
		c := deploy
		tt.call(&c)
		status, kind, body := n.send(t, c)
		var e struct{ Message string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || status != http.StatusForbidden || kind != tt.kind ||
			!strings.HasPrefix(e.Message, tt.message) {
			t.Errorf("%s: %d %s %s, want %s: %s", tt.name, status, kind, body, tt.kind, tt.message)
		}
	}

	listed, err := keys.ListAccessKeys(t.Context(), &fifev1.ListAccessKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range listed.GetKeys() {
		if k.GetLastUseTime() == nil || k.GetUser() == "" {
			t.Errorf("after its use: %v", k)
		}
	}
	if len(listed.GetKeys()) != 2 {
		t.Errorf("%d access keys are listed, want 2", len(listed.GetKeys()))
	}
	if _, err := keys.DeleteAccessKey(t.Context(), &fifev1.DeleteAccessKeyRequest{Name: "accessKeys/" + ci}); err != nil {
		t.Fatal(err)
	}
	if status, kind, body = n.send(t, signedCall{id: ci, secret: ciSecret, method: "GET", path: "/restapis"}); kind != "UnrecognizedClientException" {
		t.Errorf("a key that was deleted: %d %s %s", status, kind, body)
	}
	n.wantAudit(t, fifev1.NewAuditServiceClient(conn))
}

// TestSignedRequestsAreLimited: a request counts once, by its access key, whatever it takes to
// carry it out; those that are refused count by their address, and hold up nobody who
// signs.
func TestSignedRequestsAreLimited(t *testing.T) {
	n := startSecure(t, func(c *Config) {
		c.Limits = api.Limits{Users: api.Limit{Rate: 0.01, Burst: 5}, Addresses: api.Limit{Rate: 0.01, Burst: 3}}
	})
	conn := n.dial(t, identity.ClientConfig(n.holder(t, "user/"+AdminName)))
	if _, err := fifev1.NewAccessServiceClient(conn).CreateBinding(t.Context(), &fifev1.CreateBindingRequest{
		Binding: &fifev1.Binding{Subject: "user:ci", Role: "operator", Api: "*", Stage: "*"},
	}); err != nil {
		t.Fatal(err)
	}
	var calls []signedCall
	for range 2 {
		made, err := fifev1.NewAccessKeyServiceClient(conn).CreateAccessKey(t.Context(),
			&fifev1.CreateAccessKeyRequest{User: "ci", Ttl: durationpb.New(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, signedCall{
			id: strings.TrimPrefix(made.GetKey().GetName(), "accessKeys/"), secret: made.GetSecret(), method: "POST", path: "/restapis",
			body: `{"name": "demo"}`,
		})
	}
	first, second := calls[0], calls[1]
	for i := range 5 {
		if status, kind, body := n.send(t, first); status != http.StatusCreated {
			t.Errorf("request %d: %d %s %s", i, status, kind, body)
		}
	}
	if status, kind, body := n.send(t, first); status != http.StatusTooManyRequests || kind != "TooManyRequestsException" {
		t.Errorf("a request too many: %d %s %s", status, kind, body)
	}
	wrong := second
	wrong.secret = first.secret
	for range 3 {
		if status, kind, body := n.send(t, wrong); status != http.StatusForbidden {
			t.Errorf("a wrong signature: %d %s %s", status, kind, body)
		}
	}
	if status, kind, body := n.send(t, wrong); status != http.StatusTooManyRequests {
		t.Errorf("a wrong signature too many: %d %s %s", status, kind, body)
	}
	if status, kind, body := n.send(t, second); status != http.StatusCreated {
		t.Errorf("another key from the same address: %d %s %s", status, kind, body)
	}
}

// wantAudit waits for what TestSignedRequests has done to be in the audit.
func (n secureNode) wantAudit(t *testing.T, audit fifev1.AuditServiceClient) {
	t.Helper()
	want := map[string]bool{
		"user:ci CreateApi OK": true, "user:ann CreateDeployment PERMISSION_DENIED": true, "anonymous CreateDeployment UNAUTHENTICATED": true,
		"anonymous GetRestApis UNAUTHENTICATED": true, "user:admin DeleteAccessKey OK": true,
	}
	for deadline := time.Now().Add(10 * time.Second); len(want) > 0; <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in the audit: %v", want)
		}
		list, err := audit.ListAuditEntries(t.Context(), &fifev1.ListAuditEntriesRequest{PageSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.GetEntries() {
			reason := e.GetReason()
			if reason == "" {
				reason = "OK"
			}
			if key := e.GetActor() + " " + e.GetMethod() + " " + reason; want[key] && strings.HasPrefix(e.GetSource(), "127.0.0.1:") {
				delete(want, key)
			}
		}
	}
}
