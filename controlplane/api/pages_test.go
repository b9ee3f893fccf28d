package api_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// listing is a list of the stock that fillLists makes.
type listing struct {
	req  proto.Message
	want []string // what identifies its elements, in order
}

// fillLists makes several of everything that can be listed.
func (b *bench) fillLists() []listing {
	b.t.Helper()
	b.stock()
	for _, id := range []string{"a", "a-b", "ab", "zoo"} {
		b.takes(&fifev1.CreateApiRequest{ApiId: id})
	}
	for _, r := range []string{"PUT /a", "ANY /a/{x}/y", "GET /a/{x}", "GET /"} {
		var method, path string
		_, _ = fmt.Sscan(r, &method, &path)
		b.takes(&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute(method, path, 200)})
	}
	for range 11 {
		b.takes(&fifev1.CreateDeploymentRequest{Parent: demo})
	}
	for _, id := range []string{"a", "Z", "prod-2"} {
		b.takes(&fifev1.CreateStageRequest{Parent: demo, StageId: id, Stage: &fifev1.Stage{Deployment: first}})
	}
	b.takes(
		&fifev1.PutRouteRequest{Parent: "apis/ab", Route: mockRoute("GET", "/", 200)},
		&fifev1.CreateDeploymentRequest{Parent: "apis/ab", StageId: "alone"},
		&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}},
		&fifev1.AbortCanaryRequest{Name: prod},
		&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod}, UpdateMask: mask("description")},
	)
	var deployments []string
	for n := range 12 {
		deployments = append(deployments, fmt.Sprintf("apis/demo/deployments/%d", n+1))
	}
	stages := []string{"apis/demo/stages/Z", "apis/demo/stages/a", prod, "apis/demo/stages/prod-2"}
	return []listing{
		{&fifev1.ListApisRequest{}, []string{"apis/a", "apis/a-b", "apis/ab", demo, "apis/zoo"}},
		{&fifev1.ListRoutesRequest{Parent: demo}, []string{"GET /", "GET /a", "PUT /a", "GET /a/{x}", "ANY /a/{x}/y", "GET /b"}},
		{&fifev1.ListDeploymentsRequest{Parent: demo}, deployments},
		{&fifev1.ListDeploymentRoutesRequest{Parent: "apis/demo/deployments/2"}, []string{
			"GET /", "GET /a", "PUT /a", "GET /a/{x}", "ANY /a/{x}/y", "GET /b",
		}},
		{&fifev1.ListStagesRequest{Parent: demo}, stages},
		{&fifev1.ListStagesRequest{Parent: "apis/-"}, append([]string{"apis/ab/stages/alone"}, stages...)},
		{&fifev1.ListStageRevisionsRequest{Parent: prod}, []string{"4", "3", "2", "1"}},
		{&fifev1.ListMembersRequest{}, []string{"members/n1"}},
		{&fifev1.ListAgentsRequest{}, nil},
		{&fifev1.ListAuditEntriesRequest{Resource: "apis/ab"}, []string{
			"CreateApi apis/ab", "PutRoute apis/ab/routes/GET /", "CreateDeployment apis/ab/deployments/1",
		}},
	}
}

// page asks for one page and returns what identifies its elements.
func (b *bench) page(req proto.Message, size int32, token string) (ids []string, next string, err error) {
	b.t.Helper()
	req = proto.Clone(req)
	m := req.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByName("page_size"), protoreflect.ValueOfInt32(size))
	m.Set(m.Descriptor().Fields().ByName("page_token"), protoreflect.ValueOfString(token))
	resp, err := b.ask(b.t.Context(), "n1", req)
	if err != nil {
		return nil, "", err
	}
	fields := resp.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !f.IsList() || f.Kind() != protoreflect.MessageKind {
			continue
		}
		list := resp.ProtoReflect().Get(f).List()
		for j := range list.Len() {
			switch e := list.Get(j).Message().Interface().(type) {
			case *fifev1.Route:
				ids = append(ids, e.GetMethod()+" "+e.GetPath())
			case *fifev1.StageRevision:
				ids = append(ids, fmt.Sprint(e.GetRevision()))
			case *fifev1.AuditEntry:
				ids = append(ids, e.GetMethod()+" "+e.GetResource())
			case interface{ GetName() string }:
				ids = append(ids, e.GetName())
			default:
				b.t.Fatalf("cannot tell one %T from another", e)
			}
		}
	}
	return ids, resp.(interface{ GetNextPageToken() string }).GetNextPageToken(), nil
}

// TestPages: read page by page, of any size, a list is whole, in order and
// without repetition.
func TestPages(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		lists := b.fillLists()
		for name, m := range methods() {
			if isList(m) && !slices.ContainsFunc(lists, func(l listing) bool { return l.req.ProtoReflect().Descriptor().FullName() == name }) {
				t.Errorf("%s is not listed here", m.Name())
			}
		}
		for _, l := range lists {
			for _, size := range []int32{1, 2, 3, 1000, 100_000, 0} {
				var all []string
				token := ""
				for n := 0; n == 0 || token != ""; n++ {
					ids, next, err := b.page(l.req, size, token)
					if err != nil || n > 20 || (size > 0 && len(ids) > int(size)) || (next != "" && len(ids) != int(size)) {
						t.Fatalf("%T: page %d of %d: %v, next %q, %v", l.req, n, size, ids, next, err)
					}
					all, token = append(all, ids...), next
				}
				if !slices.Equal(all, l.want) {
					t.Errorf("%T: in pages of %d: %v, want %v", l.req, size, all, l.want)
				}
			}
			_, _, err := b.page(l.req, -1, "")
			if got := badFields(t, "page size", err); !slices.Equal(got, []string{"page_size"}) {
				t.Errorf("%T: a size of -1: found fault with %v", l.req, got)
			}
		}
	})
}

