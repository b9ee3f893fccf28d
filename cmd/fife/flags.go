package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// The flag types here check their value while the command line is read, so that
// a wrong one is refused before anything is dialled.

// percentFlag is a share of requests in percent, typed with or without the sign.
type percentFlag float64

// percentSteps is how finely one percent of the requests is told apart: shares are
// kept in parts per million.
const percentSteps = 10_000

func (p *percentFlag) Set(text string) error {
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	// NaN fails every comparison, so the range is asked for, not its opposite.
	if err != nil || !(v >= 0 && v <= 100) {
		return errors.New("a percentage is a number from 0 to 100, such as 50, 12.5 or 12.5%")
	}
	if steps := v * percentSteps; math.Abs(steps-math.Round(steps)) > 1e-6 {
		return fmt.Errorf("a percentage has at most four decimals, such as %.4f", v)
	}
	*p = percentFlag(v)
	return nil
}

func (p *percentFlag) String() string { return strconv.FormatFloat(float64(*p), 'f', -1, 64) }
func (*percentFlag) Type() string     { return "PERCENT" }

// numberFlag is a deployment's number; zero means that none was given.
type numberFlag uint64

func (n *numberFlag) Set(text string) error {
	v, err := strconv.ParseUint(text, 10, 63)
	if err != nil || v == 0 {
		return errors.New("a deployment is named by its number within the API, such as 3")
	}
	*n = numberFlag(v)
	return nil
}

func (n *numberFlag) String() string { return strconv.FormatUint(uint64(*n), 10) }
func (*numberFlag) Type() string     { return "N" }

// pairsFlag collects NAME=VALUE, once for each use of the flag. A value may hold
// commas and equals signs.
type pairsFlag map[string]string

func (p pairsFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE, such as color=blue")
	}
	if _, twice := p[name]; twice {
		return fmt.Errorf("%q is given twice", name)
	}
	p[name] = value
	return nil
}

func (p pairsFlag) String() string { return pairsText(p) }
func (pairsFlag) Type() string     { return "NAME=VALUE" }

// pairsText writes a map in name order.
func pairsText(pairs map[string]string) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		texts = append(texts, name+"="+pairs[name])
	}
	return strings.Join(texts, " ")
}

// choiceFlag is one of a few words.
type choiceFlag struct {
	value   string
	options []string
}

func newChoiceFlag(value string, options ...string) choiceFlag {
	return choiceFlag{value: value, options: options}
}

func (c *choiceFlag) Set(text string) error {
	if !slices.Contains(c.options, text) {
		return fmt.Errorf("want one of %s", strings.Join(c.options, ", "))
	}
	c.value = text
	return nil
}

func (c *choiceFlag) String() string { return c.value }
func (c *choiceFlag) Type() string   { return strings.Join(c.options, "|") }

// stickyFlag says where requests carry their sticky key. "none" leaves key nil.
type stickyFlag struct{ key *fifev1.StickyKey }

func (s *stickyFlag) Set(text string) error {
	source, name, _ := strings.Cut(text, ":")
	switch {
	case text == "none":
		s.key = nil
	case text == "client-ip":
		s.key = &fifev1.StickyKey{Source: &fifev1.StickyKey_ClientIp{ClientIp: true}}
	case source == "header" && name != "":
		s.key = &fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: name}}
	case source == "cookie" && name != "":
		s.key = &fifev1.StickyKey{Source: &fifev1.StickyKey_Cookie{Cookie: name}}
	case source == "query" && name != "":
		s.key = &fifev1.StickyKey{Source: &fifev1.StickyKey_QueryParameter{QueryParameter: name}}
	default:
		return errors.New("want header:NAME, cookie:NAME, query:NAME, client-ip or none, such as header:X-User")
	}
	return nil
}

func (s *stickyFlag) String() string { return stickyText(s.key) }
func (*stickyFlag) Type() string     { return "SOURCE" }

// stickyText writes a sticky key as it is typed, and a missing one as nothing.
func stickyText(key *fifev1.StickyKey) string {
	switch source := key.GetSource().(type) {
	case *fifev1.StickyKey_Header:
		return "header:" + source.Header
	case *fifev1.StickyKey_Cookie:
		return "cookie:" + source.Cookie
	case *fifev1.StickyKey_QueryParameter:
		return "query:" + source.QueryParameter
	case *fifev1.StickyKey_ClientIp:
		return "client-ip"
	}
	return ""
}
