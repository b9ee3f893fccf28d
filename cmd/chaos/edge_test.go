//go:build linux

package chaos_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// edge is one agent process.
type edge struct {
	process
	dir   string
	nodes string // addresses of the control plane
	ring  int    // in which wave a promotion reaches it
}

const httpPort = "7403"

// startEdges starts agents, one at each site, that follow a cluster. They are
// stopped when the test ends, which fails if one has panicked.
func startEdges(t *testing.T, c *cluster, sites []site) []*edge {
	t.Helper()
	var nodes []string
	for _, n := range c.nodes {
		nodes = append(nodes, n.ip+":"+grpcPort)
	}
	logs := t.TempDir()
	var edges []*edge
	t.Cleanup(func() {
		for _, e := range edges {
			if err := errors.Join(e.kill(), e.complaint()); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("last words of %s:\n%s", e.name, e.lastWords())
			}
		}
	})
	for i, s := range sites {
		name := fmt.Sprintf("edge-%d", i+1)
		e := &edge{
			process: process{name: name, ip: s.ip, logFile: filepath.Join(logs, name+".log"), prefix: s.prefix},
			dir:     filepath.Join(s.dir, name), nodes: strings.Join(nodes, ","), ring: i % rings,
		}
		edges = append(edges, e)
		if err := e.start(); err != nil {
			t.Fatal(err)
		}
	}
	return edges
}

func (e *edge) start() error {
	return e.run(*agent, "--id", e.name, "--control-plane", e.nodes, "--state-dir", e.dir,
		"--label", fmt.Sprintf("ring=%d", e.ring), "--http-listen", e.ip+":"+httpPort, "--admin-listen", "", "--log-level", "warn",
		"--plaintext")
}

// cutOff lets no packets pass between an agent and some nodes.
func (e *edge) cutOff(nodes []*node) error {
	var ips []string
	for _, n := range nodes {
		ips = append(ips, n.ip)
	}
	list := strings.Join(ips, ", ")
	return errors.Join(
		set(&e.process, "add element ip fife mute { %s }", list),
		set(&e.process, "add element ip fife deaf { %s }", list))
}

// heal lets all packets pass to and from an agent.
func (e *edge) heal() error {
	return errors.Join(set(&e.process, "flush set ip fife mute"), set(&e.process, "flush set ip fife deaf"))
}

// asker asks one agent for one path over a connection that it keeps. net/http's own
// client would repeat a request whose connection broke, and hide that.
type asker struct {
	address, path string
	version       string // X-Fife-Version to bring along; empty for none

	conn net.Conn
	in   *bufio.Reader
}

// replyTimeout is longer than an agent is ever stopped.
const replyTimeout = 30 * time.Second

// reply is what became of one request.
type reply struct {
	sent, received time.Time
	status         int    // 0 if there was no answer
	variant        string // of a 200
	deployment     uint64 // of a 200
	version        string // X-Fife-Version
	failure        string // why there was no answer
	position       uint64 // index of the change that it was answered by; 0 if that is not known
}

// ask sends one request.
func (a *asker) ask(ctx context.Context) (r reply) {
	r.sent = time.Now()
	err := a.exchange(ctx, &r)
	r.received = time.Now()
	if err != nil {
		r.status, r.failure = 0, err.Error()
		a.close()
	}
	return r
}

func (a *asker) exchange(ctx context.Context, r *reply) error {
	if a.conn == nil {
		conn, err := (&net.Dialer{Timeout: replyTimeout}).DialContext(ctx, "tcp", a.address)
		if err != nil {
			return err
		}
		a.conn, a.in = conn, bufio.NewReader(conn)
		r.sent = time.Now()
	}
	if err := a.conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	more := ""
	if a.version != "" {
		more = "X-Fife-Version: " + a.version + "\r\n"
	}
	if _, err := fmt.Fprintf(a.conn, "GET %s HTTP/1.1\r\nHost: edge\r\n%s\r\n", a.path, more); err != nil {
		return err
	}
	resp, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // what matters is in the header
	r.status, r.version = resp.StatusCode, resp.Header.Get("X-Fife-Version")
	if r.status == http.StatusOK {
		r.variant = resp.Header.Get("X-Fife-Variant")
		if r.deployment, err = strconv.ParseUint(resp.Header.Get("X-Fife-Deployment"), 10, 64); err != nil {
			return fmt.Errorf("X-Fife-Deployment: %w", err)
		}
	}
	if resp.Close {
		a.close()
	}
	return nil
}

func (a *asker) close() {
	if a.conn != nil {
		_ = a.conn.Close() // whatever it held has been read
		a.conn = nil
	}
}
