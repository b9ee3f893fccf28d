package route

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		name   string
		routes string // one to a line
		want   string // REQUEST -> ROUTE param=value..., one to a line
	}{{
		name:   "root",
		routes: "GET /",
		want: `GET / -> GET /
		       GET // -> none
		       GET /x -> none`,
	}, {
		name:   "no routes",
		routes: "",
		want:   "GET / -> none",
	}, {
		name: "static before variable before greedy",
		routes: `GET /pets/list
		         GET /pets/{id}
		         GET /pets/{id}/toys
		         GET /{proxy+}`,
		want: `GET /pets/list -> GET /pets/list
		       GET /pets/7 -> GET /pets/{id} id=7
		       GET /pets/7/toys -> GET /pets/{id}/toys id=7`,
	}, {
		name: "backtracking out of static levels",
		routes: `GET /a/b/c
		         GET /a/{x}/d
		         GET /{y}/b/e
		         GET /{y}/{z}/f/{rest+}`,
		want: `GET /a/b/c -> GET /a/b/c
		       GET /a/b/d -> GET /a/{x}/d x=b
		       GET /a/b/e -> GET /{y}/b/e y=a
		       GET /a/b/f/g/h -> GET /{y}/{z}/f/{rest+} y=a z=b rest=g/h
		       GET /a/b/f -> none
		       GET /a/b -> none`,
	}, {
		name: "a method that the static path lacks falls through",
		routes: `POST /test
		         ANY /{proxy+}`,
		want: `POST /test -> POST /test
		       OPTIONS /test -> ANY /{proxy+} proxy=test
		       GET /test/more -> ANY /{proxy+} proxy=test/more
		       GET / -> none`,
	}, {
		name: "exact method before ANY",
		routes: `ANY /x
		         GET /x`,
		want: `GET /x -> GET /x
		       DELETE /x -> ANY /x
		       PROPFIND /x -> ANY /x`,
	}, {
		name: "static ANY before variable exact",
		routes: `ANY /x
		         GET /{id}`,
		want: `GET /x -> ANY /x
		       GET /y -> GET /{id} id=y
		       PUT /y -> none`,
	}, {
		name: "methods are told apart",
		routes: `GET /x
		         PUT /x
		         PATCH /x
		         DELETE /x
		         OPTIONS /x`,
		want: `GET /x -> GET /x
		       PUT /x -> PUT /x
		       PATCH /x -> PATCH /x
		       DELETE /x -> DELETE /x
		       OPTIONS /x -> OPTIONS /x
		       POST /x -> none
		       get /x -> none`,
	}, {
		name: "GET does not serve HEAD",
		routes: `GET /x
		         HEAD /y`,
		want: `HEAD /x -> none
		       HEAD /y -> HEAD /y`,
	}, {
		name: "greedy needs a segment that is not empty",
		routes: `GET /files
		         GET /files/{path+}`,
		want: `GET /files -> GET /files
		       GET /files/ -> GET /files
		       GET /files// -> none
		       GET /files/// -> none
		       GET /files/a -> GET /files/{path+} path=a
		       GET /files/a/b -> GET /files/{path+} path=a/b
		       GET /files//b -> GET /files/{path+} path=/b
		       GET /files/a//b -> GET /files/{path+} path=a//b`,
	}, {
		name: "a trailing slash matches, and stays in a greedy value",
		routes: `GET /a
		         GET /a/{id}
		         GET /b/{rest+}`,
		want: `GET /a/ -> GET /a
		       GET /a/7/ -> GET /a/{id} id=7
		       GET /a/7// -> none
		       GET /b/x/ -> GET /b/{rest+} rest=x/`,
	}, {
		name: "empty inner segments",
		routes: `GET /a/b
		         GET /c/{id}
		         GET /c/{id}/d`,
		want: `GET /a//b -> none
		       GET //a/b -> none
		       GET /c//d -> none
		       GET /c// -> none`,
	}, {
		name: "literals compare decoded",
		routes: `GET /a/b+c
		         GET /caf%C3%A9
		         GET /sl%2Fash
		         GET /p/{id}`,
		want: `GET /%61/b+c -> GET /a/b+c
		       GET /a/b%2bc -> GET /a/b+c
		       GET /a/b%20c -> none
		       GET /caf%c3%a9 -> GET /caf%C3%A9
		       GET /sl%2Fash -> GET /sl%2Fash
		       GET /sl/ash -> none
		       GET /p/%7Bid%7D -> GET /p/{id} id=%7Bid%7D`,
	}, {
		name: "an encoded slash never separates",
		routes: `GET /a/{x}
		         GET /a/b/c`,
		want: `GET /a/b%2Fc -> GET /a/{x} x=b%2Fc
		       GET /a%2Fb -> none
		       GET /a%2Fb/c -> none`,
	}, {
		name: "broken escapes match no literal",
		routes: `GET /a
		         GET /v/{x}`,
		want: `GET /a% -> none
		       GET /%6 -> none
		       GET /%zz -> none
		       GET /v/%zz -> GET /v/{x} x=%zz`,
	}, {
		name:   "a literal in the place of a variable is no variable",
		routes: "GET /{id}",
		want: `GET /{id} -> GET /{id} id={id}
		       GET /x/{id} -> none`,
	}, {
		name:   "longest",
		routes: "GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p+}",
		want: `GET /1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17 -> GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p+}` +
			` a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 i=9 j=10 k=11 l=12 m=13 n=14 o=15 p=16/17`,
	}, {
		name:   "not a path",
		routes: "ANY /{proxy+}",
		want: `OPTIONS * -> none
		       GET x -> none`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := variant(t, lines(tt.routes)...)
			for _, line := range lines(tt.want) {
				request, want, _ := strings.Cut(line, " -> ")
				method, path, _ := strings.Cut(request, " ")
				var p Params
				if got := render(v.Match(method, path, &p), &p); got != want {
					t.Errorf("%s\n got %s\nwant %s", request, got, want)
				}
			}
		})
	}
}

