package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writePair writes a new certificate for a name, and its key. The serial number is also
// the time of the files, so that each is newer than the one before.
func writePair(t *testing.T, dir, name string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{name}, NotAfter: time.Unix(1<<37, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, name+".crt"), "CERTIFICATE", der, serial)
	writePEM(t, filepath.Join(dir, name+".key"), "EC PRIVATE KEY", keyDER, serial)
}

func writePEM(t *testing.T, path, kind string, der []byte, seconds int64) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(seconds, 0)); err != nil {
		t.Fatal(err)
	}
}

// serial returns the serial number of the certificate that a client gets which asks for
// a name.
func serial(t *testing.T, c *certificates, name string) int64 {
	t.Helper()
	got, err := c.get(&tls.ClientHelloInfo{
		ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	})
	if err != nil {
		t.Fatal(err)
	}
	return got.Leaf.SerialNumber.Int64()
}

// logLines yields what is logged, line by line.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestCertificates: each client gets the certificate for the name that it asks for, and
// one that was replaced is served soon, unless it is of no use.
func TestCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		writePair(t, dir, "a.test", 1)
		writePair(t, dir, "b.test", 2)
		c, err := loadCertificates(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		lines := make(logLines, 10)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.watch(ctx, slog.New(slog.NewTextHandler(lines, nil))) }()
		expect := func(when, said string, a, b int64) {
			t.Helper()
			select {
			case line := <-lines:
				if said == "" || !strings.Contains(line, said) {
					t.Fatalf("%s: logged %q, want %q", when, line, said)
				}
			case <-time.After(3 * reloadInterval):
				if said != "" {
					t.Fatalf("%s: nothing is logged, want %q", when, said)
				}
			}
			for name, want := range map[string]int64{"a.test": a, "b.test": b, "": a, "c.test": a} {
				if got := serial(t, c, name); got != want {
					t.Errorf("%s: %q gets certificate %d, want %d", when, name, got, want)
				}
			}
		}
		expect("at first", "", 1, 2)
		writePair(t, dir, "b.test", 3)
		expect("one renewed", "certificates loaded", 1, 3)
		writePEM(t, filepath.Join(dir, "a.test.crt"), "CERTIFICATE", []byte("nonsense"), 4)
		expect("one damaged", "the old ones stay", 1, 3)
		writePair(t, dir, "a.test", 5)
		expect("mended", "certificates loaded", 5, 3)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
