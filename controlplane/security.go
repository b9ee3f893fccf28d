package controlplane

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/signin"
	"github.com/fifegateway/fife/controlplane/store"
)

// Security says how a node proves who it is, and has others prove it. Its credential
// is in DataDir. A node that founds a cluster makes the cluster's root authority
// there, or takes one that is given.
type Security struct {
	CACert, CAKey string // PEM files of the root of a cluster that is founded; empty to make one
	JoinToken     string // for the first certificate of a node that joins

	// SignIn says whose word is taken for who people are; nil for nobody's. Its Logger
	// is the node's.
	SignIn *signin.Config
}

// What Security keeps in a data directory.
const (
	nodeFile  = "node.pem"  // the node's credential
	adminFile = "admin.pem" // the first user's, on the node that has founded the cluster
	caDir     = "ca"        // the root authority, on the same node until it is moved to a safe
	rootCert  = "root.crt"
	rootKey   = "root.key"
)

// How long certificates last that the root is asked for.
const (
	serverTTL = 365 * 24 * time.Hour
	adminTTL  = 90 * 24 * time.Hour
)

// AdminName is the name of the user whose credential a founded cluster begins with.
const AdminName = "admin"

// ErrNoCredential says that a node has nothing to prove by who it is.
var ErrNoCredential = errors.New("the data directory has no credential of the node")

// secrets is what a running node proves by who it is, and how it decides on others.
// A nil *secrets is that of a plaintext node.
type secrets struct {
	config Config
	holder *identity.Holder
	store  atomic.Pointer[store.Store] // nil until it is open; nobody is let in before
	key    atomic.Pointer[clusterKey]  // nil until the node has it
	keying sync.Mutex                  // held by who changes it, or needless
	// needless says since when nothing has needed a key, by its id.
	needless map[string]time.Time
	raft     raftConns

	believers *identity.Believers
	users     sightings
}

// secure returns the secrets of a node, and makes them first if it founds a cluster.
func (n *Node) secure(ctx context.Context, founds bool) (*secrets, error) {
	c := n.config
	if c.Security == nil {
		return nil, nil
	}
	path := filepath.Join(c.DataDir, nodeFile)
	holder, err := identity.OpenHolder(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch {
		case founds:
			if err := n.foundTrust(); err != nil {
				return nil, fmt.Errorf("found the cluster's authorities: %w", err)
			}
			holder, err = identity.OpenHolder(path)
		case c.Security.JoinToken != "":
			if err := n.joinTrust(ctx); err != nil {
				return nil, err
			}
			holder, err = identity.OpenHolder(path)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no %s; a new node needs a join token, one that has run without TLS goes on with plaintext", ErrNoCredential, path)
	case err != nil:
		return nil, err
	}
	if id := holder.Current().Identity; id.Class != identity.Server || id.Name != c.Name {
		return nil, fmt.Errorf("%s is the credential of %s, not of server/%s", path, id, c.Name)
	}
	s := &secrets{config: c, holder: holder, believers: identity.NewBelievers(holder)}
	return s, s.loadKey()
}

// foundTrust makes the root of a new cluster, and the credentials of this node and of
// its first user. The node's comes last: while it is missing all is made again.
func (n *Node) foundTrust() error {
	c := n.config
	root, cluster, err := n.newRoot()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, keyFile)); errors.Is(err, fs.ErrNotExist) {
		if err := saveKey(c.DataDir, identity.NewSealKey()); err != nil {
			return err
		}
	}
	for _, made := range []struct {
		file string
		id   identity.Identity
		ttl  time.Duration
	}{
		{adminFile, identity.Identity{Cluster: cluster, Class: identity.User, Name: AdminName}, adminTTL},
		{nodeFile, identity.Identity{Cluster: cluster, Class: identity.Server, Name: c.Name}, serverTTL},
	} {
		credential, err := issueByRoot(root, made.id, made.ttl)
		if err != nil {
			return err
		}
		if _, err := identity.CreateHolder(filepath.Join(c.DataDir, made.file), credential); err != nil {
			return err
		}
	}
	c.Logger.Info("cluster authority made: move the key of the root to a safe place",
		"cluster", cluster, "root_key", filepath.Join(c.DataDir, caDir, rootKey))
	c.Logger.Info("credential of the first user made: move it to where it is used", "user", AdminName,
		"file", filepath.Join(c.DataDir, adminFile))
	return nil
}

