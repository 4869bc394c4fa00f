package pipeline

import (
	"log/slog"
	"time"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/ratelimit"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
)

// Environment is what a node gives a step besides its settings.
type Environment struct {
	// Name is the middleware's.
	Name string
	// Log takes what operators have to know, never once a request. Its lines have the middleware's name.
	Log *slog.Logger
	// Now is the clock. Timers are package time's, which tests stop by testing/synctest.
	Now func() time.Time
	// Metrics are the middleware's own. Their names begin with "gateway_TYPE_", and their first label is "middleware",
	// with its name; they go on where the middleware is made anew, and end with the last snapshot that has it.
	Metrics *telemetry.Set
	// Live keeps what outlives the step: see live.Keep. What belongs to one middleware has its Name in its key.
	Live *live.Store
	// Limits counts requests against limits.
	Limits *ratelimit.Node
	// Egress asks servers that settings name by URL, such as identity providers, within the node's policy.
	Egress *egress.Client
	// Service returns what asks the service with an id; nil: there is no such service. References in settings are ids.
	Service func(id string) *subrequest.Client
	// Consumers returns the client applications as they are now. It takes no lock; each exchange asks anew.
	Consumers func() *consumer.Set
}