// TestForgedTokens: a token that no page gave is refused, or leads to some page
// of the same list; it never breaks anything or shows another list.
func TestForgedTokens(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		for _, l := range b.fillLists() {
			for _, token := range []string{"!", "====", "a b", encode("\x00\x00\x00"), encode("a\x00b\x00c\x00d")} {
				_, _, err := b.page(l.req, 1, token)
				if got := badFields(t, fmt.Sprintf("%T %q", l.req, token), err); !slices.Equal(got, []string{"page_token"}) {
					t.Errorf("%T: token %q: found fault with %v", l.req, token, got)
				}
			}
			for _, text := range []string{
				"", "\x00", "a", "a\x00", "zz", "zz\x00zz", "\xff", "\xff\xff\x00\xff", "-1", "99", "999999999999999999999",
				"apis/demo", "demo\x00prod", "ab\x00alone", "GET\x00/a/{x}", "GET\x00", "PUT\x00zzz",
			} {
				ids, _, err := b.page(l.req, 1000, encode(text))
				if err != nil {
					wantRefusal(t, fmt.Sprintf("%T %q", l.req, text), err, refusal{codes.InvalidArgument, "INVALID_FIELD", nil})
					continue
				}
				if len(ids) > len(l.want) || !slices.Equal(ids, l.want[len(l.want)-len(ids):]) {
					t.Errorf("%T: token %q led to %v of %v", l.req, text, ids, l.want)
				}
			}
		}
	})
}

// TestPagesOverDeletions: what is deleted between two pages, the element that the
// next page begins with included, is no longer listed; the others all are.
func TestPagesOverDeletions(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.fillLists()
		check := func(req, deletion proto.Message, before, after []string) {
			t.Helper()
			ids, next, err := b.page(req, int32(len(before)), "")
			if err != nil || !slices.Equal(ids, before) {
				t.Fatalf("%T: got %v, %v", req, ids, err)
			}
			b.takes(deletion)
			if ids, _, err = b.page(req, 1000, next); err != nil || !slices.Equal(ids, after) {
				t.Errorf("%T: then got %v, %v, want %v", req, ids, err, after)
			}
		}
		check(&fifev1.ListApisRequest{}, &fifev1.DeleteApiRequest{Name: "apis/a-b"}, []string{"apis/a"}, []string{"apis/ab", demo, "apis/zoo"})
		check(&fifev1.ListRoutesRequest{Parent: demo}, &fifev1.DeleteRouteRequest{Parent: demo, Method: "PUT", Path: "/a"},
			[]string{"GET /", "GET /a"}, []string{"GET /a/{x}", "ANY /a/{x}/y", "GET /b"})
		check(&fifev1.ListDeploymentsRequest{Parent: demo}, &fifev1.DeleteDeploymentRequest{Name: "apis/demo/deployments/9"},
			[]string{
				first, "apis/demo/deployments/2", "apis/demo/deployments/3", "apis/demo/deployments/4",
				"apis/demo/deployments/5", "apis/demo/deployments/6", "apis/demo/deployments/7", "apis/demo/deployments/8",
			}, []string{"apis/demo/deployments/10", "apis/demo/deployments/11", "apis/demo/deployments/12"})
		check(&fifev1.ListStagesRequest{Parent: demo}, &fifev1.DeleteStageRequest{Name: "apis/demo/stages/a"},
			[]string{"apis/demo/stages/Z"}, []string{prod, "apis/demo/stages/prod-2"})
		check(&fifev1.ListStagesRequest{Parent: "apis/-"}, &fifev1.DeleteStageRequest{Name: "apis/demo/stages/Z"},
			[]string{"apis/ab/stages/alone"}, []string{prod, "apis/demo/stages/prod-2"})
	})
}

// TestRevisions: a history tells who, when, by which RPC, and from what to what.
func TestRevisions(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(
			&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10, VariableOverrides: map[string]string{"a": "1"}}},
			&fifev1.PromoteCanaryRequest{Name: prod},
		)
		resp := must(b.nodes["n1"].stages.ListStageRevisions(t.Context(), &fifev1.ListStageRevisionsRequest{Parent: prod}))(t)
		revisions := resp.GetRevisions()
		for i, want := range []string{"PromoteCanary", "StartCanary", "CreateDeployment"} {
			r := revisions[i]
			if r.GetMethod() != want || r.GetActor() != "anonymous" || r.GetCreateTime() == nil || r.GetRevision() != uint64(3-i) {
				t.Errorf("revision %d is %v", i, r)
			}
			if i+1 < len(revisions) && !proto.Equal(r.GetBefore(), revisions[i+1].GetAfter()) {
				t.Errorf("%s began with %v, what was before it ended with %v", want, r.GetBefore(), revisions[i+1].GetAfter())
			}
		}
		if revisions[2].GetBefore() != nil || revisions[0].GetAfter().GetVariables()["a"] != "1" || revisions[1].GetAfter().GetCanary().GetPercent() != 10 {
			t.Errorf("got %v", revisions)
		}
		// A page of one still knows what was before.
		page := must(b.nodes["n1"].stages.ListStageRevisions(t.Context(), &fifev1.ListStageRevisionsRequest{Parent: prod, PageSize: 1}))(t)
		if !proto.Equal(page.GetRevisions()[0], revisions[0]) {
			t.Errorf("got %v, want %v", page.GetRevisions()[0], revisions[0])
		}
	})
}
