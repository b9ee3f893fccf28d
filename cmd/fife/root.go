package main

import (
	"time"

	"github.com/spf13/cobra"
)

const defaultServer = "127.0.0.1:7400"

// cli holds the global flags of one command line. Commands get it from their
// constructors and read it when they run, after the flags were parsed.
type cli struct {
	streams
	server    string
	context   string
	output    choiceFlag
	timeout   time.Duration
	requestID string

	credential credentialFlags
}

// newRootCommand returns the whole command tree. It does nothing until executed.
func newRootCommand(s streams) *cobra.Command {
	c := &cli{streams: s, output: newChoiceFlag("table", "table", "json", "yaml")}
	root := &cobra.Command{
		Use:   "fife",
		Short: "Canary releases in step across every edge",
		Long: `Canary releases in step across every edge.

Exit codes:
  0  done
  1  refused, or failed
  2  the command line is wrong
  3  no control plane node, or no leader, could be reached
  4  the change is made, but too few agents had it in time, or none is connected (--wait)
  5  the change may or may not have been made: repeat it with its request id
  6  the promotion was opened, but was aborted or has halted`,
		Example: `  fife status
  fife canary start demo/canary --percent 10 --wait`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd, "%v", err)
	})

	flags := root.PersistentFlags()
	flags.StringVarP(&c.server, "server", "s", "",
		"control plane `ADDRESSES`, HOST:PORT with commas between, tried in order\n(default $FIFE_SERVER, or "+defaultServer+")")
	flags.VarP(&c.output, "output", "o", "how to print: table, json or yaml")
	flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long one call may take, until the control plane has answered;\nwaiting for agents is bounded by --wait-timeout")
	flags.StringVar(&c.requestID, "request-id", "",
		"`ID` that makes a change safe to repeat (default a new UUID)")
	flags.StringVar(&c.context, "context", "", "`NAME` of the context that says what --server, --ca, --cert and so on do not\n(default $FIFE_CONTEXT, or without a server the current one)")
	c.credential.add(root)
	offer(root, "output", c.output.options...)

	root.AddCommand(
		newAPICommand(c),
		newRouteCommand(c),
		newDeployCommand(c),
		newDeploymentCommand(c),
		newStageCommand(c),
		newCanaryCommand(c),
		newSplitCommand(c),
		newAgentsCommand(c),
		newClusterCommand(c),
		newAuditCommand(c),
		newTokenCommand(c),
		newCertificateCommand(c),
		newCACommand(c),
		newAccessCommand(c),
		newAccessKeyCommand(c),
		newWhoAmICommand(c),
		newLoginCommand(c),
		newLogoutCommand(c),
		newContextCommand(c),
		newStatusCommand(c),
		newVersionCommand(c),
		newDevCommand(c),
	)
	c.finish(root)
	return root
}

// finish gives every command the checks and completions that its Use line asks
// for, and every group of commands an answer to a word that it does not know.
func (c *cli) finish(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2 // the default is set too late for checkArguments
	if cmd.Args == nil {
		cmd.Args = checkArguments
	}
	if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = c.completeArgument
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range cmd.Commands() {
		c.finish(sub)
	}
}

// newGroup returns a command that only holds others.
func newGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{Use: use, Short: short}
	group.AddCommand(commands...)
	return group
}