// newRoot returns the root of a new cluster and the cluster's name. What an earlier
// attempt has left is used.
func (n *Node) newRoot() (root identity.Authority, cluster string, err error) {
	c := n.config
	if root, err = c.root(); err != nil {
		if !errors.Is(err, fs.ErrNotExist) || c.Security.CACert != "" {
			return root, "", err
		}
		if root, err = identity.NewRoot(identity.NewClusterName()); err != nil {
			return root, "", err
		}
		dir := filepath.Join(c.DataDir, caDir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return root, "", fmt.Errorf("make directory of the root: %w", err)
		}
		certPEM, keyPEM, err := root.PEM()
		if err != nil {
			return root, "", err
		}
		if err := identity.WriteSecret(filepath.Join(dir, rootKey), keyPEM); err != nil {
			return root, "", err
		}
		if err := identity.WriteSecret(filepath.Join(dir, rootCert), certPEM); err != nil {
			return root, "", err
		}
	}
	if cluster = root.Cluster(); cluster == "" {
		cluster = identity.NewClusterName()
	}
	return root, cluster, nil
}

// root returns the root authority, where it is given or where it was made.
func (c Config) root() (identity.Authority, error) {
	if c.Security.CACert != "" {
		return readAuthority(c.Security.CACert, c.Security.CAKey)
	}
	dir := filepath.Join(c.DataDir, caDir)
	return readAuthority(filepath.Join(dir, rootCert), filepath.Join(dir, rootKey))
}

func readAuthority(cert, key string) (identity.Authority, error) {
	certPEM, err := os.ReadFile(cert)
	if err != nil {
		return identity.Authority{}, fmt.Errorf("read authority: %w", err)
	}
	keyPEM, err := os.ReadFile(key)
	if err != nil {
		return identity.Authority{}, fmt.Errorf("read authority: %w", err)
	}
	a, err := identity.ParseAuthority(certPEM, keyPEM)
	if err != nil {
		return a, fmt.Errorf("read authority %s and %s: %w", cert, key, err)
	}
	return a, nil
}

