//go:build linux

package edge_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDifferences plays the corpus against nginx and HAProxy, which are configured to
// route as the agent does. Where one of them does something else than the corpus
// wants, testdata/peers/differences.tsv has to explain it, and docs/edge.md has to
// list it. Cases about what is Fife's own are left out.
func TestDifferences(t *testing.T) {
	if !*differences {
		t.Log("the differences are not looked for: that is done with -edge.differences")
		return
	}
	cases := slices.DeleteFunc(readCorpus(t), func(c *testCase) bool { return c.own() })
	outcomes := map[string]map[string]string{} // by case and peer
	var names, versions []string
	var mu sync.Mutex
	t.Run("play", func(t *testing.T) {
		for i := range peers[:2] {
			p := &peers[i]
			version, ok := p.installed()
			if !ok {
				t.Fatalf("%s is not installed: %s", p.name, p.install)
			}
			names, versions = append(names, p.name), append(versions, version)
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				upstream := startUpstream(t)
				address := upstream.Addr().String()
				// One worker, so that a case finds the upstream connections of the one before.
				_, http1, _ := startPeer(t, p, address, address, 1, nil)
				for _, c := range cases {
					o := play(http1, upstream, c, atOnce, 500*time.Millisecond)
					if o.problem != "" { // the machine may have been slow
						o = play(http1, upstream, c, atOnce, 2*time.Second)
					}
					mu.Lock()
					if outcomes[c.name] == nil {
						outcomes[c.name] = map[string]string{}
					}
					outcomes[c.name][p.name] = c.compare(o)
					mu.Unlock()
				}
			})
		}
	})
	reasons := readReasons(t)
	var table strings.Builder
	fmt.Fprintf(&table, "%s; %s; %d cases of the corpus that are not about what is Fife's own. \"same\" is what the corpus wants.\n\n",
		versions[0], versions[1], len(cases))
	fmt.Fprintf(&table, "| why they differ | the agent | %s | cases |\n|---|---|---|---|---|\n", strings.Join(names, " | "))
	used, rows, order := map[string]bool{}, map[[2]string][]string{}, [][2]string{}
	for _, c := range cases {
		a, b := outcomes[c.name][names[0]], outcomes[c.name][names[1]]
		if a == same && b == same {
			continue
		}
		reason, pattern := explain(reasons, c.name)
		if reason == "" {
			t.Errorf("%s: not explained: the corpus wants %s; %s: %s; %s: %s", c.name, c.expected(), names[0], a, names[1], b)
		}
		used[pattern] = true
		row := [2]string{reason, fmt.Sprintf("%s | %s | %s", c.expected(), a, b)}
		if rows[row] == nil {
			order = append(order, row)
		}
		rows[row] = append(rows[row], c.name)
	}
	slices.SortFunc(order, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for i, row := range order {
		reason := row[0]
		if i > 0 && order[i-1][0] == reason {
			reason = ""
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", reason, row[1], strings.Join(rows[row], ", "))
	}
	for _, r := range reasons {
		if !used[r.pattern] {
			t.Errorf("differences.tsv explains %s, which is none", r.pattern)
		}
	}
	checkDocument(t, table.String())
}

const same = "same"

// own reports whether a case is about what only Fife has or promises, or one whose
// outcome at a peer depends on who is faster.
func (c *testCase) own() bool {
	for _, prefix := range []string{"trusted-", "variable-", "exposed", "mock", "upstream-slow", "upstream-refused",
		"upstream-metadata", "spoof-x-fife", "answer-fife", "path-literal", "path-slash-encoded-in-id", "query-added", "pipeline-half-closed"} {
		if strings.HasPrefix(c.name, prefix) {
			return true
		}
	}
	return c.trusted
}

// compare returns what came of a case in short, or same if it is what the corpus
// wants. Errors of one class, and fields that only one proxy sets, make no
// difference.
func (c *testCase) compare(o outcome) string {
	wants := slices.DeleteFunc(slices.Clone(c.wants), func(w want) bool { return w.raw != nil })
	differs := o.problem != "" || o.end != c.end && c.end != "any" || len(o.responses) > len(wants) ||
		len(o.responses) < len(wants) && !wants[len(wants)-1].maybe
	for i := 0; !differs && i < len(o.responses); i++ {
		res, w := o.responses[i], wants[i]
		differs = res.status/100 != w.status/100 && (!w.broken || res.status < 500) || res.broken && !w.broken
	}
	if c.nothing {
		differs = differs || len(o.seen.raw) > 0
	} else {
		differs = differs || len(o.seen.requests) != len(c.seen) || len(o.seen.pending) > 0 && !c.incomplete
	}
	fields := ""
	for i, m := range o.seen.requests {
		if i < len(c.seen) {
			differs = differs || m.method != c.seen[i].method || m.target != c.seen[i].target || m.body != c.seen[i].body
			if !differs && fields == "" {
				fields = c.fieldsOf(m, c.seen[i])
			}
		}
	}
	if !differs && fields == "" && len(o.seen.faults) == 0 {
		return same
	}
	return o.String() + fields
}

// fieldsOf tells which fields that were sent should not have been passed on, or the
// other way round.
func (c *testCase) fieldsOf(got, wanted message) string {
	ours := []string{"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
		"content-length", "transfer-encoding", "connection"}
	sent := strings.ToLower(string(c.sent()))
	for _, f := range got.fields {
		name := strings.ToLower(f.name)
		if strings.Contains(sent, name+":") && !slices.Contains(ours, name) && !slices.Contains(valuesOf(wanted.fields, name), f.value) {
			return " with " + code(f.name)
		}
	}
	for _, f := range wanted.fields {
		if f.value != "-" && !slices.Contains(valuesOf(got.fields, f.name), f.value) {
			return " without " + code(f.name+": "+f.value)
		}
	}
	if got.body != wanted.body {
		return " with the body " + code(got.body)
	}
	return ""
}

// String is an outcome in short, for a table.
func (o outcome) String() string {
	var parts []string
	for _, r := range o.responses {
		status := fmt.Sprint(r.status)
		if r.broken {
			status += " broken"
		}
		parts = append(parts, status)
	}
	if len(parts) == 0 {
		parts = []string{"no answer"}
	}
	end := o.end
	if o.problem != "" {
		end = "waits"
		if strings.Contains(o.problem, "another client") {
			end = "another client's answer is wrong"
		}
	}
	reached := "nothing"
	switch {
	case len(o.seen.requests) > 0:
		var all []string
		for _, m := range o.seen.requests {
			all = append(all, code(m.method+" "+m.target))
		}
		reached = strings.Join(all, ", ")
	case len(o.seen.faults) > 0:
		reached = "what is no request"
	case len(o.seen.pending) > 0:
		reached = "half a request"
	}
	if len(o.seen.faults) > 0 {
		reached += " (" + strings.ReplaceAll(o.seen.faults[0], "|", `\|`) + ")"
	}
	return fmt.Sprintf("%s, %s; %s", strings.Join(parts, ", "), end, reached)
}

// expected is what the corpus wants in short.
func (c *testCase) expected() string {
	o := outcome{end: c.end}
	for _, w := range c.wants {
		if w.raw == nil {
			o.responses = append(o.responses, response{status: w.status, broken: w.broken})
		}
	}
	if o.seen.requests = c.seen; c.incomplete {
		o.seen.pending = []byte("half")
	}
	return o.String()
}

// code shows bytes in a table.
func code(s string) string {
	if len(s) > 40 {
		s = s[:37] + "..."
	}
	s = strings.Trim(fmt.Sprintf("%q", s), `"`)
	return "`" + strings.NewReplacer("|", `\|`, "`", "'").Replace(s) + "`"
}

// reason explains the differences of the cases that a pattern matches.
type reason struct{ pattern, text string }

// readReasons reads lines of patterns, a tab and an explanation. The first that
// matches counts.
func readReasons(t *testing.T) []reason {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "peers", "differences.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	var all []reason
	for lines := bufio.NewScanner(f); lines.Scan(); {
		pattern, text, ok := strings.Cut(lines.Text(), "\t")
		if !ok {
			t.Fatalf("differences.tsv: %q has no tab", lines.Text())
		}
		for one := range strings.FieldsSeq(pattern) {
			all = append(all, reason{one, text})
		}
	}
	return all
}

func explain(reasons []reason, name string) (text, pattern string) {
	for _, r := range reasons {
		if ok, _ := filepath.Match(r.pattern, name); ok { // a bad pattern matches nothing and is told so
			return r.text, r.pattern
		}
	}
	return "", ""
}

// The table stands between these in docs/edge.md.
const (
	documentPath = "../../docs/edge.md"
	tableBegin   = "<!-- make diff-edge writes what follows -->\n"
	tableEnd     = "<!-- make diff-edge has written what precedes -->\n"
)

// checkDocument compares the table with the one in the document, or writes it there.
func checkDocument(t *testing.T, table string) {
	t.Helper()
	text, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", documentPath)
	}
	table = "\n" + table + "\n"
	if *update {
		if err := os.WriteFile(documentPath, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	if old != table {
		for line := range strings.SplitSeq(table, "\n") {
			if !strings.Contains(old, line+"\n") {
				t.Logf("new: %s", line)
			}
		}
		t.Errorf("%s is out of date: run make diff-edge UPDATE=1", documentPath)
	}
}
