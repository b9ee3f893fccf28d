package api_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// openAPI returns a document with a GET of each path.
func openAPI(paths ...string) []byte {
	var b strings.Builder
	b.WriteString("openapi: 3.0.1\nservers: [{url: 'https://h'}]\npaths:\n")
	for _, p := range paths {
		fmt.Fprintf(&b, "  %s: {get: {}}\n", p)
	}
	return []byte(b.String())
}

// mocks returns a document of so many mocks with bodies of 1 KiB, which takes
// several entries of the log for a thousand.
func mocks(n int, name string) []byte {
	var b strings.Builder
	b.WriteString("openapi: 3.0.1\npaths:\n")
	for i := range n {
		fmt.Fprintf(&b, "  /%s/%d: {get: {x-amazon-apigateway-integration: {type: mock, responses: {default: {responseTemplates: {application/json: '%s'}}}}}}\n",
			name, i, strings.Repeat("x", 1024))
	}
	return []byte(b.String())
}

func (b *bench) draft(node string) (paths []string) {
	b.t.Helper()
	for token := ""; ; {
		resp := must(b.nodes[node].apis.ListRoutes(b.t.Context(), &fifev1.ListRoutesRequest{Parent: demo, PageSize: 1000, PageToken: token}))(b.t)
		for _, r := range resp.GetRoutes() {
			paths = append(paths, r.GetPath())
		}
		if token = resp.GetNextPageToken(); token == "" {
			return paths
		}
	}
}

func TestImportRoutes(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		c := b.nodes["n1"].apis
		doc := append(openAPI("/b", "/c/{id}"), "security: [{k: []}]\nx-amazon-apigateway-binary-media-types: [image/png]\n"...)
		resp := must(c.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{Parent: demo, Document: doc}))(t)
		if resp.GetAdded() != 1 || resp.GetRemoved() != 1 || resp.GetChanged() != 1 || resp.GetUnchanged() != 0 ||
			!slices.Equal(resp.GetRoutesAdded(), []string{"GET /c/{id}"}) || !slices.Equal(resp.GetRoutesRemoved(), []string{"GET /a"}) ||
			!slices.Equal(resp.GetRoutesChanged(), []string{"GET /b"}) || len(resp.GetWarnings()) != 1 ||
			!slices.Equal(resp.GetApi().GetBinaryMediaTypes(), []string{"image/png"}) {
			t.Errorf("got %v", resp)
		}
		if got := b.draft("n1"); !slices.Equal(got, []string{"/b", "/c/{id}"}) {
			t.Errorf("the draft is %v", got)
		}
		merged := must(c.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{
			Parent: demo, Document: openAPI("/d"), Mode: fifev1.ImportMode_IMPORT_MODE_MERGE, BasePath: fifev1.BasePathMode_BASE_PATH_MODE_PREPEND,
		}))(t)
		if got := b.draft("n1"); merged.GetAdded() != 1 || merged.GetRemoved() != 0 || !slices.Equal(got, []string{"/b", "/c/{id}", "/d"}) {
			t.Errorf("got %v, the draft is %v", merged, got)
		}

		exported := must(c.ExportRoutes(t.Context(), &fifev1.ExportRoutesRequest{Parent: demo}))(t)
		again := must(c.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{Parent: demo, Document: exported.GetDocument()}))(t)
		if again.GetUnchanged() != 3 || again.GetAdded()+again.GetRemoved()+again.GetChanged() != 0 {
			t.Errorf("the draft's own export changed it: %v", again)
		}
		deployed := must(c.ExportRoutes(t.Context(), &fifev1.ExportRoutesRequest{Parent: first}))(t)
		if text := string(deployed.GetDocument()); !strings.Contains(text, `"/a"`) || strings.Contains(text, `"/d"`) {
			t.Errorf("the deployment's export is %s", text)
		}

		made := must(c.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{
			Parent: "apis/shop", AllowMissing: true, Document: append(openAPI("/x"), "info: {title: The shop}\n"...),
		}))(t)
		if made.GetApi().GetDescription() != "The shop" || made.GetApi().GetRouteCount() != 1 {
			t.Errorf("got %v", made)
		}
	})
}

func TestImportRefusals(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		before := b.holdings()
		_, err := b.nodes["n1"].apis.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{
			Parent: "demo", Etag: "x", RequestId: "a b", Mode: 9, BasePath: 9, Document: openAPI("a", "/{x}b"),
		})
		want := []string{"base_path", "document", "document", "etag", "mode", "parent", "request_id"}
		if got := badFields(t, "all at once", err); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v: %v", got, want, err)
		}
		for _, c := range []refusedCall{
			{&fifev1.ImportRoutesRequest{Parent: "apis/none", Document: openAPI("/a")}, refusal{codes.NotFound, "RESOURCE_NOT_FOUND", nil}},
			{&fifev1.ImportRoutesRequest{Parent: demo, Document: openAPI("/a"), Etag: "999"}, refusal{codes.Aborted, "STALE_ETAG", nil}},
			{&fifev1.ImportRoutesRequest{Parent: demo}, refusal{codes.InvalidArgument, "INVALID_FIELD", nil}},
			{&fifev1.ExportRoutesRequest{Parent: "apis/none"}, refusal{codes.NotFound, "RESOURCE_NOT_FOUND", nil}},
			{&fifev1.ExportRoutesRequest{Parent: "apis/demo/deployments/9"}, refusal{codes.NotFound, "RESOURCE_NOT_FOUND", nil}},
			{&fifev1.ExportRoutesRequest{Parent: "demo"}, refusal{codes.InvalidArgument, "INVALID_FIELD", nil}},
		} {
			b.refuses(c)
		}
		if after := b.holdings(); after != before {
			t.Errorf("refused calls changed\n%s to\n%s", before, after)
		}
	})
}

