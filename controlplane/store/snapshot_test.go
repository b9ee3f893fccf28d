package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// TestSnapshotRoundTrip: written, read and written again, any state that commands
// lead to gives the same bytes.
func TestSnapshotRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newReplica()
		for range rapid.IntRange(0, 80).Draw(rt, "commands") {
			r.apply(t, drawCommand(rt))
		}
		checkState(t, r.state())
	})
}

// exampleState is the state of the fixtures, which holds every kind of record.
func exampleState(t testing.TB) *State {
	r := newReplica()
	for _, cmd := range fixtureCommands(t) {
		r.apply(t, cmd)
	}
	return r.state()
}

// bigState has a deployment whose routes do not fit one record.
func bigState(t testing.TB) *State {
	s := newState()
	tx := tx{next: s, index: 1}
	draft := make([]*release.Route, 40)
	for i := range draft {
		draft[i] = &release.Route{Method: "GET", Path: fmt.Sprintf("/%02d", i), Integration: release.Mock{
			Status: 200, Body: strings.Repeat("b", 60_000),
		}}
	}
	a := &release.API{ID: "big", LastDeployment: 1}
	d, err := release.Freeze(a, draft, "", clockStart, 1)
	if err != nil {
		t.Fatal(err)
	}
	tx.setAPI(a)
	s.deployments, _, _ = s.deployments.Insert(deploymentKey("big", 2), d)
	return s
}

func TestSnapshotOfLargeDeployment(t *testing.T) {
	s := bigState(t)
	data := snapshotBytes(t, s)
	pieces := 0
	for _, r := range records(t, data) {
		if r.GetDeploymentRoutes() != nil {
			pieces++
		}
		if size := proto.Size(r); size > 400<<10 {
			t.Errorf("a record has %d bytes", size)
		}
	}
	if pieces < 5 {
		t.Errorf("2.4 MB of routes went into %d records", pieces)
	}
	again, err := readSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if stateText(again) != stateText(s) {
		t.Errorf("got\n%.2000s", stateText(again))
	}
}

// records takes a snapshot apart.
func records(t testing.TB, data []byte) []*storev1.SnapshotRecord {
	t.Helper()
	var out []*storev1.SnapshotRecord
	for in := bytes.NewReader(data); in.Len() > 0; {
		var r storev1.SnapshotRecord
		if err := protodelim.UnmarshalFrom(in, &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, &r)
	}
	return out
}

