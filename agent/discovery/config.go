package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// Config is what a Client needs. It is not changed, and must not be after New.
type Config struct {
	// AgentID is unique in the fleet and kept over restarts: 1 to 128 letters,
	// digits, dots, underscores and hyphens.
	AgentID string
	// Labels for operators, at most 32, keys and values up to 128 characters.
	Labels map[string]string
	// Addresses of control plane nodes, host:port. One is enough.
	Addresses []string
	// APIs are the ids of the APIs to hold; none means all.
	APIs []string
	// Dir is the directory of the last good table, for this agent alone. It is
	// created if need be.
	Dir string
	// KeyFile is where the key is that seals the tables in Dir: 32 random bytes. It is
	// made if there is none. Empty means a file in Dir.
	KeyFile string
	// Build is what this agent says it is.
	Build string
	// DialOptions are added to the client's own and win over them. They must
	// say which transport credentials to use.
	DialOptions []grpc.DialOption
	// Trust keeps whom to believe on these connections; nil without TLS.
	Trust Trust
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer of the fife_agent_ metrics; may be nil.
	Registerer prometheus.Registerer
}

// The limits that the protocol sets.
const (
	maxAgentID = 128
	maxLabels  = 32
	maxLabel   = 128
)

func (c *Config) check() error {
	if c.AgentID == "" || len(c.AgentID) > maxAgentID || strings.Trim(c.AgentID, idCharacters) != "" {
		return fmt.Errorf("agent id %q: want 1 to %d letters, digits, dots, underscores and hyphens", c.AgentID, maxAgentID)
	}
	if len(c.Labels) > maxLabels {
		return fmt.Errorf("%d labels: at most %d are allowed", len(c.Labels), maxLabels)
	}
	for k, v := range c.Labels {
		if k == "" || len(k) > maxLabel || len(v) > maxLabel {
			return fmt.Errorf("label %q=%q: want a key of 1 to %d and a value of 0 to %[3]d characters", k, v, maxLabel)
		}
	}
	if len(c.Addresses) == 0 {
		return errors.New("no address of a control plane node")
	}
	for _, a := range c.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("control plane address %q: want host:port", a)
		}
	}
	if c.Dir == "" {
		return errors.New("no directory for the last good table")
	}
	return nil
}

const idCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
