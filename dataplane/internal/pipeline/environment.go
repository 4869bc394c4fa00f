package pipeline

import (
	"log/slog"

	"gateway.internal/dataplane/internal/subrequest"
)

// Environment is what a node gives a step besides its settings. A step that needs nothing of it may get nil.
type Environment struct {
	// Name is the middleware's.
	Name string
	// Log takes what operators have to know, never once a request.
	Log *slog.Logger
	// Service returns what asks the service with an id; nil: there is no such service. References in settings are ids.
	Service func(id string) *subrequest.Client
}
