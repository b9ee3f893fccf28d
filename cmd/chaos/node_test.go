//go:build linux

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// node is one control-plane process and the connection to it. Its methods are
// called from one goroutine; the clients in it may be used from any.
type node struct {
	name, ip string
	dir      string   // of its log and snapshots
	logFile  string   // of all its lives
	prefix   []string // what its command begins with, to run it in a namespace

	conn        *grpc.ClientConn
	apis        fifev1.ApiServiceClient
	deployments fifev1.DeploymentServiceClient
	stages      fifev1.StageServiceClient
	cluster     fifev1.ClusterServiceClient

	mu   sync.Mutex
	life *life // nil while it is down
}

// life is one run of a node's process.
type life struct {
	process *os.Process
	ended   chan struct{}
	state   *os.ProcessState // set once ended
}

// Ports of a node. They lie below those that outgoing connections take, so that
// a node that is down finds them free when it comes back.
const (
	grpcPort  = "7400"
	raftPort  = "7401"
	adminPort = "7402"
)

func newNode(name, ip, dir string, prefix ...string) (*node, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+ip+":"+grpcPort,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
		}))
	if err != nil {
		return nil, err
	}
	return &node{
		name: name, ip: ip, dir: filepath.Join(dir, name), logFile: filepath.Join(dir, name+".log"), prefix: prefix,
		conn:        conn,
		apis:        fifev1.NewApiServiceClient(conn),
		deployments: fifev1.NewDeploymentServiceClient(conn),
		stages:      fifev1.NewStageServiceClient(conn),
		cluster:     fifev1.NewClusterServiceClient(conn),
	}, nil
}

// start runs the node's process; args say how a new node begins.
func (n *node) start(args ...string) error {
	log, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	line := append(append([]string{}, n.prefix...), *binary, "--name", n.name, "--data-dir", n.dir,
		"--grpc-listen", n.ip+":"+grpcPort, "--raft-listen", n.ip+":"+raftPort, "--admin-listen", n.ip+":"+adminPort,
		"--log-level", "warn")
	line = append(line, args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	l := &life{process: cmd.Process, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in the state
		l.state = cmd.ProcessState
		close(l.ended)
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life = l
	return nil
}

// alive returns the node's present life, or nil if it is down.
func (n *node) alive() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// signal sends a signal to the node's process, if it is up.
func (n *node) signal(s syscall.Signal) {
	if l := n.alive(); l != nil {
		_ = l.process.Signal(s) // it has ended, which whoever waits for it sees
	}
}

// end waits until the process has ended, by itself or by a signal, and returns
// how.
func (n *node) end(patience time.Duration) (*os.ProcessState, error) {
	l := n.alive()
	if l == nil {
		return nil, fmt.Errorf("%s is down already", n.name)
	}
	select {
	case <-l.ended:
	case <-time.After(patience):
		return nil, fmt.Errorf("%s has not ended within %v", n.name, patience)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life = nil
	return l.state, nil
}

// kill ends the process at once, as a crash would.
func (n *node) kill() error {
	if n.alive() == nil {
		return nil
	}
	n.signal(syscall.SIGKILL)
	_, err := n.end(patience)
	return err
}

// ended reports whether the process has ended by itself.
func (n *node) ended() bool {
	l := n.alive()
	if l == nil {
		return false
	}
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// reachable reports whether the connection to the node stands, and has it made if
// not. A call on one that does not could be lost on the way there.
func (n *node) reachable() bool {
	if n.conn.GetState() == connectivity.Ready {
		return true
	}
	n.conn.Connect()
	return false
}

// view returns the cluster as the node sees it.
func (n *node) view(ctx context.Context) (*fifev1.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := n.cluster.GetCluster(ctx, &fifev1.GetClusterRequest{})
	return resp.GetCluster(), err
}

// complaint returns why the node's log shows a bug, or nil.
func (n *node) complaint() error {
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		return nil // it never ran
	}
	for _, mark := range []string{"panic:", "WARNING: DATA RACE", "handler panicked"} {
		if i := bytes.Index(log, []byte(mark)); i >= 0 {
			return fmt.Errorf("%s: %s", n.name, log[i:min(len(log), i+2000)])
		}
	}
	return nil
}

// lastWords returns the end of the node's log, without what it says of each call.
func (n *node) lastWords() string {
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, `msg="finished call"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

func (n *node) close() error { return errors.Join(n.kill(), n.conn.Close()) }
