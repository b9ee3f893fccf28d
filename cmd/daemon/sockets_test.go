package daemon

import (
	"strings"
	"testing"
)

func TestSockets(t *testing.T) {
	for _, c := range []struct{ name, pid, fds, want string }{
		{"none", "", "", ""},
		{"of another process", "8", "1", ""},
		{"no number", "7", "one", `"one"`},
		{"less than none", "7", "-1", `"-1"`},
		{"zero", "7", "0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := map[string]string{"LISTEN_PID": c.pid, "LISTEN_FDS": c.fds}
			sockets, err := Sockets(func(name string) string { return env[name] }, 7)
			if len(sockets) != 0 {
				t.Errorf("got %d sockets", len(sockets))
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
