package cmd_test

import (
	"os"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fifegateway/fife/controlplane/signin/signintest"
)

// This file holds the stories' own words around signing in.

// issuers holds the issuers of all stories by their URLs.
var issuers sync.Map

// cmdIssuer starts an OpenID Connect issuer, puts its URL into a variable and its CA
// into a file: issuer VAR FILE
func cmdIssuer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: issuer VAR FILE")
	}
	i, stop := signintest.Serve()
	ts.Defer(stop)
	ts.Setenv(args[0], i.URL)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), i.CA, 0o600))
	issuers.Store(i.URL, i)
}

// cmdPerson says who sits at the browser from now on, and how long tokens last:
// person ISSUER EMAIL LIFETIME GROUP...
func cmdPerson(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: person ISSUER EMAIL LIFETIME GROUP...")
	}
	lifetime, err := time.ParseDuration(args[2])
	ts.Check(err)
	i, ok := issuers.Load(args[0])
	if !ok {
		ts.Fatalf("there is no issuer %s", args[0])
	}
	i.(*signintest.Issuer).Be(signintest.Claims{
		"sub": args[1], "email": args[1], "email_verified": true, "groups": args[3:],
	}, lifetime)
}