func lines(s string) (out []string) {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func TestMatchEmptyPath(t *testing.T) {
	var p Params
	if r := variant(t, "GET /").Match("GET", "", &p); r != nil {
		t.Errorf("the empty path matched %v", r)
	}
}

func TestParams(t *testing.T) {
	v := variant(t, "GET /a/{id}/{rest+}", "GET /b")
	var p Params
	v.Match("GET", "/a/1/2/3", &p)
	if got, ok := p.Get("rest"); !ok || got != "2/3" {
		t.Errorf("Get(rest) = %q, %v", got, ok)
	}
	if got, ok := p.Get("other"); ok {
		t.Errorf("Get(other) = %q, want none", got)
	}
	v.Match("GET", "/b", &p)
	if _, ok := p.Get("id"); ok || p.Len() != 0 {
		t.Error("a match without parameters left those of the one before")
	}
	v.Match("GET", "/a/1/2", &p)
	v.Match("GET", "/none", &p)
	if p.Len() != 0 {
		t.Error("no match left the parameters of the one before")
	}
}

// TestMatchAgainstReference compares the tree with a matcher that tries every
// route by itself and takes the one of the highest rank.
func TestMatchAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes := drawRoutes(t)
		v := &Variant{Deployment: &Deployment{API: "demo", Number: 1, tree: newTree(0)}}
		for i := range routes {
			// A clash is fine: the route is left out of both matchers.
			if err := v.Deployment.add(&routes[i], maxTimeout); err != nil {
				routes[i].Method = ""
			}
		}
		segment := rapid.SampledFrom([]string{"a", "b", "c", "%61", "", "x%2Fy", "%"})
		for range 30 {
			path := "/" + strings.Join(rapid.SliceOfN(segment, 0, 5).Draw(t, "path"), "/")
			method := rapid.SampledFrom([]string{"GET", "POST", "HEAD", "TRACE"}).Draw(t, "method")
			var p Params
			got, want := render(v.Match(method, path, &p), &p), reference(routes, method, path)
			if got != want {
				t.Fatalf("%s %s\n got %s\nwant %s", method, path, got, want)
			}
		}
	})
}

