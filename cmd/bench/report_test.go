//go:build linux

package bench_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// quantity is one line of a report.
type quantity struct {
	name string
	unit unit
	goal goal // of Fife
}

type unit int

const (
	seconds unit = iota
	perSecond
	kibibytes
)

// timed reports whether a quantity depends on how fast the machine is.
func (u unit) timed() bool { return u != kibibytes }

// goal is what a quantity is to come to; the zero goal is none.
type goal struct {
	text string
	met  func(own, ratio float64) bool
	peer bool // whether it is one beside etcd
}

// atMost and atLeast are goals in multiples of etcd's figure.
func atMost(x float64) goal {
	return goal{fmt.Sprintf("<= %v x etcd", x), func(_, ratio float64) bool { return ratio <= x }, true}
}

func atLeast(x float64) goal {
	return goal{fmt.Sprintf(">= %v x etcd", x), func(_, ratio float64) bool { return ratio >= x }, true}
}

// within is a goal of its own.
func within(most float64, text string) goal {
	return goal{"<= " + text, func(own, _ float64) bool { return own <= most }, false}
}

// round is what one contestant came to in one turn, in seconds, writes per second
// and bytes.
type round struct {
	sync   time.Duration // what the disk took at the time
	others float64       // share of the machine that others had meanwhile
	values map[string]float64
}

// report collects the rounds of a measurement.
type report struct {
	title      string
	quantities []quantity
	rounds     map[string][]round // by contestant, in order
}

func newReport(title string, quantities ...quantity) *report {
	return &report{title: title, quantities: quantities, rounds: map[string][]round{}}
}

func (r *report) add(contestant string, one round) {
	r.rounds[contestant] = append(r.rounds[contestant], one)
}

// values returns one quantity of a contestant, round by round.
func (r *report) values(contestant, quantity string) []float64 {
	var all []float64
	for _, one := range r.rounds[contestant] {
		all = append(all, one.values[quantity])
	}
	return all
}

// inSyncs returns one quantity in what the disk took for one flush in the same
// round.
func (r *report) inSyncs(contestant string, q quantity) []float64 {
	all := r.values(contestant, q.name)
	for i, one := range r.rounds[contestant] {
		if q.unit == seconds {
			all[i] /= one.sync.Seconds()
		} else {
			all[i] *= one.sync.Seconds()
		}
	}
	return all
}

// ratios returns Fife's figure in multiples of etcd's, round by round.
func (r *report) ratios(quantity string) []float64 {
	all := r.values(fife, quantity)
	for i, peer := range r.values("etcd", quantity) {
		all[i] /= peer
	}
	return all
}

