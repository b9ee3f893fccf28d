package store

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger returns a logger for Raft that writes to l. Raft's own INFO is too
// talkative for an operator's: it becomes DEBUG.
func raftLogger(l *slog.Logger) hclog.Logger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	logger.RegisterSink(slogSink{l})
	return logger
}

type slogSink struct{ to *slog.Logger }

// Accept passes one record on.
func (s slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	l := slog.LevelDebug
	switch level {
	case hclog.Warn:
		l = slog.LevelWarn
	case hclog.Error:
		l = slog.LevelError
	}
	if name != "" {
		args = append([]any{"raft", name}, args...)
	}
	s.to.Log(context.Background(), l, msg, args...)
}
