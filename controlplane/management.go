package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/apigateway"
	"github.com/fifegateway/fife/controlplane/identity"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// signingService is the name of API Gateway in the scope of signatures.
const signingService = "apigateway"

// management returns what answers the management API of Amazon API Gateway, and the TLS
// side that it is served by; nil on a plaintext node.
func (s *secrets) management(c Config, auditor *api.Auditor, callers *api.Callers, conn *api.Local) (http.Handler, *tls.Config) {
	config := apigateway.Config{Conn: conn, Logger: c.Logger}
	if s == nil {
		return apigateway.New(config), nil
	}
	config.Verifier = &apigateway.SigV4{Keys: accessKeys{s}, Service: signingService}
	config.Count = callers.Count
	config.Refused = func(r *http.Request, operation string, err error) {
		auditor.Refused(r.RemoteAddr, operation, err.Error())
	}
	host := &hostCertificate{secrets: s, names: c.httpNames()}
	return apigateway.New(config), &tls.Config{
		MinVersion:     tls.VersionTLS12, // as Amazon's tools speak it
		GetCertificate: host.get,
		NextProtos:     []string{"http/1.1"},
	}
}

// accessKeys implements apigateway.Keys.
type accessKeys struct{ secrets *secrets }

// Key returns the secret of an access key that has not expired, and the context in which
// its user calls.
func (k accessKeys) Key(ctx context.Context, id string) (string, context.Context, error) {
	if _, err := k.secrets.policy(ctx); err != nil { // waits for a state
		return "", nil, err
	}
	key, ok := k.secrets.store.Load().State().AccessKey(id)
	if !ok || key.Expired(time.Now()) {
		return "", nil, apigateway.ErrUnknownKey
	}
	_, sealer, ok := k.secrets.clusterKey()
	if !ok {
		return "", nil, api.ErrNoClusterKey
	}
	secret, err := sealer.Open(key.Sealed, access.KeyContext(id))
	if err != nil {
		return "", nil, fmt.Errorf("open the secret of access key %s: %w", id, err)
	}
	cluster := k.secrets.holder.Current().Identity.Cluster
	return string(secret), api.AsSigner(ctx, identity.Identity{Cluster: cluster, Class: identity.User, Name: key.User}, id), nil
}

// httpNames returns the names and addresses that clients may know the HTTP port by.
func (c Config) httpNames() []string {
	names := slices.Clone(c.HTTPNames)
	for _, address := range []string{c.HTTPListen, c.GRPCAdvertise} {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err != nil || host == "" || (ip != nil && ip.IsUnspecified()) {
			continue
		} else if ip != nil && ip.IsLoopback() {
			names = append(names, "localhost")
		}
		names = append(names, host)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hostCertificate is the certificate of the HTTP port. Its clients verify the names of
// hosts, which a node's own certificate does not have; it names no identity, and so is
// good for nothing else. It is issued by the authority of servers and lives in memory.
type hostCertificate struct {
	secrets *secrets
	names   []string

	mu      sync.Mutex
	current *tls.Certificate
	issuer  string // DER of who has issued it
}

const (
	hostTTL    = 30 * 24 * time.Hour
	hostMargin = 10 * 24 * time.Hour // before its end it is replaced

	hostPatience = 4 * time.Second // less than a handshake may take
)

// trust returns whom the cluster trusts. A cluster that has just been founded, or a node
// that has just joined, waits for it for a while.
func (h *hostCertificate) trust(ctx context.Context) *storev1.Trust {
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	for {
		state := h.secrets.store.Load().State()
		if state.Trust() != nil {
			return state.Trust()
		}
		select {
		case <-state.Changed():
		case <-ctx.Done():
			return nil
		}
	}
}

// get returns the certificate, and makes it first if there is none that is good.
func (h *hostCertificate) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	trust := h.trust(hello.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	_, sealer, ok := h.secrets.clusterKey()
	for _, i := range trust.GetIssuers() {
		switch {
		case !ok || i.GetClass() != string(identity.Server):
			continue
		case h.current != nil && h.issuer == string(i.GetCertificate()) && time.Until(h.current.Leaf.NotAfter) > hostMargin:
			return h.current, nil
		}
		authority, err := sealer.OpenAuthority(i.GetCertificate(), i.GetSealedKey(), identity.Server)
		if err != nil {
			return nil, err
		}
		key, err := identity.NewKey()
		if err != nil {
			return nil, err
		}
		cert, err := authority.IssueHost(key.Public(), h.names, hostTTL)
		if err != nil {
			return nil, err
		}
		h.issuer = string(i.GetCertificate())
		h.current = &tls.Certificate{Certificate: [][]byte{cert.Raw, authority.Certificate.Raw}, PrivateKey: key, Leaf: cert}
		return h.current, nil
	}
	return nil, errNotOpen
}
