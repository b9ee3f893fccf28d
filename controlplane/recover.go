package controlplane

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/store"
)

// Recover makes the node of a configuration the only member of its cluster, when
// the majority of the others is lost for good. It works on DataDir alone and
// refuses to while a node runs on it. Name and the addresses of c are used; the
// returned version is what agents will be given once the node runs again.
//
// What only the lost nodes had acknowledged is gone. The cluster is a new one, to
// which their old disks do not belong.
func Recover(c Config) (version store.Version, err error) {
	node, err := New(c)
	if err != nil {
		return store.Version{}, err
	}
	c = node.config
	storage, err := store.OpenUsedDisk(c.DataDir, c.Logger)
	if err != nil {
		return store.Version{}, err
	}
	defer func() {
		if e := storage.Close(); e != nil {
			err = errors.Join(err, fmt.Errorf("close storage: %w", e))
		}
	}()
	_, transport := raft.NewInmemTransport(raft.ServerAddress(c.RaftAdvertise)) // it only lends its address
	return store.Recover(store.RecoverConfig{
		NodeID: c.Name, GRPCAddress: c.GRPCAdvertise, Transport: transport, Storage: storage, Logger: c.Logger,
	})
}
