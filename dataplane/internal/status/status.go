// Package status is what a node says of itself to operators: metrics, liveness, readiness and what it runs.
package status

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gateway.internal/dataplane/internal/runtime"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/observe"
)

// Node is what is asked.
type Node interface {
	// Snapshot returns what the node runs, or nil.
	Snapshot() *runtime.Snapshot
	// Count returns the number of resources of a kind.
	Count(k config.Kind) int
}

// Options are the circumstances.
type Options struct {
	// Registry has the metrics.
	Registry *prometheus.Registry
	// Node is asked for its snapshot.
	Node Node
	// NotReady returns why the node takes no traffic besides having no snapshot: "" when there is no such reason.
	NotReady func() string
	// Degraded returns what of the configuration that the node runs does not work.
	Degraded func() []*streamv1.Problem
	// Profiling serves /debug/pprof/.
	Profiling bool
}

// Handler serves /metrics, /healthz, /readyz and /debug/config.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"status": "ok", "version": observe.Version()})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reason := o.NotReady()
		s := o.Node.Snapshot()
		if s == nil {
			reason = "no configuration has been applied yet"
		}
		if reason != "" {
			reply(w, 503, map[string]any{"status": "not ready", "reason": reason})
			return
		}
		ready := map[string]any{"status": "ready", "revision": s.Revision}
		if list := degraded(o); len(list) > 0 {
			ready["degraded"] = list
		}
		reply(w, 200, ready)
	})
	mux.HandleFunc("GET /debug/config", func(w http.ResponseWriter, _ *http.Request) {
		s := o.Node.Snapshot()
		if s == nil {
			reply(w, 200, map[string]any{"revision": nil})
			return
		}
		counts := map[string]int{}
		for _, k := range config.Kinds() {
			counts[k.Plural()] = o.Node.Count(k)
		}
		reply(w, 200, map[string]any{
			"revision": s.Revision, "epoch": s.Epoch, "hash": hex.EncodeToString(s.Hash[:]), "age_seconds": time.Since(s.AppliedAt).Seconds(), "resources": counts,
			"degraded": degraded(o),
		})
	})
	if o.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return mux
}

// degraded is what of the configuration does not work; never nil.
func degraded(o Options) []map[string]string {
	list := []map[string]string{}
	for _, p := range o.Degraded() {
		one := map[string]string{"reason": p.GetReason()}
		for name, value := range map[string]string{"kind": p.GetKind(), "name": p.GetName(), "field": p.GetField()} {
			if value != "" {
				one[name] = value
			}
		}
		list = append(list, one)
	}
	return list
}

func reply(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
