package main

import (
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what the Go linker recorded of this binary. Its fields are empty
// where nothing was recorded.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Time     string `json:"time"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

func newVersionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the build of this command",
		Example: "  fife version",
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			b := buildOf(info)
			return c.print(b, func(w io.Writer) {
				row(w, "version", b.Version)
				row(w, "revision", b.Revision)
				row(w, "time", b.Time)
				row(w, "modified", yesNo(b.Modified))
				row(w, "go", b.Go)
			})
		},
	}
}

// buildVersion names this build towards others, as "v0.1.0" or "(devel)".
func buildVersion() string {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info).Version
}

func buildOf(info *debug.BuildInfo) build {
	if info == nil {
		return build{}
	}
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.time":
			b.Time = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}