// issueByRoot makes a credential that needs nobody but the root: its intermediate is
// made for it alone, and the intermediate's key forgotten.
func issueByRoot(root identity.Authority, id identity.Identity, ttl time.Duration) (*identity.Credential, error) {
	intermediate, err := root.NewIntermediate(id.Cluster, id.Class)
	if err != nil {
		return nil, err
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := intermediate.Issue(key.Public(), id, ttl)
	if err != nil {
		return nil, err
	}
	return identity.NewCredential(key, []*x509.Certificate{cert, intermediate.Certificate}, []*x509.Certificate{root.Certificate})
}

// IssueByRoot makes a credential with the root authority, for when nobody else can be
// asked: name is CLASS/NAME. The cluster is that of the node in dataDir, whose own
// credential says it; cert and key are the root's files, by default those in dataDir.
func IssueByRoot(dataDir, cert, key, name string, ttl time.Duration) (*identity.Credential, error) {
	if cert == "" {
		cert, key = filepath.Join(dataDir, caDir, rootCert), filepath.Join(dataDir, caDir, rootKey)
	}
	root, err := readAuthority(cert, key)
	if err != nil {
		return nil, err
	}
	node, err := identity.OpenHolder(filepath.Join(dataDir, nodeFile))
	if err != nil {
		return nil, err
	}
	id, err := identity.Parse("spiffe://" + node.Current().Identity.Cluster + "/" + name)
	if err != nil {
		return nil, err
	}
	made, err := issueByRoot(root, id, ttl)
	if err != nil {
		return nil, err
	}
	if believed := node.Current().Trust; believed.Has(root.Certificate) {
		return made.WithRoots(believed.Roots) // of which there are two while the root is rotated
	}
	return made, nil
}

// callers returns what verifies the callers of the gRPC port, by certificates and by
// bearer tokens.
func (s *secrets) callers(bearers *api.Bearers) *api.Callers {
	if s == nil {
		return nil
	}
	return api.NewCallers(s.admits, bearers, s.config.Limits)
}

// bearers returns what knows bearer tokens; people may be nil.
func (s *secrets) bearers(people *signin.Verifier) *api.Bearers {
	if s == nil {
		return nil
	}
	b := &api.Bearers{Policy: s.policy, Cluster: func() string { return s.holder.Current().Identity.Cluster }}
	if people != nil {
		b.People = people
	}
	return b
}

// authorizer returns what decides on the calls of the gRPC port.
func (s *secrets) authorizer() *api.Authorizer {
	if s == nil {
		return nil
	}
	return api.NewAuthorizer(s.policy)
}

// policyPatience is how long a call waits for a node that knows of nothing yet.
const policyPatience = 10 * time.Second

// policy returns the state to decide by.
func (s *secrets) policy(ctx context.Context) (api.Policy, error) {
	if state := s.store.Load().State(); state.ClusterID() != "" {
		return state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	state, err := s.store.Load().Reach(ctx, store.Version{Epoch: 1})
	if err != nil {
		return nil, fmt.Errorf("%w: the node has learnt of nothing yet", store.ErrNotLeader)
	}
	return state, nil
}

// serverCredentials returns those of the gRPC port. Callers without a certificate
// get as far as api.Callers, which decides by what they call.
func (s *secrets) serverCredentials() credentials.TransportCredentials {
	plain := insecure.NewCredentials()
	if s != nil {
		plain = credentials.NewTLS(identity.ServerConfig(s.holder, true, s.admits))
	}
	return boundCredentials{plain, newHandshakes()}
}

// clientCredentials returns those of calls to other nodes.
func (s *secrets) clientCredentials() credentials.TransportCredentials {
	if s == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(identity.ClientConfig(s.holder))
}

// opened says that the store is open: until then nobody is let in, as nobody knows
// who may.
func (s *secrets) opened(st *store.Store) {
	if s != nil {
		s.store.Store(st)
	}
}

var errNotOpen = errors.New("this node is still starting")

// admits decides on a caller whose certificate was good when it connected: it must not
// have been revoked, nor its root dropped, since then.
func (s *secrets) admits(p identity.Peer) error {
	st := s.store.Load()
	if st == nil {
		return errNotOpen
	}
	at := st.State().RevokedAt(string(p.Class) + "/" + p.Name)
	if !at.IsZero() && !p.Issued.After(at) {
		return fmt.Errorf("%w: %s, at %s", errRevoked, p, at.UTC().Format(time.RFC3339))
	}
	root := s.believers.RootOf(p.Issuer)
	if root == nil {
		return fmt.Errorf("%w: that of %s", errDropped, p)
	}
	if p.Class == identity.User {
		s.users.see(p, root)
	}
	return nil
}

var (
	errRevoked  = errors.New("the certificate is revoked")
	errDropped  = errors.New("the certificate is by a root that is not trusted any more")
	errNoServer = errors.New("only servers replicate")
	errNoMember = errors.New("it is no member of the cluster")
)

// admitsToRaft decides on a caller of the raft port: it must be a server that is in
// the configuration. A node that is out of touch may have missed by whom it is led
// now, and takes any server that has not been revoked; so does one that is joining.
func (s *secrets) admitsToRaft(id identity.Peer) error {
	if id.Class != identity.Server {
		return fmt.Errorf("%w: %s does not", errNoServer, id)
	}
	if err := s.admits(id); err != nil {
		return err
	}
	st := s.store.Load()
	if st.Age() > outOfTouch {
		return nil
	}
	members, err := st.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID == id.Name {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", errNoMember, id)
}
