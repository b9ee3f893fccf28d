package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// byBrowser signs in by the authorization code flow: the browser is led to the issuer
// and from there back to a port of this machine (RFC 8252, section 7.3).
func (c *cli) byBrowser(ctx context.Context, at *issuer, port uint16) (*session, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("wait for the browser: %w", err)
	}
	config := at.config
	config.RedirectURL = "http://" + listener.Addr().String() + callbackPath
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	back := &callback{issuer: at.url, state: state, answers: make(chan answered, 1)}
	server := &http.Server{Handler: back, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // until it is shut down
	}()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil { // lets the browser have its answer
			_ = server.Close()
		}
		<-served
	}()
	to := config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	linef(c.err, "sign in with your browser; if it does not open, go to\n  %s\nor, without a browser here, use: fife login --device", clean(to))
	openBrowser(to)
	select {
	case a := <-back.answers:
		if a.err != nil {
			return nil, a.err
		}
		token, err := config.Exchange(at.with(ctx), a.code, oauth2.VerifierOption(verifier))
		if err != nil {
			return nil, err
		}
		return at.session(ctx, token, nonce)
	case <-ctx.Done():
		return nil, fmt.Errorf("nobody has signed in: %w", ctx.Err())
	}
}

const callbackPath = "/callback"

// callback is where the browser comes back to. What is not of this sign-in changes
// nothing: any page may lead a browser here, and any program of this machine may call.
type callback struct {
	issuer, state string
	answers       chan answered // has room for the first
}

// answered is what the issuer has sent with the browser.
type answered struct {
	code string
	err  error
}

// ServeHTTP implements http.Handler.
func (b *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	q := r.URL.Query()
	switch {
	case r.URL.Path != callbackPath || r.Method != http.MethodGet:
		http.NotFound(w, r)
		return
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.state)) != 1:
		http.Error(w, "This is not the sign-in that fife waits for.", http.StatusBadRequest)
		return
	}
	a := answered{code: q.Get("code")}
	switch {
	case q.Has("iss") && q.Get("iss") != b.issuer: // RFC 9207
		a = answered{err: fmt.Errorf("the answer is of another issuer, %q", q.Get("iss"))}
	case q.Has("error"):
		a = answered{err: fmt.Errorf("it says %s: %s", q.Get("error"), q.Get("error_description"))}
	case a.code == "":
		a.err = errors.New("the answer has no code")
	}
	select {
	case b.answers <- a:
	default: // an answer is there already
	}
	if a.err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "You are not signed in; fife says why.\n") // the browser may have gone
		return
	}
	_, _ = io.WriteString(w, "You can close this window and go on with fife.\n")
}

// openBrowser opens a page in $BROWSER, or in what the system has. It may fail: the
// user is told where to go.
func openBrowser(page string) {
	words := strings.Fields(os.Getenv("BROWSER"))
	if len(words) == 0 {
		switch runtime.GOOS {
		case "darwin":
			words = []string{"open"}
		case "windows":
			words = []string{"rundll32", "url.dll,FileProtocolHandler"}
		default:
			words = []string{"xdg-open"}
		}
	}
	if u, err := url.Parse(page); err != nil || u.Scheme != "https" {
		return // what else an issuer names is not for the system to open
	}
	_ = exec.Command(words[0], append(words[1:], page)...).Start() // it may outlive this command
}

// byDevice signs in by the device flow (RFC 8628): a browser elsewhere approves a code.
func (c *cli) byDevice(ctx context.Context, at *issuer) (*session, error) {
	if at.config.Endpoint.DeviceAuthURL == "" {
		return nil, errors.New("the issuer has no device flow; sign in with a browser, or use a token: fife access token create")
	}
	verifier := oauth2.GenerateVerifier()
	device, err := at.config.DeviceAuth(at.with(ctx), oauth2.S256ChallengeOption(verifier))
	if err != nil {
		return nil, err
	}
	linef(c.err, "go to %s and enter the code %s", clean(device.VerificationURI), clean(device.UserCode))
	if device.VerificationURIComplete != "" {
		linef(c.err, "or go to %s", clean(device.VerificationURIComplete))
	}
	token, err := at.config.DeviceAccessToken(at.with(ctx), device, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, err
	}
	return at.session(ctx, token, "")
}
