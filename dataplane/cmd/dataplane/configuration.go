package main

import (
	"context"

	"gateway.internal/dataplane/internal/follow"
)

// configuration brings configuration to the node, while it runs. One goroutine uses it.
type configuration struct {
	follower *follow.Follower // nil: it comes from files
	run      func(context.Context)
	cancel   context.CancelFunc // nil: it does not run
	done     chan struct{}
}

func (c *configuration) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.cancel, c.done = cancel, done
	go func() {
		defer close(done)
		c.run(ctx)
	}()
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
