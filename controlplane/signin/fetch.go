package signin

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeySet  = 256 << 10 // bytes of an issuer's keys
	maxKeys    = 64
	minRSABits = 2048
)

// fetch returns the keys that an issuer signs with now: it finds out where they are,
// and gets them.
func fetch(ctx context.Context, client *http.Client, issuer string) ([]jose.JSONWebKey, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), issuer)
	if err != nil {
		return nil, fmt.Errorf("discover the issuer: %w", err)
	}
	var where struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&where); err != nil {
		return nil, fmt.Errorf("read what the issuer says of itself: %w", err)
	}
	if !strings.HasPrefix(where.JWKSURI, "https://") {
		return nil, fmt.Errorf("the issuer's keys are at %q, which is not https", where.JWKSURI)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.JWKSURI, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get the issuer's keys: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("get the issuer's keys: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("get the issuer's keys: %s answers %s", where.JWKSURI, resp.Status)
	case len(data) > maxKeySet:
		return nil, fmt.Errorf("the issuer's keys have more than %d bytes", maxKeySet)
	}
	return usable(data)
}

// usable returns those of an issuer's keys that signatures are verified with. Keys of
// kinds that are not known here are left out (RFC 7517, section 5), and so are those that
// are no public keys, weak, or meant for something else.
func usable(data []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read the issuer's keys: %w", err)
	}
	var all []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || !key.Valid() || !key.IsPublic() || (key.Use != "" && key.Use != "sig") {
			continue
		}
		if k, ok := key.Key.(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
			continue
		}
		all = append(all, key)
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("the issuer publishes no key that signatures can be verified with")
	case len(all) > maxKeys:
		return nil, fmt.Errorf("the issuer publishes %d keys, more than %d", len(all), maxKeys)
	}
	return all, nil
}
