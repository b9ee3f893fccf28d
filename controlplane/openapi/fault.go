package openapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is all that is wrong with a document. Nothing was taken from it.
type Error struct {
	Faults []Fault // by line; at most 100
	More   int     // how many others there are
}

// Fault is one thing that is wrong.
type Fault struct {
	Pointer string // the place, a JSON pointer (RFC 6901); empty for the whole
	Line    int    // from 1; 0 if there is none
	Problem string // what is wrong, with the value
}

// String returns the fault as `line 3, /paths: ...`.
func (f Fault) String() string {
	var place []string
	if f.Line > 0 {
		place = append(place, fmt.Sprintf("line %d", f.Line))
	}
	if f.Pointer != "" {
		place = append(place, f.Pointer)
	}
	if len(place) == 0 {
		return f.Problem
	}
	return strings.Join(place, ", ") + ": " + f.Problem
}

// Error lists all faults.
func (e *Error) Error() string {
	texts := make([]string, 0, len(e.Faults)+1)
	for _, f := range e.Faults {
		texts = append(texts, f.String())
	}
	if e.More > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", e.More))
	}
	return "the OpenAPI document cannot be imported: " + strings.Join(texts, "; ")
}

// faults collects what is wrong.
type faults struct{ e Error }

func (f *faults) addf(pointer string, line int, format string, args ...any) {
	if len(f.e.Faults) == maxFaults {
		f.e.More++
		return
	}
	f.e.Faults = append(f.e.Faults, Fault{Pointer: pointer, Line: line, Problem: fmt.Sprintf(format, args...)})
}

func (f *faults) err() error {
	if len(f.e.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(f.e.Faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return &f.e
}

// wrong returns an Error of one fault of the whole.
func wrong(line int, format string, args ...any) error {
	var f faults
	f.addf("", line, format, args...)
	return f.err()
}
