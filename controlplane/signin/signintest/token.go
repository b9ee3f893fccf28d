package signintest

import (
	"crypto/rand"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
)

// token gives tokens for a code, a refresh token or an approved device. Each is good
// for once.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	if id, _, ok := r.BasicAuth(); r.PostFormValue("client_id") != ClientID && (!ok || id != ClientID) {
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	var g grant
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		code := r.PostFormValue("code")
		var ok bool
		if g, ok = i.codes[code]; !ok || g.redirectTo != r.PostFormValue("redirect_uri") {
			refuse(w, "invalid_grant", "no such code")
			return
		}
		delete(i.codes, code)
		if !proves(g.challenge, r.PostFormValue("code_verifier")) {
			refuse(w, "invalid_grant", "the code verifier is wrong")
			return
		}
	case "refresh_token":
		text := r.PostFormValue("refresh_token")
		var ok bool
		if g, ok = i.refresh[text]; !ok {
			refuse(w, "invalid_grant", "the refresh token is not known")
			return
		}
		delete(i.refresh, text)
		g.nonce = ""
	case "urn:ietf:params:oauth:grant-type:device_code":
		d := i.devices[r.PostFormValue("device_code")]
		switch {
		case d == nil:
			refuse(w, "expired_token", "")
			return
		case d.denied:
			refuse(w, "access_denied", "")
			return
		case d.person == nil:
			d.polls++
			refuse(w, "authorization_pending", "")
			return
		case !proves(d.challenge, r.PostFormValue("code_verifier")):
			refuse(w, "invalid_grant", "the code verifier is wrong")
			return
		}
		delete(i.devices, r.PostFormValue("device_code"))
		g = grant{person: d.person}
	default:
		refuse(w, "unsupported_grant_type", "")
		return
	}
	claims := i.claims(g.person)
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	refresh := rand.Text()
	i.refresh[refresh] = g
	answer(w, http.StatusOK, map[string]any{
		"access_token": "access-" + rand.Text(), "token_type": "Bearer", "expires_in": int(i.lifetime.Seconds()),
		"refresh_token": refresh, "id_token": Sign(i.keys[len(i.keys)-1], claims, nil),
	})
}

// proves reports whether a verifier is that of an S256 challenge (RFC 7636).
func proves(challenge, verifier string) bool {
	return challenge != "" && oauth2.S256ChallengeFromVerifier(verifier) == challenge
}

// device gives a device a code that somebody is to approve.
func (i *Issuer) device(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("client_id") != ClientID || r.PostFormValue("code_challenge_method") != "S256" {
		refuse(w, "invalid_request", "the client is not known, or does without PKCE")
		return
	}
	code, user := rand.Text(), rand.Text()[:8]
	i.devices[code] = &device{userCode: user, challenge: r.PostFormValue("code_challenge")}
	answer(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": user, "expires_in": 300, "interval": 1,
		"verification_uri": i.URL + "/approve", "verification_uri_complete": i.URL + "/approve?user_code=" + user,
	})
}

// approve is the page where the person at the browser approves a device.
func (i *Issuer) approve(w http.ResponseWriter, r *http.Request) {
	for _, d := range i.devices {
		if d.userCode == strings.ToUpper(r.FormValue("user_code")) {
			d.person, d.denied = i.person, r.FormValue("deny") != ""
			return
		}
	}
	http.Error(w, "no such code", http.StatusNotFound)
}

// Holds reports whether the issuer would take a refresh token.
func (i *Issuer) Holds(refresh string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.refresh[refresh]
	return ok
}

// Take makes a refresh token somebody else's.
func (i *Issuer) Take(refresh string, person Claims) {
	i.mu.Lock()
	defer i.mu.Unlock()
	g := i.refresh[refresh]
	g.person = person
	i.refresh[refresh] = g
}
