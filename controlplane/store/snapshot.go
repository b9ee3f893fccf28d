package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// snapshotSchema is the version of the snapshot's format. A reader refuses any
// other that it does not know.
const snapshotSchema = 1

const (
	routesPerRecord = 256 << 10 // bytes of routes after which a record is closed
	maxRecord       = 64 << 20  // bytes of one record that a reader accepts
)

// ErrBadSnapshot says that a snapshot cannot be used: it is damaged, cut short
// or written by a build with another format.
var ErrBadSnapshot = errors.New("bad snapshot")

// snapshot is a state on its way to disk. Holding it costs nothing, as states
// are immutable.
type snapshot struct{ state *State }

var _ raft.FSMSnapshot = snapshot{}

// Persist writes the state; Raft calls it beside Apply.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := writeSnapshot(sink, s.state); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release does nothing: the garbage collector keeps count.
func (snapshot) Release() {}

// snapshotWriter writes length-delimited records and sums what it writes.
type snapshotWriter struct {
	out     *bufio.Writer
	sum     *xxhash.Digest
	records uint64
	err     error
}

func (w *snapshotWriter) write(r *storev1.SnapshotRecord) {
	if w.err != nil {
		return
	}
	w.records++
	_, w.err = protodelim.MarshalOptions{MarshalOptions: proto.MarshalOptions{Deterministic: true}}.
		MarshalTo(io.MultiWriter(w.out, w.sum), r)
}

// writeSnapshot writes a whole state in a fixed order.
func writeSnapshot(out io.Writer, s *State) error {
	w := &snapshotWriter{out: bufio.NewWriterSize(out, 64<<10), sum: xxhash.New()}
	w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Header{Header: &storev1.SnapshotHeader{
		Schema: snapshotSchema, ClusterId: s.clusterID, Epoch: s.epoch, Index: s.index,
		Routing: s.routing, ChangeFloor: s.changes.floor,
		RenewalFloor: s.renewalFloor, EntryFloor: s.entryFloor, Departed: slices.Collect(s.Departed()),
		Audit: encodeAuditLimits(s.auditLimits), AuditChains: encodeAuditChains(s),
	}}})
	for n := range s.Nodes() {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Node{Node: encodeNode(n)}})
	}
	for a := range s.APIs("") {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Api{Api: EncodeAPI(a)}})
		for r := range s.Routes(a.ID, "", "") {
			w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Route{Route: EncodeRoute(r)}})
		}
		for d := range s.Deployments(a.ID, 0) {
			w.deployment(d)
		}
		for stage := range s.Stages(a.ID, "") {
			w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Stage{Stage: encodeStage(stage)}})
		}
	}
	for a := range s.Agents() {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Agent{Agent: encodeAgent(a)}})
	}
	for i := range walk(s.staged, nil) {
		for _, part := range i.parts {
			w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_StagedRoutes{StagedRoutes: encodeStaged(i, part)}})
		}
	}
	if s.trust != nil {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Trust{Trust: s.trust}})
	}
	for token := range s.JoinTokens("") {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_JoinToken{JoinToken: token}})
	}
	for e := range s.Enrolments() {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Enrolment{Enrolment: e}})
	}
	for b := range s.Bindings(access.Binding{}) {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Binding{Binding: EncodeBinding(b)}})
	}
	for t := range s.UserTokens("") {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_UserToken{UserToken: EncodeUserToken(t)}})
	}
	for c := range s.UserCertificates("") {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_UserCertificate{UserCertificate: c}})
	}
	for k := range s.AccessKeys("") {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_AccessKey{AccessKey: EncodeAccessKey(k)}})
	}
	for id := range s.outcomes.byIndex.from(0) {
		r, _ := s.outcomes.byID.Get([]byte(id))
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Outcome{Outcome: encodeRemembered(r)}})
	}
	for c := range s.changes.entries.from(0) {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Change{
			Change: &storev1.Change{Index: c.index, Names: c.names},
		}})
	}
	for c := range auditChains {
		for r := range s.auditLogs[c].records.from(0) {
			w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Audit{
				Audit: &storev1.AuditRecord{Chain: uint32(c), Entry: r.entry, Hash: r.hash[:]},
			}})
		}
	}
	w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Trailer{
		Trailer: &storev1.SnapshotTrailer{Records: w.records, Checksum: w.sum.Sum64()},
	}})
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}

