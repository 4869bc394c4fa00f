package main

import (
	"context"
	"fmt"
	"time"

	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/handover"
	"gateway.internal/dataplane/internal/runtime"
)

// configuration brings configuration to the node, while it runs. One goroutine uses it.
type configuration struct {
	follower *follow.Follower // nil: it comes from files
	run      func(context.Context)
	cancel   context.CancelFunc // nil: it does not run
	done     chan struct{}
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

// firstConfiguration is how long a process that replaces another one waits for its first configuration: a while less than it is waited for.
const firstConfiguration = handover.StepTimeout / 4

// bring starts it before this process serves, and waits until the node has a configuration. The data folder is written to, so it must be
// nobody else's: a process that follows files leaves it alone, while one that follows control planes would lose what it adds there after it has
// gone on.
func (c *configuration) bring(ctx context.Context, node *runtime.Runtime) error {
	c.start()
	within := time.After(firstConfiguration)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for node.Snapshot() == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-within:
			return fmt.Errorf("no control plane has sent one within %s", firstConfiguration)
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
