package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout keeps the shell from hanging on a control plane that is
// away: no names are offered then.
const completionTimeout = 2 * time.Second

// offer completes a flag with fixed words.
func offer(cmd *cobra.Command, flag string, words ...string) {
	register(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// offerStages completes a flag with the stages of the API that is the first
// argument.
func (c *cli) offerStages(cmd *cobra.Command, flag string) {
	register(cmd, flag, func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []cobra.Completion
		for _, name := range c.stageNames(cmd, args[0]) {
			_, id, _ := strings.Cut(name, "/")
			ids = append(ids, id)
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	})
}

func register(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the constructor names a flag that it did not define
	}
}

// completeArgument offers the names that the command's Use line asks for next.
func (c *cli) completeArgument(cmd *cobra.Command, args []string, typed string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	kinds := strings.Fields(cmd.Use)[1:]
	if len(args) < len(kinds) && cmd.Name() != "create" { // which wants a new name
		switch strings.Trim(kinds[len(args)], "[]") {
		case "API":
			names = c.apiNames(cmd)
		case "API/STAGE":
			names = c.stageNames(cmd, "-")
		case "AGENT":
			names = c.agentNames(cmd)
		case "METHOD":
			names = []cobra.Completion{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ANY"}
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, typed) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) apiNames(cmd *cobra.Command) (names []string) {
	for _, api := range quietly(c, cmd, listAPIs).GetApis() {
		names = append(names, short(api.GetName()))
	}
	return names
}

// stageNames returns API/STAGE of each stage of an API; "-" is all APIs.
func (c *cli) stageNames(cmd *cobra.Command, api string) (names []string) {
	for _, stage := range quietly(c, cmd, listStages(api)).GetStages() {
		names = append(names, short(stage.GetName()))
	}
	return names
}

func (c *cli) agentNames(cmd *cobra.Command) (names []string) {
	for _, agent := range quietly(c, cmd, listAgents("")).GetAgents() {
		names = append(names, short(agent.GetName()))
	}
	return names
}

// quietly makes a reading call for a completion; a failure gives nothing.
func quietly[R any](c *cli, cmd *cobra.Command, call func(context.Context, *nodes) (R, error)) (none R) {
	c.timeout = min(c.timeout, completionTimeout)
	response, err := fetch(c, cmd, call)
	if err != nil {
		return none
	}
	return response
}