func (w *snapshotWriter) deployment(d *release.Deployment) {
	w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Deployment{Deployment: encodeDeployment(d)}})
	batch, size := &storev1.DeploymentRoutes{}, 0
	flush := func() {
		w.write(&storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_DeploymentRoutes{DeploymentRoutes: batch}})
		batch, size = &storev1.DeploymentRoutes{}, 0
	}
	for _, r := range d.Routes {
		p := EncodeRoute(r)
		batch.Routes = append(batch.Routes, p)
		if size += proto.Size(p); size > routesPerRecord {
			flush()
		}
	}
	if size > 0 {
		flush()
	}
}

// readSnapshot returns the state in a snapshot, or an error that wraps
// ErrBadSnapshot.
func readSnapshot(in io.Reader) (*State, error) {
	r := &snapshotReader{tx: tx{next: newState()}}
	src := &summingReader{in: bufio.NewReaderSize(in, 64<<10), sum: xxhash.New()}
	for {
		before := src.sum.Sum64()
		var record storev1.SnapshotRecord
		if err := (protodelim.UnmarshalOptions{MaxSize: maxRecord}).UnmarshalFrom(src, &record); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrBadSnapshot, r.records, noEOF(err))
		}
		if t := record.GetTrailer(); t != nil {
			if r.records == 0 {
				return nil, fmt.Errorf("%w: %w", ErrBadSnapshot, errNoHeader)
			}
			if _, err := src.ReadByte(); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: it goes on after its trailer", ErrBadSnapshot)
			}
			if t.GetRecords() != r.records || t.GetChecksum() != before {
				return nil, fmt.Errorf("%w: %d records with checksum %016x, the trailer says %d with %016x",
					ErrBadSnapshot, r.records, before, t.GetRecords(), t.GetChecksum())
			}
			return r.tx.next, nil
		}
		if err := r.read(&record); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrBadSnapshot, r.records, err)
		}
		r.records++
	}
}

var errNoHeader = errors.New("the header must be the first record and the only one")

// noEOF says what an end of input means before the trailer.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

type summingReader struct {
	in  *bufio.Reader
	sum *xxhash.Digest
}

func (r *summingReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	_, _ = r.sum.Write(p[:n]) // a hash never fails
	return n, err
}

func (r *summingReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		_, _ = r.sum.Write([]byte{b})
	}
	return b, err
}

// snapshotReader builds a state from records. Routes belong to the API or
// deployment read before them.
type snapshotReader struct {
	tx         tx
	records    uint64
	api        *release.API
	deployment *release.Deployment
}

