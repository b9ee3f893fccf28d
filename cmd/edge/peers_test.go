//go:build linux

package edge_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
)

// peer is another proxy. Its configuration is in testdata/peers.
type peer struct {
	name    string
	configs []string // templates; the first is the command's
	command func(config string) []string
	version []string
	install string // how to get it
	http2   bool   // takes HTTP/2 on the port of HTTP/1.1
}

var peers = []peer{
	{
		name: "nginx", configs: []string{"nginx.conf"}, version: []string{"nginx", "-v"}, install: "apt-get install -y nginx",
		command: func(config string) []string { return []string{"nginx", "-p", filepath.Dir(config), "-c", config} },
	},
	{
		name: "HAProxy", configs: []string{"haproxy.cfg"}, version: []string{"haproxy", "-v"}, install: "apt-get install -y haproxy",
		command: func(config string) []string { return []string{"haproxy", "-db", "-f", config} },
	},
	{
		name: "Caddy", configs: []string{"Caddyfile"}, version: []string{"caddy", "version"}, install: "make bench-edge builds it", http2: true,
		command: func(config string) []string {
			return []string{"caddy", "run", "--adapter", "caddyfile", "--config", config}
		},
	},
	{
		name: "Traefik", configs: []string{"traefik.yml", "traefik-routes.yml"}, version: []string{"traefik", "version"}, install: "put its binary on the path: it cannot be built with go install", http2: true,
		command: func(config string) []string { return []string{"traefik", "--configFile=" + config} },
	},
}

// lookup finds a program in -edge.peers, else on the path.
func lookup(name string) (string, bool) {
	if *peerDir != "" {
		if path, err := exec.LookPath(filepath.Join(*peerDir, name)); err == nil {
			return path, true
		}
	}
	path, err := exec.LookPath(name)
	if err != nil { // Debian keeps servers off the path of ordinary users
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	return path, err == nil
}

// installed returns whether the peer is there, and which version of it.
func (p *peer) installed() (version string, ok bool) {
	path, ok := lookup(p.version[0])
	if !ok {
		return "", false
	}
	out, err := exec.Command(path, p.version[1:]...).CombinedOutput()
	if err != nil {
		return "", false
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if p.name == "Traefik" {
		first = "Traefik " + strings.Join(strings.Fields(first), " ")
	} else if p.name == "Caddy" {
		first = "Caddy " + first
	}
	return first, true
}

// startPeer starts a peer in front of two upstreams and returns where it takes
// HTTP/1.1 and HTTP/2. It works on so many cores, where its configuration says how many.
func startPeer(t *testing.T, p *peer, base, canary string, cores int, behind []string) (proc *process, http1, http2 string) {
	t.Helper()
	http1, http2 = freePort(t), freePort(t)
	if p.http2 {
		http2 = http1
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are another user
		t.Fatal(err)
	}
	for _, name := range p.configs {
		tmpl, err := template.ParseFiles(filepath.Join("testdata", "peers", name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(http1)
		if err := tmpl.Execute(f, struct {
			HTTP1, Port1, HTTP2, Base, Canary, Dir string
			Cores                                  int
		}{http1, port, http2, base, canary, dir, cores}); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	command := p.command(filepath.Join(dir, p.configs[0]))
	command[0], _ = lookup(command[0])
	proc = start(t, p.name, append(append([]string{}, behind...), command...)...)
	awaitPort(t, http1, proc)
	return proc, http1, http2
}
