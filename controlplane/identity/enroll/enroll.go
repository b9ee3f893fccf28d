// Package enroll gets certificates from a control plane: a first one with a join
// token, and others before they expire.
package enroll

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// ErrRefused says that the control plane will not give a certificate however often it
// is asked.
var ErrRefused = errors.New("the control plane gives no certificate")

const (
	callTimeout = 10 * time.Second
	pause       = time.Second      // between two rounds of attempts
	look        = 2 * time.Second  // between two looks at a certificate's age
	retry       = 10 * time.Second // after an attempt to renew it that has failed
)

// Joiner asks for a first certificate.
type Joiner struct {
	Addresses []string // of the control plane's gRPC ports, tried in order
	Token     string   // the join token's text
	Name      string   // CLASS/NAME
	Logger    *slog.Logger
	// Dial connects to an address; nil means TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Join makes a key, and asks until it has a certificate for it, is refused, or ctx
// ends. The key of the cluster comes with it, for servers. The token is sent only to a
// server of the cluster that it names. However often the call is repeated, it is one
// use of the token.
func (j Joiner) Join(ctx context.Context) (*identity.Credential, []byte, error) {
	token, err := identity.ParseJoinToken(j.Token)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, nil, err
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		return nil, nil, err
	}
	req := &fifev1.IssueCertificateRequest{Token: token.Text(), Name: j.Name, Csr: csr, RequestId: rand.Text()}
	for {
		for _, address := range j.Addresses {
			credential, clusterKey, err := j.ask(ctx, address, token.Pin, key, req)
			if err == nil {
				return credential, clusterKey, nil
			}
			if refused(err) {
				return nil, nil, fmt.Errorf("%w: %s: %w", ErrRefused, address, err)
			}
			j.Logger.Warn("not joined yet", "name", j.Name, "address", address, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// refused reports whether an answer will be the same however often it is asked for.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	return errors.Is(err, identity.ErrInvalid)
}

func (j Joiner) ask(
	ctx context.Context, address, pin string, key *ecdsa.PrivateKey, req *fifev1.IssueCertificateRequest,
) (*identity.Credential, []byte, error) {
	var mu sync.Mutex
	var trust identity.Trust // of the connection, which dials in goroutines of its own
	config := identity.PinnedConfig(pin, func(t identity.Trust) {
		mu.Lock()
		defer mu.Unlock()
		trust = t
	})
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}
	if j.Dial != nil {
		options = append(options, grpc.WithContextDialer(j.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }() // it has nothing left to say
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := fifev1.NewJoinServiceClient(conn).IssueCertificate(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return accept(key, resp, req.GetName(), trust)
}

// accept makes a credential of an answer that has come from a server of trust.
func accept(
	key *ecdsa.PrivateKey, resp *fifev1.IssueCertificateResponse, name string, trust identity.Trust,
) (*identity.Credential, []byte, error) {
	chain, err := identity.ParseCertificates(resp.GetChain())
	if err != nil {
		return nil, nil, err
	}
	roots, err := identity.ParseCertificates(resp.GetRoots())
	if err != nil {
		return nil, nil, err
	}
	c, err := identity.NewCredential(key, chain, roots)
	if err != nil {
		return nil, nil, err
	}
	if c.Identity.Cluster != trust.Cluster || string(c.Identity.Class)+"/"+c.Identity.Name != name {
		return nil, nil, fmt.Errorf("%w: asked for %s of %s, got %s", identity.ErrInvalid, name, trust.Cluster, c.Identity)
	}
	return c, resp.GetClusterKey(), nil
}

// Renew asks for another certificate over a connection on which the holder shows what
// it has, with a new key, and puts it in place. The key of the cluster is returned, for
// servers.
func Renew(ctx context.Context, conn grpc.ClientConnInterface, h *identity.Holder) ([]byte, error) {
	now := h.Current()
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := fifev1.NewJoinServiceClient(conn).IssueCertificate(ctx, &fifev1.IssueCertificateRequest{Csr: csr})
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	name := string(now.Identity.Class) + "/" + now.Identity.Name
	next, clusterKey, err := accept(key, resp, name, now.Trust)
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	return clusterKey, h.Replace(next)
}

// Keeper renews a credential when two thirds of its life are over, until it has, also
// after it has expired.
type Keeper struct {
	Holder    *identity.Holder
	Addresses []string // of the control plane's gRPC ports
	Logger    *slog.Logger
	// Moved is called when the certificate is by another root than before; nil for
	// nothing.
	Moved func()
	// Dial connects to an address; nil means TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Run keeps the credential until ctx ends. A file that somebody else replaces is read
// again.
func (k Keeper) Run(ctx context.Context) {
	for root := k.Holder.Current().Root(); ; {
		if _, err := k.Holder.Reload(); err != nil {
			k.Logger.Error("credential cannot be read: the old one stays", "error", err)
		}
		wait := look
		if k.Holder.Due() {
			if err := k.renew(ctx); err != nil {
				wait = retry
				k.Logger.Warn("certificate is not renewed", "expires", k.Holder.Current().Leaf().NotAfter, "error", err)
			} else {
				k.Logger.Info("certificate renewed", "expires", k.Holder.Current().Leaf().NotAfter)
			}
		}
		if now := k.Holder.Current().Root(); now != nil && !now.Equal(root) {
			if root = now; k.Moved != nil {
				k.Moved()
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (k Keeper) renew(ctx context.Context) error {
	var errs []error
	for _, address := range k.Addresses {
		options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientConfig(k.Holder)))}
		if k.Dial != nil {
			options = append(options, grpc.WithContextDialer(k.Dial))
		}
		conn, err := grpc.NewClient("passthrough:///"+address, options...)
		if err != nil {
			return err
		}
		_, err = Renew(ctx, conn, k.Holder)
		_ = conn.Close() // it has nothing left to say
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}
