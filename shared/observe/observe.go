// Package observe sets up what every binary tells of itself: logs, metrics and its version.
package observe

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gateway.internal/shared/terminal"
)

// What the linker sets (-X): the release, or the nearest one and the distance to it; the commit; and its date.
var version, commit, date string

// Version returns the build's version: that of the release, else the commit, else "dev".
func Version() string {
	if version != "" {
		return version
	}
	if c := Commit(); len(c) >= 12 {
		return c[:12]
	}
	return "dev"
}

// Commit returns the commit that the build is of, or "".
func Commit() string {
	if commit == "" {
		return setting("vcs.revision")
	}
	return commit
}

// Date returns when that commit was made (RFC 3339), or "".
func Date() string {
	if date == "" {
		return setting("vcs.time")
	}
	return date
}

// Build returns version, commit, date and Go's version in one line.
func Build() string {
	line := Version()
	for _, part := range []string{Commit(), Date(), runtime.Version()} {
		if part != "" && part != Version() {
			line += " " + part
		}
	}
	return line
}

func setting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// Logger returns a logger. level is debug, info, warn or error; format is text or json.
func Logger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return nil, fmt.Errorf("log level %q: has to be debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escapingWriter{w}, opts)), nil
	}
	return nil, fmt.Errorf("log format %q: has to be text or json", format)
}

// escapingWriter writes JSON that a terminal does not obey; text has it from slog itself.
type escapingWriter struct{ io.Writer }

// Write takes whole values, as slog's handlers write them.
func (w escapingWriter) Write(b []byte) (int, error) {
	if _, err := w.Writer.Write(terminal.JSON(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Registry returns a registry with the process's own metrics.
func Registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_build_info", Help: "1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": Version(), "commit": Commit(), "date": Date(), "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
