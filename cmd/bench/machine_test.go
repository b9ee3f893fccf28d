//go:build linux

package bench_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// This file measures the machine: what its disk takes for one commit at the
// least, and how much of it others had meanwhile.

const (
	syncs     = 300     // make one measurement of the disk
	syncBytes = 512     // about what one commit adds to a log
	segment   = 8 << 20 // room that is made before, as logs do
)

// syncTime returns the median time of appending to a file and flushing it, on the
// file system of a directory.
func syncTime(dir string) (_ time.Duration, err error) {
	name := filepath.Join(dir, "sync")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, segment); err != nil {
		return 0, fmt.Errorf("make room in %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	times, data := make([]time.Duration, syncs), make([]byte, syncBytes)
	for i := range times {
		begin := time.Now()
		if _, err := f.WriteAt(data, int64(i)*syncBytes); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("flush %s: %w", name, err)
		}
		times[i] = time.Since(begin)
	}
	slices.Sort(times)
	return quantile(times, 0.5), nil
}

// usage is how much processor time had been used at one moment.
type usage struct {
	at      time.Time
	machine time.Duration
	servers time.Duration
	client  time.Duration
}

func usageNow(servers []*process) (usage, error) {
	u := usage{at: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	if len(f) < 9 {
		return u, fmt.Errorf("cannot read %q of /proc/stat", line)
	}
	if u.machine, err = ticks(f[1], f[2], f[3], f[6], f[7], f[8]); err != nil {
		return u, err
	}
	for _, p := range servers {
		used, err := p.cpu()
		if err != nil {
			return u, err
		}
		u.servers += used
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	u.client = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	return u, nil
}

// others returns the share of the machine that neither the servers nor this
// process had between two moments.
func others(from, to usage) float64 {
	all := to.at.Sub(from.at) * time.Duration(runtime.NumCPU())
	used := (to.machine - from.machine) - (to.servers - from.servers) - (to.client - from.client)
	return max(0, used.Seconds()/all.Seconds())
}
