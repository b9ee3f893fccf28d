// Package daemon is what Fife's daemons share around their work: settings from
// flags, environment and a file, logging, signals and exit codes.
package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes of a daemon.
const (
	exitOK    = 0
	exitError = 1 // it could not start, or stopped for a reason of its own
	exitUsage = 2 // a flag, variable or file is wrong
)

// usageError marks an error that is the user's settings' fault.
type usageError struct{ error }

// Usage marks an error as one of settings, for the exit code.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// Command returns the command of a daemon: run is called once the settings are
// complete, with a context that ends at SIGTERM or SIGINT. Flags are added by the
// caller.
func Command(use, short, long string, run func(context.Context, *slog.Logger) error) *cobra.Command {
	var level slog.Level
	var format string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		Version: Build(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var above *pflag.FlagSet
			if cmd.HasParent() {
				above = cmd.Parent().Flags()
			}
			if err := loadSettings(cmd.Flags(), above, os.LookupEnv); err != nil {
				return usageError{err}
			}
			logger, err := newLogger(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return usageError{err}
			}
			return run(cmd.Context(), logger)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	cmd.Flags().String(configFlag, "", "YAML file with settings; flags win over FIFE_... variables, these over the file")
	cmd.Flags().TextVar(&level, "log-level", slog.LevelInfo, "least level to log: debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

func newLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q must be text or json", format)
}

// Main runs a command and returns the process's exit code. An error is one line.
func Main(cmd *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", cmd.Name(), err) // nowhere else to say it
	if _, ok := err.(usageError); ok {                                 //nolint:errorlint // only the outermost error is marked
		return exitUsage
	}
	return exitError
}

// Build returns the version that the binary was built from.
func Build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
