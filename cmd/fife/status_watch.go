package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// watchStatus shows the status until ctx ends. A control plane that does not answer
// is said to, and asked again.
func (c *cli) watchStatus(ctx context.Context, at *nodes, interval time.Duration) error {
	out := c.out
	defer func() { c.out = out }()
	for {
		var screen bytes.Buffer
		c.out = &screen
		err := c.showStatus(ctx, at)
		if ctx.Err() != nil {
			return nil
		}
		report(&screen, err)
		if c.height != nil {
			_, err = out.Write([]byte(redrawn(screen.String(), c.height())))
		} else {
			screen.WriteByte('\n')
			_, err = out.Write(screen.Bytes())
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return nil
		}
	}
}

// redrawn writes text over what a terminal shows, line by line so that nothing
// flickers, and never scrolls: lines that do not fit are counted instead, and long
// ones are cut off by the terminal.
func redrawn(text string, height int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if height > 1 && len(lines) > height {
		lines = append(lines[:height-1:height-1], "... make the terminal higher to see more")
	}
	// Wrapping is off while drawing, as a wrapped line takes two.
	return "\x1b[?7l\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J\x1b[?7h"
}

// terminalHeight returns what asks for the lines of a terminal, nil if f is none.
func terminalHeight(f *os.File) func() int {
	if !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return func() int {
		_, height, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 24
		}
		return height
	}
}
