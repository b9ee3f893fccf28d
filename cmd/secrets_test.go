package cmd_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdUpstream starts an HTTP upstream, puts its host and port into a variable, and
// writes what it is asked for, the path, the query and the body, to a file: upstream
// VAR FILE. It answers nothing that it was told.
func cmdUpstream(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: upstream VAR FILE")
	}
	seen, err := os.OpenFile(ts.MkAbs(args[1]), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(seen, "%s %s\n", r.RequestURI, body)
		_, _ = io.WriteString(w, "seen")
	}))
	ts.Defer(func() {
		server.Close()
		_ = seen.Close()
	})
	ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
}
