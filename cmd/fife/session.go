package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/identity"
)

// session is what a user has got by signing in to a control plane. It is kept in a
// file of the user's, and refreshed there.
type session struct {
	Servers      []string  `json:"servers"` // sorted
	CA           string    `json:"ca"`      // PEM of the cluster's CA
	Issuer       string    `json:"issuer"`
	IssuerCA     string    `json:"issuer_ca,omitempty"`
	ClientID     string    `json:"client_id"`
	Subject      string    `json:"subject"` // as the issuer knows the user
	IDToken      string    `json:"id_token"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	Expires      time.Time `json:"expires"`
}

const sessionsDir = "sessions"

// sessionFile returns the name of the file of a control plane's session.
func sessionFile(addresses []string) string {
	sorted := slices.Sorted(slices.Values(addresses))
	return filepath.Join(sessionsDir, url.QueryEscape(strings.Join(sorted, ","))+".json")
}

// openSession returns what the user has got by signing in; nil if it has not.
func openSession(addresses []string) (*session, error) {
	dir, err := configDir()
	if err != nil {
		return nil, nil //nolint:nilerr // who has no directory has no session in it
	}
	path := filepath.Join(dir, sessionFile(addresses))
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s := &session{}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, exitf(exitFailed, "read what you signed in for: %v\nsign in again: fife login", err)
	}
	return s, nil
}

func (s *session) write() error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := keep(sessionFile(s.Servers), data); err != nil {
		return exitf(exitFailed, "keep what you signed in for: %v", err)
	}
	return nil
}

// remove forgets the session.
func (s *session) remove() error {
	dir, err := configDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, sessionFile(s.Servers))
	_ = os.Remove(path + ".lock") // there is none before the first refresh
	return os.Remove(path)
}

// lock keeps other commands of the user from refreshing the same session: an issuer
// may take a refresh token that is used twice for a stolen one.
func (s *session) lock(ctx context.Context) (unlock func(), err error) {
	dir, err := configDir()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, sessionFile(s.Servers)+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // which unlocks it
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			_ = file.Close() // it was not written
			return nil, fmt.Errorf("another command is refreshing it: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// margin is how long before its end a token is no longer used.
const margin = 10 * time.Second

func (s *session) fresh() bool { return time.Until(s.Expires) > margin }

// refreshed returns the session with a token that lasts.
func (s *session) refreshed(ctx context.Context) (*session, error) {
	if s.fresh() {
		return s, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, exitf(exitFailed, "refresh what you signed in for: %v", err)
	}
	defer unlock()
	latest, err := openSession(s.Servers)
	if err != nil {
		return nil, err
	}
	if latest == nil || latest.RefreshToken == "" && !latest.fresh() {
		return nil, exitf(exitFailed, "what you signed in for has ended; sign in again: fife login")
	}
	if latest.fresh() {
		return latest, nil
	}
	at, err := discover(ctx, latest.Issuer, latest.ClientID, latest.IssuerCA)
	if err != nil {
		return nil, err
	}
	next, err := at.refresh(ctx, latest)
	if refused := (*oauth2.RetrieveError)(nil); errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return nil, exitf(exitFailed, "%s has ended what you signed in for; sign in again: fife login", latest.Issuer)
	}
	if err != nil {
		return nil, exitf(exitFailed, "refresh what you signed in for at %s: %s", latest.Issuer, clean(err.Error()))
	}
	return next, next.write()
}

// signedIn returns the proof of a session.
func (t target) signedIn(ctx context.Context, cmd *cobra.Command, s *session) (proof, error) {
	roots, err := identity.ParseRoots([]byte(s.CA))
	if t.CA != "" {
		roots, err = t.roots(cmd)
	}
	if err != nil {
		return proof{}, err
	}
	s, err = s.refreshed(ctx)
	if err != nil {
		return proof{}, err
	}
	return proof{credentials.NewTLS(identity.AnonymousConfig(roots)), &signedIn{session: s}}, nil
}

// signedIn shows the token of a session, and refreshes it in commands that outlast it.
type signedIn struct {
	mu      sync.Mutex
	session *session
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s *signedIn) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.session.refreshed(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	s.session = next
	return bearer(next.IDToken).GetRequestMetadata(ctx)
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (s *signedIn) RequireTransportSecurity() bool { return true }
