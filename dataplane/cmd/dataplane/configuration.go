package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/handover"
	"gateway.internal/dataplane/internal/runtime"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// configuration brings configuration to the node, while it runs. One goroutine uses it.
type configuration struct {
	follower *follow.Follower // nil: it comes from files
	metrics  prometheus.Collector
	run      func(context.Context)
	cancel   context.CancelFunc // nil: it does not run
	done     chan struct{}
}

// notReady returns why the node is not ready though it has a configuration; "": it is.
func (c *configuration) notReady() string {
	if c.follower == nil {
		return ""
	}
	return c.follower.NotReady()
}

// degraded returns what of the configuration does not work. What files say is known whole, or refused.
func (c *configuration) degraded() []*streamv1.Problem {
	if c.follower == nil {
		return nil
	}
	return c.follower.Degraded()
}

// start does nothing when it runs already.
func (c *configuration) start() {
	if c.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.cancel, c.done = cancel, done
	go func() {
		defer close(done)
		c.run(ctx)
	}()
}

// How long a process that replaces another one waits for its first configuration, which is less than it is itself
// waited for, and then for the endpoints that were discovered, which may be unknown to control planes too.
const (
	firstConfiguration = handover.StepTimeout / 4
	firstEndpoints     = 5 * time.Second
)

// bring starts it before this process serves, and waits until the node has what a control plane has. The data folder is
// written to, so it must be nobody else's: a process that follows files leaves it alone, while one that follows control
// planes would lose what it adds there after it has gone on.
func (c *configuration) bring(ctx context.Context, node *runtime.Runtime) error {
	c.start()
	// A control plane that nothing was applied to yet sends revision 0, which is no configuration to replace another one
	// by.
	err := until(ctx, firstConfiguration, func() bool { return node.Snapshot() != nil && node.Snapshot().Revision > 0 })
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no control plane has sent one within %s", firstConfiguration)
	}
	if err != nil {
		return err
	}
	_ = until(ctx, firstEndpoints, node.Discovered)
	return ctx.Err()
}

// until waits for a condition. It looks now and then, which is good enough for what happens once in a process's life.
func until(ctx context.Context, timeout time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
	return nil
}

// pause ends it until the next start: nothing is written to the data folder any more.
func (c *configuration) pause() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
		c.cancel = nil
	}
}

// stop ends it for good.
func (c *configuration) stop() {
	c.pause()
	if c.follower != nil {
		c.follower.Close()
	}
}