// show writes the report to the test's output, and to a subtest the comparison
// with etcd, which is skipped by name where there is none.
func (r *report) show(t *testing.T) {
	t.Helper()
	fmt.Fprint(t.Output(), r.table([]string{fife}))
	t.Run("beside etcd", func(t *testing.T) {
		if len(r.rounds["etcd"]) == 0 {
			t.Skipf("no comparison: etcd is not installed (apt-get install -y %s)", etcdPackage)
		}
		version, err := exec.Command(*etcd, "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(version), "\n")
		fmt.Fprintln(t.Output(), first)
		fmt.Fprint(t.Output(), r.table([]string{fife, "etcd"}))
		fmt.Fprint(t.Output(), r.comparison())
	})
}

// table shows the medians of contestants over all rounds.
func (r *report) table(contestants []string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "%s: medians of %d rounds", r.title, len(r.rounds[contestants[0]]))
	for _, c := range contestants {
		fmt.Fprintf(w, "\t%s\tin syncs", c)
	}
	if len(contestants) == 1 {
		fmt.Fprint(w, "\tgoal\t")
	}
	fmt.Fprintln(w)
	for _, q := range r.quantities {
		fmt.Fprint(w, q.name)
		for _, c := range contestants {
			own := median(r.values(c, q.name))
			fmt.Fprintf(w, "\t%s", q.unit.format(own))
			syncs := "-"
			if q.unit.timed() {
				syncs = fmt.Sprintf("%.3g", median(r.inSyncs(c, q)))
			}
			fmt.Fprintf(w, "\t%s", syncs)
			if len(contestants) == 1 && q.goal.met != nil && !q.goal.peer {
				fmt.Fprintf(w, "\t%s: %s", q.goal.text, verdict(q.goal.met(own, 0)))
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // a strings.Builder takes all
	if !slices.ContainsFunc(r.quantities, func(q quantity) bool { return q.unit.timed() }) {
		return text.String()
	}
	var disk, noise []float64
	for _, c := range contestants {
		for _, one := range r.rounds[c] {
			disk, noise = append(disk, one.sync.Seconds()), append(noise, one.others)
		}
	}
	fmt.Fprintf(&text, "one sync is %s, %s; others had %.0f %% of the machine (up to %.0f %%)\n",
		seconds.format(median(disk)), spread(disk), 100*median(noise), 100*slices.Max(noise))
	return text.String()
}

// comparison shows Fife's figures in multiples of etcd's.
func (r *report) comparison() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "%s\tx etcd\tin single rounds\tgoal\t\n", r.title)
	for _, q := range r.quantities {
		ratios := r.ratios(q.name)
		if slices.Min(slices.Concat(r.values(fife, q.name), r.values("etcd", q.name))) <= 0 {
			fmt.Fprintf(w, "%s\t-\t-\t", q.name) // a time before the moment it is counted from has no ratio
		} else {
			fmt.Fprintf(w, "%s\t%.2f\t%.2f to %.2f\t", q.name, median(ratios), slices.Min(ratios), slices.Max(ratios))
		}
		if q.goal.met != nil {
			fmt.Fprintf(w, "%s\t%s", q.goal.text, verdict(q.goal.met(median(r.values(fife, q.name)), median(ratios))))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // as above
	return text.String()
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

func spread(values []float64) string {
	m := median(values)
	return fmt.Sprintf("%.2f to %.2f times that in single rounds", slices.Min(values)/m, slices.Max(values)/m)
}

func (u unit) format(v float64) string {
	switch u {
	case seconds:
		return time.Duration(v * float64(time.Second)).Round(time.Microsecond).String()
	case perSecond:
		return fmt.Sprintf("%.0f/s", v)
	}
	return fmt.Sprintf("%.1f KiB", v/1024)
}

// quantile returns the value below which a share of the sorted values lie.
func quantile[T any](sorted []T, q float64) T {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// median sorts a copy, and lies between the two in the middle of an even number.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func TestMedianAndQuantile(t *testing.T) {
	for _, test := range []struct {
		values      []float64
		median, p99 float64
	}{
		{[]float64{3}, 3, 3},
		{[]float64{4, 1}, 2.5, 4},
		{[]float64{9, 1, 5}, 5, 9},
	} {
		if got := median(test.values); got != test.median {
			t.Errorf("median of %v is %v, want %v", test.values, got, test.median)
		}
		if got := quantile(slices.Sorted(slices.Values(test.values)), 0.99); got != test.p99 {
			t.Errorf("p99 of %v is %v, want %v", test.values, got, test.p99)
		}
	}
}

// TestComparison: ratios are taken round by round, so that a slow moment of the
// machine, which hits both, does not look like a difference.
func TestComparison(t *testing.T) {
	r := newReport("title", quantity{"time", seconds, atMost(0.5)}, quantity{"rate", perSecond, atLeast(3)},
		quantity{"lag", seconds, within(1, "1 s")})
	for _, slow := range []float64{1, 10, 100} {
		sync := time.Duration(slow * float64(time.Second))
		r.add(fife, round{sync: sync, values: map[string]float64{"time": 2 * slow, "rate": 4 / slow, "lag": -1}})
		r.add("etcd", round{sync: sync, values: map[string]float64{"time": 4 * slow, "rate": 2 / slow, "lag": 1}})
	}
	got := strings.Join(strings.Fields(r.comparison()), " ")
	want := "title x etcd in single rounds goal" +
		" time 0.50 0.50 to 0.50 <= 0.5 x etcd met" +
		" rate 2.00 2.00 to 2.00 >= 3 x etcd missed" +
		" lag - - <= 1 s met"
	if got != want {
		t.Errorf("the comparison is\n%s, want\n%s", got, want)
	}
	if syncs := r.inSyncs(fife, r.quantities[0]); !slices.Equal(syncs, []float64{2, 2, 2}) {
		t.Errorf("the time is %v syncs, want 2 in every round", syncs)
	}
}