// join puts records together as they are, seal with a trailer that is right for
// them.
func join(t testing.TB, records []*storev1.SnapshotRecord) []byte {
	t.Helper()
	var b bytes.Buffer
	options := protodelim.MarshalOptions{MarshalOptions: proto.MarshalOptions{Deterministic: true}}
	for _, r := range records {
		if _, err := options.MarshalTo(&b, r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func seal(t testing.TB, records []*storev1.SnapshotRecord) []byte {
	t.Helper()
	return join(t, append(slices.Clone(records), &storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Trailer{
		Trailer: &storev1.SnapshotTrailer{Records: uint64(len(records)), Checksum: xxhash.Sum64(join(t, records))},
	}}))
}

// refuser is a node with a present state, which no bad snapshot may touch.
type refuser struct {
	t   *testing.T
	fsm *fsm
}

func newRefuser(t *testing.T) refuser {
	r := newReplica()
	r.apply(t, createAPI("present"))
	return refuser{t, r.fsm}
}

func (r refuser) refuses(what string, data []byte) {
	r.t.Helper()
	before := r.fsm.state.Load()
	err := r.fsm.Restore(io.NopCloser(bytes.NewReader(data)))
	if !errors.Is(err, ErrBadSnapshot) {
		r.t.Errorf("%s: got %v, want ErrBadSnapshot", what, err)
	}
	if errors.Is(err, io.EOF) {
		r.t.Errorf("%s: %v reads as an orderly end", what, err)
	}
	if r.fsm.state.Load() != before || isClosed(before.Changed()) {
		r.t.Fatalf("%s: the present state was swapped", what)
	}
}

// sampled returns the positions of n bytes, or so many of them, evenly spread.
func sampled(n, most int) []int {
	var out []int
	for i := 0; i < n; i += 1 + n/most {
		out = append(out, i)
	}
	return append(out, n-1)
}

func TestTruncatedSnapshots(t *testing.T) {
	r := newRefuser(t)
	for _, s := range []*State{newState(), exampleState(t), bigState(t)} {
		data := snapshotBytes(t, s)
		most := 10_000
		if len(data) > 1<<20 {
			most = 50
		}
		for _, i := range sampled(len(data), most) {
			r.refuses(fmt.Sprintf("%d of %d bytes", i, len(data)), data[:i])
		}
	}
}

func TestDamagedSnapshots(t *testing.T) {
	r := newRefuser(t)
	for _, s := range []*State{newState(), exampleState(t)} {
		data := snapshotBytes(t, s)
		for _, i := range sampled(len(data), 2000) {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				damaged := slices.Clone(data)
				damaged[i] ^= flip
				r.refuses(fmt.Sprintf("byte %d ^ %#x", i, flip), damaged)
			}
		}
	}
}

func TestTrailingGarbage(t *testing.T) {
	r := newRefuser(t)
	data := snapshotBytes(t, exampleState(t))
	r.refuses("a zero", append(slices.Clone(data), 0))
	r.refuses("text", append(slices.Clone(data), "garbage"...))
	r.refuses("the whole once more", append(slices.Clone(data), data...))
}

// TestMisshapenSnapshots: what is sealed but not in shape was written by no build
// that this one knows.
func TestMisshapenSnapshots(t *testing.T) {
	header := func(schema uint32) *storev1.SnapshotRecord {
		return &storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Header{Header: &storev1.SnapshotHeader{Schema: schema}}}
	}
	node := &storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Node{Node: &storev1.Node{Id: "n"}}}
	route := &storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_Route{Route: &storev1.Route{Path: "/"}}}
	frozen := &storev1.SnapshotRecord{Record: &storev1.SnapshotRecord_DeploymentRoutes{
		DeploymentRoutes: &storev1.DeploymentRoutes{Routes: []*storev1.Route{{Path: "/"}}},
	}}
	later := &storev1.SnapshotRecord{}
	later.ProtoReflect().SetUnknown([]byte{0x9a, 0x06, 0x00}) // field 99
	type list = []*storev1.SnapshotRecord
	for what, tt := range map[string]struct {
		records list
		want    string
	}{
		"no record":         {nil, "the header must be the first record"},
		"no header":         {list{node}, "the header must be the first record"},
		"two headers":       {list{header(1), header(1)}, "the header must be the first record and the only one"},
		"no schema":         {list{header(0)}, "schema 0, this build reads 1"},
		"later schema":      {list{header(2)}, "schema 2, this build reads 1"},
		"later record":      {list{header(1), later}, "unknown record"},
		"route without API": {list{header(1), route}, "a route before any API"},
		"routes of nothing": {list{header(1), frozen}, "routes before any deployment"},
	} {
		t.Run(what, func(t *testing.T) {
			data := seal(t, tt.records)
			newRefuser(t).refuses(what, data)
			if _, err := readSnapshot(bytes.NewReader(data)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestTrailerCounts: records that are lost, doubled or in another order are
// noticed even where each of them is whole.
func TestTrailerCounts(t *testing.T) {
	whole := records(t, snapshotBytes(t, exampleState(t)))
	if _, err := readSnapshot(bytes.NewReader(join(t, whole))); err != nil {
		t.Fatalf("taken apart and put together: %v", err)
	}
	r := newRefuser(t)
	last := len(whole) - 1
	for i := 1; i < last; i++ {
		r.refuses(fmt.Sprint("without record ", i), join(t, slices.Delete(slices.Clone(whole), i, i+1)))
		r.refuses(fmt.Sprint("twice record ", i), join(t, slices.Insert(slices.Clone(whole), i, whole[i])))
		if i+1 < last {
			swapped := slices.Clone(whole)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			r.refuses(fmt.Sprint("swapped record ", i), join(t, swapped))
		}
	}
}

// closer is a snapshot whose end of reading fails.
type closer struct {
	io.Reader
	err    error
	closed bool
}

func (c *closer) Close() error {
	c.closed = true
	return c.err
}

func TestRestoreCloses(t *testing.T) {
	good := snapshotBytes(t, exampleState(t))
	for what, tt := range map[string]struct {
		data []byte
		err  error
		ok   bool
	}{
		"good": {good, nil, true}, "bad": {good[:9], nil, false}, "close fails": {good, errors.New("disk gone"), false},
	} {
		f := newFSM()
		before := f.state.Load()
		in := &closer{Reader: bytes.NewReader(tt.data), err: tt.err}
		if err := f.Restore(in); (err == nil) != tt.ok || !in.closed {
			t.Errorf("%s: got %v, closed %v", what, err, in.closed)
		}
		if swapped := f.state.Load() != before; swapped != tt.ok || isClosed(before.Changed()) != tt.ok {
			t.Errorf("%s: swapped %v", what, swapped)
		}
	}
}

// sink takes a snapshot, up to so many bytes.
type sink struct {
	bytes.Buffer
	room             int
	closed, canceled bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.Len()+len(p) > s.room {
		return 0, errors.New("disk full")
	}
	return s.Buffer.Write(p)
}

func (s *sink) ID() string    { return "sink" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.canceled = true; return nil }

// TestPersist: a snapshot is written of the state as it was when it was asked
// for, or not at all.
func TestPersist(t *testing.T) {
	r := newReplica()
	r.apply(t, createAPI("a"))
	want := snapshotBytes(t, r.state())
	snap, err := r.fsm.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	r.apply(t, createAPI("b"))
	whole := &sink{room: 1 << 20}
	if err := snap.Persist(whole); err != nil || !whole.closed || whole.canceled || !bytes.Equal(whole.Bytes(), want) {
		t.Errorf("got %v, %+v", err, whole)
	}
	full := &sink{room: 10}
	if err := snap.Persist(full); err == nil || !strings.Contains(err.Error(), "disk full") || full.closed || !full.canceled {
		t.Errorf("got %v, %+v", err, full)
	}
}
