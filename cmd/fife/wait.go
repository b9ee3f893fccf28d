package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const (
	// reopenPause is how long to wait before asking again after every node was
	// out of reach, as during the restart of a control plane of one node.
	reopenPause = 500 * time.Millisecond
	// shownLaggards keeps the progress line on one line.
	shownLaggards = 3
)

// waitForVersion follows the agents until all of them, or the share asked for,
// have the version. That none is connected is not success. The change itself is made by then, so a control plane that goes away is asked
// again until the time is up.
func (c *cli) waitForVersion(ctx context.Context, at *nodes, version *fifev1.Version, share waitFlag, timeout time.Duration) error {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p := &progress{out: c.err, live: c.terminal, version: versionText(version), share: share, refused: map[string]bool{}}
	client := fifev1.NewFleetServiceClient(at)
	for {
		err := p.follow(ctx, client, version)
		switch {
		case err == nil:
			return p.finish()
		case parent.Err() != nil:
			p.endLine()
			return exitf(exitFailed, "interrupted; the change is made, and agents that are late will still get it")
		case ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded:
			p.endLine()
			return p.timedOut(timeout)
		case !passing(err):
			p.endLine()
			return fmt.Errorf("wait for the agents (the change itself is made): %w", explain(err, nil))
		}
		p.show("the control plane does not answer; trying again")
		select {
		case <-time.After(reopenPause):
		case <-ctx.Done():
		}
	}
}

// errEarlyEnd is a stream that ended well, but before all agents were done.
var errEarlyEnd = errors.New("the control plane ended the wait early")

// passing says whether asking again may help.
func passing(err error) bool {
	away := (*unreachableError)(nil)
	return errors.As(err, &away) || errors.Is(err, errEarlyEnd) || status.Code(err) == codes.Unavailable
}

// progress is what is known, and shown, of a wait.
type progress struct {
	out     io.Writer
	live    bool // rewrite the line instead of adding one
	version string
	share   waitFlag
	last    *fifev1.WaitForVersionResponse
	line    string
	refused map[string]bool // refusals that were printed
}

// follow reads one stream to its end. nil means that enough agents are done.
func (p *progress) follow(ctx context.Context, client fifev1.FleetServiceClient, version *fifev1.Version) error {
	stream, err := client.WaitForVersion(ctx, &fifev1.WaitForVersionRequest{Version: version})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errEarlyEnd
		}
		if err != nil {
			return err
		}
		p.last = m
		for _, agent := range m.GetRefused() {
			if text := refusalText(agent); !p.refused[text] {
				p.refused[text] = true
				p.endLine()
				linef(p.out, "%s", text)
			}
		}
		if m.GetDone() || p.share.reached(m) {
			return nil
		}
		p.show(progressText(m))
	}
}

// show replaces the line on a terminal, and adds one elsewhere if it is new.
func (p *progress) show(text string) {
	if text == p.line {
		return
	}
	p.line = text
	if p.live {
		_, _ = fmt.Fprintf(p.out, "\r%s\x1b[K", text)
	} else {
		linef(p.out, "%s", text)
	}
}

// endLine leaves the live line standing, so that the next text has its own.
func (p *progress) endLine() {
	if p.live && p.line != "" {
		linef(p.out, "")
	}
	p.line = ""
}

func (p *progress) finish() error {
	total, took := p.last.GetTotal(), ""
	if d := p.last.GetElapsed(); d != nil {
		took = " in " + d.AsDuration().Round(time.Millisecond).String()
	}
	switch {
	case total == 0:
		p.endLine()
		return exitf(exitWaitTimeout, "no agents are connected: version %s is applied by 0 of 0\nthe change is made, and agents get it when they connect; look for them with: fife agents", p.version)
	case p.last.GetApplied() < total:
		p.show(fmt.Sprintf("version %s %s%s; %s was asked for", p.version, progressText(p.last), took, &p.share))
	default:
		p.show(fmt.Sprintf("version %s applied by all %d agents%s", p.version, total, took))
	}
	p.endLine()
	return nil
}

func (p *progress) timedOut(timeout time.Duration) error {
	if p.last == nil {
		return exitf(exitWaitTimeout, "timed out after %s without word of the agents\nthe change is made; look at them with: fife agents", timeout)
	}
	// Everything that is known, where the progress line had to be short.
	text := fmt.Sprintf("timed out after %s: version %s is %s", timeout, p.version, textWith(p.last, len(p.last.GetLaggards())))
	for _, agent := range p.last.GetRefused() {
		text += "\n" + refusalText(agent)
	}
	return exitf(exitWaitTimeout, "%s\nthe change is made, and agents that are late will still get it; look at them with: fife agents", text)
}

// progressText says how far the agents have come.
func progressText(m *fifev1.WaitForVersionResponse) string { return textWith(m, shownLaggards) }

func textWith(m *fifev1.WaitForVersionResponse, most int) string {
	text := fmt.Sprintf("applied by %d of %d agents", m.GetApplied(), m.GetTotal())
	if late := firstFew(m.GetLaggards(), int(m.GetTotal()-m.GetApplied()), most); late != "" {
		text += ", waiting for " + late
	}
	if away := m.GetUnreachableNodes(); len(away) > 0 {
		text += "; agents of unreachable nodes are not counted: " + clean(strings.Join(away, ", "))
	}
	return text
}

func refusalText(agent *fifev1.Agent) string {
	nack := agent.GetLastNack()
	return fmt.Sprintf("%s refused version %s: %s", clean(short(agent.GetName())), versionText(nack.GetVersion()), clean(nack.GetReason()))
}

// waitFlag is the share of the agents, in percent, that a wait is for; zero means
// that nobody waits.
type waitFlag float64

func (s *waitFlag) Set(text string) error {
	var share percentFlag
	if share.Set(text) != nil || share == 0 {
		return errors.New("want a share of the agents above 0, such as --wait=99%, or --wait alone for all")
	}
	*s = waitFlag(share)
	return nil
}

func (s *waitFlag) String() string {
	if *s == 0 {
		return ""
	}
	return percentText(float64(*s))
}
func (*waitFlag) Type() string { return "PERCENT" }

// reached says whether enough agents have the version. Agents of nodes that did not
// answer are not counted in the total, so nothing is reached without them.
func (s waitFlag) reached(m *fifev1.WaitForVersionResponse) bool {
	return m.GetTotal() > 0 && len(m.GetUnreachableNodes()) == 0 &&
		float64(m.GetApplied())*100 >= float64(s)*float64(m.GetTotal())
}
