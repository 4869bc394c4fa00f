package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/redis"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/upstream/circuit/share"
)

// share begins to share circuits through Redis, where there is one, and returns what ends it. Redis need not answer.
func (o *options) share(log *slog.Logger, registry *prometheus.Registry, services *upstream.Registry) (func(), error) {
	if o.redis == "" {
		return func() {}, nil
	}
	client, err := redis.New(o.redis)
	if err != nil {
		return nil, fmt.Errorf("--redis: %w", err)
	}
	sharing := share.New(client, log)
	services.ShareCircuits(sharing)
	registry.MustRegister(client, sharing)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { sharing.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		_ = client.Close()
	}, nil
}