func (r *snapshotReader) read(record *storev1.SnapshotRecord) error {
	s := r.tx.next
	header := record.GetHeader()
	if (r.records == 0) != (header != nil) {
		return errNoHeader
	}
	switch p := record.GetRecord().(type) {
	case *storev1.SnapshotRecord_Header:
		if header.GetSchema() != snapshotSchema {
			return fmt.Errorf("schema %d, this build reads %d", header.GetSchema(), snapshotSchema)
		}
		s.clusterID, s.epoch = header.GetClusterId(), header.GetEpoch()
		s.index, s.routing = header.GetIndex(), header.GetRouting()
		s.changes.floor = header.GetChangeFloor()
		s.renewalFloor, s.entryFloor = header.GetRenewalFloor(), header.GetEntryFloor()
		for _, id := range header.GetDeparted() {
			s.departed, _, _ = s.departed.Insert([]byte(id), id)
		}
		s.auditLimits = decodeAuditLimits(header.GetAudit())
		return decodeAuditChains(s, header.GetAuditChains())
	case *storev1.SnapshotRecord_Node:
		n := decodeNode(p.Node)
		s.nodes, _, _ = s.nodes.Insert([]byte(n.ID), n)
	case *storev1.SnapshotRecord_Api:
		r.api = decodeAPI(p.Api)
		r.tx.setAPI(r.api)
		for _, h := range r.api.Hosts {
			s.hosts, _, _ = s.hosts.Insert([]byte(h), r.api.ID)
		}
	case *storev1.SnapshotRecord_Route:
		if r.api == nil {
			return errors.New("a route before any API")
		}
		route := decodeRoute(p.Route)
		s.routes, _, _ = s.routes.Insert(routeKey(r.api.ID, route.Method, route.Path), route)
	case *storev1.SnapshotRecord_Deployment:
		r.deployment = decodeDeployment(p.Deployment)
		s.deployments, _, _ = s.deployments.Insert(deploymentKey(r.deployment.API, r.deployment.Number), r.deployment)
	case *storev1.SnapshotRecord_DeploymentRoutes:
		if r.deployment == nil {
			return errors.New("routes before any deployment")
		}
		for _, route := range p.DeploymentRoutes.GetRoutes() {
			r.deployment.Routes = append(r.deployment.Routes, decodeRoute(route))
		}
	case *storev1.SnapshotRecord_Stage:
		stage := decodeStage(p.Stage)
		s.stages, _, _ = s.stages.Insert(key(stage.API, stage.ID), stage)
		r.tx.setPromoting(stage)
		for _, d := range stage.Live() {
			r.tx.countLive(stage.API, d, 1)
		}
	case *storev1.SnapshotRecord_Agent:
		a := decodeAgent(p.Agent)
		s.agents, _, _ = s.agents.Insert([]byte(a.ID), a)
	case *storev1.SnapshotRecord_StagedRoutes:
		part := p.StagedRoutes
		r.tx.keepRoutes(part.GetApi(), part.GetImport(), decodeTime(part.GetTime()), part.GetRoutes())
	case *storev1.SnapshotRecord_Trust:
		s.trust = p.Trust
	case *storev1.SnapshotRecord_JoinToken:
		s.joinTokens, _, _ = s.joinTokens.Insert([]byte(p.JoinToken.GetId()), p.JoinToken)
	case *storev1.SnapshotRecord_Enrolment:
		s.enrolments, _, _ = s.enrolments.Insert([]byte(p.Enrolment.GetName()), p.Enrolment)
	case *storev1.SnapshotRecord_Binding:
		b := decodeBinding(p.Binding)
		s.bindings, _, _ = s.bindings.Insert(bindingKey(b), b)
	case *storev1.SnapshotRecord_UserToken:
		t := decodeUserToken(p.UserToken)
		s.tokens, _, _ = s.tokens.Insert([]byte(t.ID), t)
	case *storev1.SnapshotRecord_UserCertificate:
		s.certificates, _, _ = s.certificates.Insert([]byte(p.UserCertificate.GetId()), p.UserCertificate)
	case *storev1.SnapshotRecord_AccessKey:
		k := decodeAccessKey(p.AccessKey)
		s.accessKeys, _, _ = s.accessKeys.Insert([]byte(k.ID), k)
	case *storev1.SnapshotRecord_Outcome:
		o := decodeRemembered(p.Outcome)
		s.outcomes.byID, _, _ = s.outcomes.byID.Insert([]byte(o.id), o)
		s.outcomes.byIndex = s.outcomes.byIndex.push(o.id)
	case *storev1.SnapshotRecord_Change:
		c := change{index: p.Change.GetIndex(), names: p.Change.GetNames()}
		s.changes.entries = s.changes.entries.push(c)
	case *storev1.SnapshotRecord_Audit:
		return s.readAuditRecord(p.Audit)
	default:
		return fmt.Errorf("unknown record %T", p)
	}
	return nil
}
