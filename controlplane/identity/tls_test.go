package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/bubbletest"
)

func accept(Peer) error { return nil }

// shake does a handshake and returns what each side makes of it.
func shake(t testing.TB, caller, callee *tls.Config) (callerErr, calleeErr error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error, 1)
	client, server := tls.Client(a, caller), tls.Server(b, callee)
	go func() {
		err := server.Handshake()
		if err == nil {
			_, err = server.Write([]byte("x"))
		}
		done <- err
		_ = b.Close()
	}()
	callerErr = client.Handshake()
	if callerErr == nil {
		// The callee's word on the caller's certificate comes after the handshake.
		_, callerErr = client.Read(make([]byte, 1))
	}
	_ = a.Close()
	return callerErr, <-done
}

func TestHandshake(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		p, stranger := newPKI(t, "c"), newPKI(t, "c")
		server := NewHolder(p.credential(t, Server, "n1", 30*24*time.Hour))
		agent := NewHolder(p.credential(t, Agent, "a1", 24*time.Hour))
		user := NewHolder(p.credential(t, User, "ada", 24*time.Hour))
		revoked := errors.New("revoked")
		open := ServerConfig(server, true, accept)
		closed := ServerConfig(server, false, accept)
		refusing := ServerConfig(server, true, func(Peer) error { return revoked })
		nobody := PinnedConfig(Pin("c", p.root.Certificate), func(Trust) {})
		old := ClientConfig(agent)
		old.MaxVersion = tls.VersionTLS12
		old.MinVersion = tls.VersionTLS12
		for name, test := range map[string]struct {
			caller, callee *tls.Config
			ok             bool
		}{
			"agent":                    {ClientConfig(agent), open, true},
			"user":                     {ClientConfig(user), open, true},
			"nobody":                   {nobody, open, true},
			"nobody where none may":    {nobody, closed, false},
			"token":                    {AnonymousConfig([]*x509.Certificate{p.root.Certificate}), open, true},
			"token, two roots":         {AnonymousConfig([]*x509.Certificate{stranger.root.Certificate, p.root.Certificate}), open, true},
			"token, another root":      {AnonymousConfig([]*x509.Certificate{stranger.root.Certificate}), open, false},
			"token, to a user":         {AnonymousConfig([]*x509.Certificate{p.root.Certificate}), ServerConfig(user, true, accept), false},
			"agent of a stranger":      {ClientConfig(NewHolder(stranger.credential(t, Agent, "a1", time.Hour))), open, false},
			"refused":                  {ClientConfig(agent), refusing, false},
			"TLS 1.2":                  {old, open, false},
			"server that is a user":    {ClientConfig(agent), ServerConfig(user, true, accept), false},
			"server that is an agent":  {nobody, ServerConfig(agent, true, accept), false},
			"server of a stranger":     {ClientConfig(agent), ServerConfig(NewHolder(stranger.credential(t, Server, "n1", time.Hour)), true, accept), false},
			"nobody, and another root": {PinnedConfig(Pin("c", stranger.root.Certificate), func(Trust) {}), open, false},
		} {
			callerErr, calleeErr := shake(t, test.caller, test.callee)
			if ok := callerErr == nil && calleeErr == nil; ok != test.ok {
				t.Errorf("%s: %v, %v", name, callerErr, calleeErr)
			}
		}

		// A day later the agent's certificate has expired: where anonymous callers are
		// taken so is it, to be renewed. A user's is not.
		time.Sleep(25 * time.Hour)
		for name, test := range map[string]struct {
			caller, callee *tls.Config
			ok             bool
		}{
			"expired agent":           {ClientConfig(agent), open, true},
			"expired agent elsewhere": {ClientConfig(agent), closed, false},
			"expired user":            {ClientConfig(user), open, false},
		} {
			callerErr, calleeErr := shake(t, test.caller, test.callee)
			if ok := callerErr == nil && calleeErr == nil; ok != test.ok {
				t.Errorf("%s: %v, %v", name, callerErr, calleeErr)
			}
		}

		// A renewed certificate is shown, and a new root believed, from the next
		// connection on.
		if err := user.Replace(p.credential(t, User, "ada", 24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if a, b := shake(t, ClientConfig(user), open); a != nil || b != nil {
			t.Errorf("renewed: %v, %v", a, b)
		}
		both := *server.Current()
		both.Trust.Roots = append(both.Trust.Roots, stranger.root.Certificate)
		if err := server.Replace(&both); err != nil {
			t.Fatal(err)
		}
		new := *stranger.credential(t, User, "ada", time.Hour)
		new.Trust = both.Trust
		if a, b := shake(t, ClientConfig(NewHolder(&new)), open); a != nil || b != nil {
			t.Errorf("of the new root: %v, %v", a, b)
		}
	})
}
