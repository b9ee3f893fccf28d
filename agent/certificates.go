package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// certificates are those that the agent serves with, chosen by the name that a client
// asks for (SNI). What is on disk is looked at again and again, so a renewed one is
// served without a restart; connections that are open keep the one they began with.
type certificates struct {
	cert, key string // two files, or one directory and nothing
	current   atomic.Pointer[[]tls.Certificate]
	seen      string
}

// reloadInterval is how often the files are looked at.
const reloadInterval = 10 * time.Second

// loadCertificates loads a certificate and its key from a file each, or with an empty
// key all NAME.crt and NAME.key of a directory. The first by name serves clients that
// ask for no name, or for one that no certificate is for.
func loadCertificates(cert, key string) (*certificates, error) {
	c := &certificates{cert: cert, key: key}
	return c, c.load()
}

// load loads the certificates, all of them or none.
func (c *certificates) load() error {
	pairs := [][2]string{{c.cert, c.key}}
	if c.key == "" {
		chains, err := filepath.Glob(filepath.Join(c.cert, "*.crt"))
		if err != nil {
			return err
		}
		if pairs = pairs[:0]; len(chains) == 0 {
			return fmt.Errorf("%s: there is no NAME.crt", c.cert)
		}
		slices.Sort(chains)
		for _, chain := range chains {
			pairs = append(pairs, [2]string{chain, strings.TrimSuffix(chain, ".crt") + ".key"})
		}
	}
	seen := ""
	loaded := make([]tls.Certificate, len(pairs))
	for i, pair := range pairs {
		for _, path := range pair {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			seen += fmt.Sprintf("%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
		if seen == c.seen && i == len(pairs)-1 {
			return nil // nothing has changed
		}
		var err error
		if loaded[i], err = tls.LoadX509KeyPair(pair[0], pair[1]); err != nil {
			return fmt.Errorf("%s and %s: %w", pair[0], pair[1], err)
		}
	}
	c.seen = seen
	c.current.Store(&loaded)
	return nil
}

// get chooses the certificate for a client.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	loaded := *c.current.Load()
	for i := range loaded {
		if hello.SupportsCertificate(&loaded[i]) == nil {
			return &loaded[i], nil
		}
	}
	return &loaded[0], nil
}

// watch loads the certificates anew whenever they have changed, until ctx ends. What
// cannot be loaded changes nothing: files are mostly replaced one after the other.
func (c *certificates) watch(ctx context.Context, logger *slog.Logger) error {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		before := c.current.Load()
		if err := c.load(); err != nil {
			logger.Error("TLS certificates cannot be loaded: the old ones stay", "error", err)
		} else if c.current.Load() != before {
			logger.Info("TLS certificates loaded")
		}
	}
}
