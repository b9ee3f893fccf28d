//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
	process
	dir string // of its log and snapshots

	conn        *grpc.ClientConn
	apis        fifev1.ApiServiceClient
	deployments fifev1.DeploymentServiceClient
	stages      fifev1.StageServiceClient
	cluster     fifev1.ClusterServiceClient
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
		process:     process{name: name, ip: ip, logFile: filepath.Join(dir, name+".log"), prefix: prefix},
		dir:         filepath.Join(dir, name),
		conn:        conn,
		apis:        fifev1.NewApiServiceClient(conn),
		deployments: fifev1.NewDeploymentServiceClient(conn),
		stages:      fifev1.NewStageServiceClient(conn),
		cluster:     fifev1.NewClusterServiceClient(conn),
	}, nil
}

// start runs the node's process; args say how a new node begins.
func (n *node) start(args ...string) error {
	line := []string{
		"--name", n.name, "--data-dir", n.dir, "--log-level", "warn", "--plaintext",
		"--grpc-listen", n.ip + ":" + grpcPort, "--raft-listen", n.ip + ":" + raftPort, "--admin-listen", n.ip + ":" + adminPort,
	}
	return n.run(*binary, append(line, args...)...)
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

func (n *node) close() error { return errors.Join(n.kill(), n.conn.Close()) }
