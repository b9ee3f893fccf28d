//go:build linux

package edge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// h2specModule is the conformance test of HTTP/2 that is fetched.
const h2specModule = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// TestH2spec runs h2spec against the agent and against Go's own server, over TLS and
// without. The agent may fail nothing that Go's server passes.
func TestH2spec(t *testing.T) {
	if !*h2specs {
		t.Log("h2spec is not run: that is done with -edge.h2spec, and fetches it")
		return
	}
	certFile, keyFile := certificate(t)
	for _, test := range []struct {
		name  string
		flags []string
		tls   bool
	}{
		{"h2c", nil, false},
		{"TLS", []string{"--tls-cert", certFile, "--tls-key", keyFile}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			own, all := h2spec(t, goServer(t, test.tls, certFile, keyFile), test.tls)
			upstream := startUpstream(t)
			address := upstream.Addr().String()
			plane := startControlPlane(t, corpusTable(address)...)
			a := startAgent(t, "h2spec", plane, nil, test.flags...)
			failed, _ := h2spec(t, a.http, test.tls)
			fmt.Fprintf(t.Output(), "%d cases; Go's server fails %d, the agent %d\n", all, len(own), len(failed))
			for _, name := range failed {
				known := slices.Contains(own, name)
				fmt.Fprintf(t.Output(), "the agent fails %q (Go's server too: %v)\n", name, known)
				if !known {
					t.Errorf("the agent fails %q, which Go's server passes", name)
				}
			}
			for _, name := range own {
				if !slices.Contains(failed, name) {
					fmt.Fprintf(t.Output(), "Go's server fails %q, the agent does not\n", name)
				}
			}
		})
	}
}

// goServer is Go's own server without anything around it.
func goServer(t *testing.T, tls bool, certFile, keyFile string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what is wrong with it, the server tells
		_, _ = io.WriteString(w, "ok")
	})
	go func() {
		if tls {
			_ = s.ServeTLS(l, certFile, keyFile)
		} else {
			_ = s.Serve(l)
		}
	}()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// h2spec returns the names of the cases that fail, and how many there are.
func h2spec(t *testing.T, address string, tls bool) (failed []string, all int) {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	args := []string{"run", h2specModule, "-h", "127.0.0.1", "-p", port, "-P", "/s/x", "-o", "2", "-j", report}
	if tls {
		args = append(args, "-t", "-k")
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput() // a case that fails is an error too
	data, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Fatalf("h2spec: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	var suites struct {
		Suites []struct {
			Cases []struct {
				Package string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &suites); err != nil {
		t.Fatal(err)
	}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			all++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, strings.TrimSpace(c.Package+" "+c.Name))
			}
		}
	}
	return failed, all
}

// certificate writes a certificate for the loopback address and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: encoded},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