// TestLargeImport: a document of 5 MB and 10,000 routes goes through a follower,
// and comes out again.
func TestLargeImport(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		c, ctx := b.nodes[b.follower()].apis, t.Context()
		paths := make([]string, 10_000)
		for i := range paths {
			paths[i] = fmt.Sprintf("/%s/%d/{id}", strings.Repeat("p", 450), i)
		}
		req := &fifev1.ImportRoutesRequest{Parent: demo, Document: openAPI(paths...)}
		if n := len(req.GetDocument()); n < 4_500_000 || n > 6<<20 {
			t.Fatalf("the document has %d bytes", n)
		}
		tried := must(c.ImportRoutes(ctx, validated(req).(*fifev1.ImportRoutesRequest)))(t)
		if got := b.draft("n1"); tried.GetAdded() != 10_000 || len(got) != 2 {
			t.Errorf("a try says %d were added and left %d", tried.GetAdded(), len(got))
		}
		done := must(c.ImportRoutes(ctx, req))(t)
		names := 0
		for _, name := range done.GetRoutesAdded() {
			names += len(name)
		}
		if done.GetAdded() != 10_000 || done.GetRemoved() != 2 || names == 0 || names > 8<<10 {
			t.Errorf("%d were added, %d removed, %d bytes of names", done.GetAdded(), done.GetRemoved(), names)
		}
		for name := range b.nodes {
			if got := b.draft(name); len(got) != 10_000 {
				t.Errorf("%s has %d routes", name, len(got))
			}
		}
		if n := len(must(c.ExportRoutes(ctx, &fifev1.ExportRoutesRequest{Parent: demo}, grpc.MaxCallRecvMsgSize(64<<20)))(t).GetDocument()); n < 5<<20 {
			t.Errorf("the export has %d bytes", n)
		}
	})
}

// TestImportsAtOnce: of imports into one API at the same time each is done whole or
// refused, and one at least is done.
func TestImportsAtOnce(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		var callers sync.WaitGroup
		results := make([]error, 6)
		for i := range results {
			callers.Go(func() {
				_, results[i] = b.nodes["n1"].apis.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{Parent: demo, Document: mocks(2000, string(rune('a'+i)))})
			})
		}
		callers.Wait()
		done, refused := map[string]bool{}, 0
		for i, err := range results {
			if err == nil {
				done[string(rune('a'+i))] = true
				continue
			}
			refused++
			wantRefusal(t, "an import beside others", err, refusal{codes.Aborted, "IMPORT_SUPERSEDED", meta("resource", demo)})
		}
		draft := b.draft("n1")
		if len(draft) != 2000 || !done[draft[0][1:2]] || draft[0][:3] != draft[1999][:3] {
			t.Errorf("%v were done, %d refused; the draft has %d routes from %s to %s", done, refused, len(draft), draft[0], draft[len(draft)-1])
		}
	})
}

// TestImportAcrossLeaders: when the leader is lost in the middle of an import, the
// node that took the call does it again at the next one, and nobody ever sees a
// part of it.
func TestImportAcrossLeaders(t *testing.T) {
	for _, entries := range []uint64{0, 1, 3, 6} {
		t.Run(fmt.Sprintf("after %d entries", entries), func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, b *bench) {
				b.stock()
				leader, follower := b.leader("n1"), b.follower()
				start := b.see(leader).GetApplied().GetIndex()
				done := make(chan error, 1)
				go func() {
					_, err := b.nodes[follower].apis.ImportRoutes(t.Context(), &fifev1.ImportRoutesRequest{Parent: demo, Document: mocks(3000, "a")})
					done <- err
				}()
				for b.see(leader).GetApplied().GetIndex() < start+entries && len(done) == 0 {
				} // the bubble's clock stands still meanwhile
				t.Logf("at entry %d, done %v", b.see(leader).GetApplied().GetIndex()-start, len(done) > 0)
				b.Isolate(leader)
				var err error
				for open := true; open; {
					select {
					case err = <-done:
						open = false
					case <-time.After(50 * time.Millisecond):
						resp, err := b.nodes[follower].apis.GetApi(t.Context(), &fifev1.GetApiRequest{Name: demo, Consistency: fifev1.ReadConsistency_READ_CONSISTENCY_STALE})
						if n := resp.GetApi().GetRouteCount(); err != nil || n != 2 && n != 3000 {
							t.Errorf("a reader sees %d routes, %v", n, err)
						}
					}
				}
				if err != nil {
					t.Fatalf("%v: %v", status.Code(err), err)
				}
				b.Heal(leader)
				<-time.After(5 * time.Second)
				for name := range b.nodes {
					if got := b.draft(name); len(got) != 3000 {
						t.Errorf("%s has %d routes", name, len(got))
					}
				}
			})
		})
	}
}
