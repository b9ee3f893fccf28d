// Command fife is the operators' command line of Fife: it edits APIs and their
// routes, deploys them, and opens, moves and promotes canaries.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes, which scripts rely on. The help of the root command lists
// them too.
const (
	exitOK          = 0
	exitFailed      = 1 // refused, or failed in a way of its own
	exitUsage       = 2 // the command line is wrong; nothing was sent
	exitUnreachable = 3 // no node, or no leader, answered; nothing was done
	exitWaitTimeout = 4 // the change is made, but too few agents have it yet, or there are none
	exitUnknown     = 5 // the change may or may not have been made
	exitEnded       = 6 // the promotion was opened, then aborted or halted
)

// streams are where a command reads and writes. Answers go to out; progress,
// warnings and errors go to err, so that out can be piped.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// terminal says that err is one, so that progress may rewrite its line.
	terminal bool
	// height returns the lines of the terminal that out is; nil if it is none.
	height func() int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the command in order; a second one kills it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{
		in:       os.Stdin,
		out:      os.Stdout,
		err:      os.Stderr,
		terminal: isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb",
		height:   terminalHeight(os.Stdout),
	}))
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRootCommand(s)
	root.SetArgs(args)
	return report(s.err, root.ExecuteContext(ctx))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
