package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/ratelimit/remote"
	"gateway.internal/dataplane/internal/redis"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/upstream/circuit/share"
	"gateway.internal/shared/identity"
)

// share begins to share circuits through Redis, where there is one, and returns what counts requests there, and what
// ends both. Redis need not answer.
func (o *options) share(
	log *slog.Logger, registry *prometheus.Registry, services *upstream.Registry,
) (*remote.Store, func(), error) {
	if o.redis == "" {
		return nil, func() {}, nil
	}
	var files *identity.Reloader
	if o.redisTLS != (identity.Files{}) {
		var err error
		if files, err = identity.NewReloader(o.redisTLS, log); err != nil {
			return nil, nil, fmt.Errorf("--redis-ca, --redis-cert, --redis-key: %w", err)
		}
	}
	client, err := redis.NewWith(o.redis, files)
	if err != nil {
		return nil, nil, fmt.Errorf("--redis: %w", err)
	}
	sharing := share.New(client, log)
	services.ShareCircuits(sharing)
	registry.MustRegister(client, sharing)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { sharing.Run(ctx) })
	counting := remote.New(client, log)
	return counting, func() {
		cancel()
		counting.Close()
		running.Wait()
		_ = client.Close()
	}, nil
}
