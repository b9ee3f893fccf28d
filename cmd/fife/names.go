package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// checkArguments compares a command's arguments with the words that follow its
// name in Use: API, API/STAGE, API/N, AGENT and PATH have a form of their own, [API]
// may be missing, any other word stands for any text.
func checkArguments(cmd *cobra.Command, args []string) error {
	kinds := strings.Fields(cmd.Use)[1:]
	required := len(kinds)
	for required > 0 && strings.HasPrefix(kinds[required-1], "[") {
		required--
	}
	if cmd.HasSubCommands() && len(args) > 0 {
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usagef(cmd, "there is no command %q; did you mean %s?", cmd.CommandPath()+" "+args[0], strings.Join(near, " or "))
		}
		return usagef(cmd, "there is no command %q", cmd.CommandPath()+" "+args[0])
	}
	if len(args) < required || len(args) > len(kinds) {
		wants := "no arguments"
		if len(kinds) > 0 {
			wants = strings.Join(kinds, " ")
		}
		got := "none were given"
		if len(args) > 0 {
			got = fmt.Sprintf("got %d: %s", len(args), strings.Join(args, " "))
		}
		return usagef(cmd, "%q takes %s, but %s", cmd.CommandPath(), wants, got)
	}
	for i, arg := range args {
		if err := checkArgument(kinds[i], arg); err != nil {
			return usagef(cmd, "%v", err)
		}
	}
	return nil
}

func checkArgument(kind, arg string) error {
	parent, child, slash := strings.Cut(arg, "/")
	plain := func(id string) bool { return id != "" && !strings.ContainsAny(id, "/ \t\n") }
	switch strings.Trim(kind, "[]") {
	case "API":
		if !plain(arg) {
			return fmt.Errorf("%q is not the name of an API; write it as demo", arg)
		}
	case "AGENT":
		if !plain(arg) {
			return fmt.Errorf("%q is not the id of an agent; write it as edge-1", arg)
		}
	case "API/STAGE":
		if !slash || !plain(parent) || !plain(child) {
			return fmt.Errorf("%q is not API/STAGE; write it as demo/canary", arg)
		}
	case "API/N":
		n, err := strconv.ParseUint(child, 10, 63)
		if !slash || !plain(parent) || err != nil || n == 0 {
			return fmt.Errorf("%q is not API/N, N being a deployment's number; write it as demo/3", arg)
		}
	case "PATH":
		if !strings.HasPrefix(arg, "/") {
			return fmt.Errorf("path %q does not begin with a slash; write it as /%s", arg, arg)
		}
	}
	return nil
}

// The next four take arguments that checkArguments has let through.

func apiName(api string) string { return "apis/" + api }

func stageName(arg string) string {
	api, stage, _ := strings.Cut(arg, "/")
	return apiName(api) + "/stages/" + stage
}

func deploymentName(arg string) string {
	api, number, _ := strings.Cut(arg, "/")
	return apiName(api) + "/deployments/" + number
}

// deploymentOf names a deployment of a stage's API by its number. Zero, which
// no deployment has, gives no name.
func deploymentOf(arg string, number uint64) string {
	if number == 0 {
		return ""
	}
	api, _, _ := strings.Cut(arg, "/")
	return deploymentName(fmt.Sprintf("%s/%d", api, number))
}

// short writes a resource name as it is typed: demo, demo/canary, demo/3, edge-1.
func short(name string) string {
	parts := strings.Split(name, "/")
	var ids []string
	for i := 1; i < len(parts); i += 2 {
		ids = append(ids, parts[i])
	}
	if len(ids) == 0 {
		return name
	}
	return strings.Join(ids, "/")
}

// number writes a deployment's name as its number, for where the API is plain.
func number(deployment string) string {
	return deployment[strings.LastIndex(deployment, "/")+1:]
}

// versionText writes a version as EPOCH.INDEX, and a missing one as nothing.
func versionText(v *fifev1.Version) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%d.%d", v.GetEpoch(), v.GetIndex())
}
