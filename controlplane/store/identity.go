package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Errors of a data directory.
var (
	// ErrLocked says that another process uses the data directory.
	ErrLocked = errors.New("another process uses the data directory")
	// ErrOtherNode says that the data directory belongs to a node of another name.
	ErrOtherNode = errors.New("the data directory belongs to another node")
	// ErrNewDisk says that a data directory has no past where one is needed.
	ErrNewDisk = errors.New("the data directory has no past")
)

// identity is whose past a storage holds. It lives on the disk that holds the
// vote: a node that came back with an empty disk under its old name would have
// forgotten whom it voted for, and might vote twice.
type identity struct {
	NodeID    string `json:"node_id"`
	ClusterID string `json:"cluster_id,omitempty"` // empty until the node has founded or joined one
}

// identityFile keeps an identity; an empty path keeps it in memory. It is safe
// for concurrent use.
type identityFile struct {
	path string

	mu  sync.Mutex
	now identity
}

func identityPath(dir string) string { return filepath.Join(dir, "identity.json") }

func openIdentity(dir string) (*identityFile, error) {
	f := &identityFile{path: identityPath(dir)}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if err := json.Unmarshal(data, &f.now); err != nil {
		return nil, fmt.Errorf("read identity %s: %w", f.path, err)
	}
	return f, nil
}

func (f *identityFile) get() identity {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// claim makes the storage a node's, or refuses it if it is another's.
func (f *identityFile) claim(nodeID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.now.NodeID {
	case nodeID:
		return nil
	case "":
		return f.save(identity{NodeID: nodeID, ClusterID: f.now.ClusterID})
	}
	return fmt.Errorf("%w: it is %s's, not %s's", ErrOtherNode, f.now.NodeID, nodeID)
}

// found gives the storage the identity of a new cluster, unless it has one.
func (f *identityFile) found() error {
	if f.get().ClusterID != "" {
		return nil
	}
	return f.learn(rand.Text())
}

// learn records the cluster that the node belongs to.
func (f *identityFile) learn(clusterID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now.ClusterID == clusterID {
		return nil
	}
	return f.save(identity{NodeID: f.now.NodeID, ClusterID: clusterID})
}

// save writes the file as a whole: a power cut leaves the old or the new one.
func (f *identityFile) save(next identity) error {
	if f.path != "" {
		data, err := json.Marshal(next)
		if err != nil {
			return err
		}
		if err := replaceFile(f.path, append(data, '\n')); err != nil {
			return fmt.Errorf("write identity: %w", err)
		}
	}
	f.now = next
	return nil
}

func replaceFile(path string, data []byte) error {
	file, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// lockDir keeps other processes from using a directory until the returned
// function is called or the process ends.
func lockDir(dir string) (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close() // it holds nothing
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return file.Close, nil
}