func drawRoutes(t *rapid.T) []RouteSpec {
	segment := rapid.SampledFrom([]string{"a", "b", "c", "{v}", "{v}", "{w}", "{v+}", "{w+}"})
	method := rapid.SampledFrom([]string{"GET", "POST", "ANY"})
	routes := make([]RouteSpec, rapid.IntRange(0, 25).Draw(t, "routes"))
	for i := range routes {
		segments := rapid.SliceOfN(segment, 0, 4).Draw(t, "template")
		routes[i] = RouteSpec{
			Method:      method.Draw(t, "method"),
			Path:        "/" + strings.Join(segments, "/"),
			Integration: MockSpec{},
		}
	}
	return routes
}

// reference ranks every route that fits by its kinds of segments from the left,
// then by its method.
func reference(routes []RouteSpec, method, path string) string {
	best, rank := "none", ""
	for _, r := range routes {
		if r.Method != method && r.Method != "ANY" {
			continue
		}
		got, ok := fit(r.Path, path)
		if !ok {
			continue
		}
		kinds := got.kinds + "1"
		if r.Method == "ANY" {
			kinds = got.kinds + "2"
		}
		if rank == "" || kinds < rank {
			best, rank = r.Method+" "+r.Path+got.params, kinds
		}
	}
	return best
}

type fitted struct{ kinds, params string }

func fit(template, path string) (f fitted, ok bool) {
	if template == "/" {
		return f, path == "/"
	}
	want := strings.Split(template, "/")[1:]
	have := strings.Split(path, "/")[1:]
	for i, w := range want {
		if i >= len(have) {
			return f, false
		}
		name := strings.Trim(w, "{+}")
		switch {
		case strings.HasSuffix(w, "+}"):
			rest := strings.Join(have[i:], "/")
			f.kinds += "3"
			f.params += " " + name + "=" + rest
			return f, strings.Trim(rest, "/") != ""
		case w[0] == '{':
			f.kinds += "2"
			f.params += " " + name + "=" + have[i]
			if have[i] == "" {
				return f, false
			}
		default:
			f.kinds += "1"
			if w != strings.ReplaceAll(have[i], "%61", "a") {
				return f, false
			}
		}
	}
	rest := have[len(want):]
	return f, len(rest) == 0 || len(rest) == 1 && rest[0] == ""
}

func FuzzMatch(f *testing.F) {
	f.Add("/pets/{id}/{rest+}", "/pets/7/toys/", "GET")
	f.Add("/caf%C3%A9/b", "/caf%c3%A9/%62", "GET")
	f.Add("/{a}/b", "//b", "PUT")
	f.Add("/", "/%", "HEAD")
	f.Fuzz(func(t *testing.T, template, path, method string) {
		d, err := CompileDeployment(DeploymentSpec{API: "demo", Number: 1, Routes: []RouteSpec{
			{Method: "ANY", Path: template, Integration: MockSpec{}},
		}})
		if err != nil {
			return
		}
		v := &Variant{Deployment: d}
		var p Params
		r := v.Match(method, path, &p)
		if r == nil {
			return
		}
		// The values put into the template's holes give the path back, once both
		// are decoded and the slash at the end is left aside.
		expanded := r.Path
		for i := range p.Len() {
			name, value := p.At(i)
			if value == "" || !strings.Contains(path, value) {
				t.Fatalf("%q in %q: parameter %q = %q", path, template, name, value)
			}
		}
		b, ok := appendUnescaped(make([]byte, 0, len(path)), path)
		if p.Len() > 0 || !ok {
			return
		}
		want, _ := appendUnescaped(make([]byte, 0, len(expanded)), expanded)
		if strings.TrimSuffix(string(b), "/") != strings.TrimSuffix(string(want), "/") {
			t.Fatalf("%q matched %q", path, template)
		}
	})
}
