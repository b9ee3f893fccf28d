package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// issuer is an OpenID Connect issuer as the command line is known to it: as a public
// client, which has no secret and proves by PKCE (RFC 7636) that it is the one that asked.
type issuer struct {
	url, ca  string
	client   *http.Client
	provider *oidc.Provider
	config   oauth2.Config
	revokes  string // where tokens are revoked (RFC 7009); empty if nowhere
}

// issuerTimeout bounds one answer of an issuer.
const issuerTimeout = 10 * time.Second

// discover asks an issuer what it is like. ca is the PEM of the CAs that its
// certificate may be under; empty means the system's.
func discover(ctx context.Context, at, clientID, ca string) (*issuer, error) {
	client, err := issuerClient(ca)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(at); err != nil || u.Scheme != "https" {
		return nil, exitf(exitFailed, "the issuer %q is not an https URL", at)
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), at)
	if err != nil {
		return nil, exitf(exitFailed, "ask %s how to sign in: %s", at, clean(err.Error()))
	}
	var more struct {
		Revokes string   `json:"revocation_endpoint"`
		Scopes  []string `json:"scopes_supported"`
	}
	if err := provider.Claims(&more); err != nil {
		return nil, exitf(exitFailed, "ask %s how to sign in: %v", at, err)
	}
	i := &issuer{url: at, ca: ca, client: client, provider: provider, revokes: more.Revokes}
	i.config = oauth2.Config{ClientID: clientID, Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "email", "profile"}}
	i.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	for _, scope := range []string{oidc.ScopeOfflineAccess, "groups"} {
		if slices.Contains(more.Scopes, scope) {
			i.config.Scopes = append(i.config.Scopes, scope)
		}
	}
	return i, nil
}

// issuerClient returns what asks an issuer, over HTTPS alone.
func issuerClient(ca string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, exitf(exitFailed, "the CA of the issuer holds no PEM certificate")
		}
	}
	return &http.Client{Transport: transport, Timeout: issuerTimeout, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" || len(via) > 3 {
			return fmt.Errorf("the issuer leads to %s", req.URL.Redacted())
		}
		return nil
	}}, nil
}

// with returns ctx for calls of the issuer.
func (i *issuer) with(ctx context.Context) context.Context { return oidc.ClientContext(ctx, i.client) }

// session returns what a token of the issuer's is good for. nonce is what its ID token
// must say, unless it is empty.
func (i *issuer) session(ctx context.Context, token *oauth2.Token, nonce string) (*session, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, errors.New("the issuer has sent no ID token; is the client known to it as one of OpenID Connect?")
	}
	id, err := i.provider.VerifierContext(i.with(ctx), &oidc.Config{ClientID: i.config.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("verify the ID token: %w", err)
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(id.Nonce)) != 1 {
		return nil, errors.New("the ID token is of another sign-in (its nonce is wrong)")
	}
	return &session{
		Issuer: i.url, IssuerCA: i.ca, ClientID: i.config.ClientID, Subject: id.Subject,
		IDToken: raw, RefreshToken: token.RefreshToken, Expires: id.Expiry,
	}, nil
}

// refresh returns a session with a new token, which must be of the same person (OpenID
// Connect Core 1.0, section 12.2).
func (i *issuer) refresh(ctx context.Context, old *session) (*session, error) {
	token, err := i.config.TokenSource(i.with(ctx), &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
	if err != nil {
		return nil, err
	}
	next, err := i.session(ctx, token, "")
	if err != nil {
		return nil, err
	}
	if next.Subject != old.Subject {
		return nil, errors.New("the new token is somebody else's")
	}
	if next.RefreshToken == "" {
		next.RefreshToken = old.RefreshToken
	}
	next.Servers, next.CA = old.Servers, old.CA
	return next, nil
}

// revoke has the issuer take a refresh token back.
func (i *issuer) revoke(ctx context.Context, token string) error {
	if i.revokes == "" || token == "" {
		return nil
	}
	form := url.Values{"token": {token}, "token_type_hint": {"refresh_token"}, "client_id": {i.config.ClientID}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.revokes, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := i.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing of it is read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}
