// Package shutdown takes a process to its end after SIGTERM or SIGINT, so that those who send to it notice before it
// refuses anything.
package shutdown

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// MaxDelay is the longest --shutdown-delay.
const MaxDelay = time.Hour

// Stages are the three stages of a process's end. A further signal skips what is left of the one before. They are safe
// for concurrent use.
type Stages struct {
	// Asked is over at the first signal: the process is not ready any more, and serves whoever comes all the same.
	Asked context.Context
	// Closing is over after the delay, or after Close: no connection is accepted any more.
	Closing context.Context
	// Cutting is over at a signal after that: what is under way is cut.
	Cutting context.Context

	close context.CancelFunc // ends Closing
}

// Close ends Asked and Closing without a signal or a delay.
func (s *Stages) Close() { s.close() }

// run goes through the stages until ctx is over.
func (s *Stages) run(ctx context.Context, signals <-chan os.Signal, delay time.Duration, ask, cut context.CancelFunc) {
	defer s.close()
	select {
	case <-ctx.Done():
	case <-s.Closing.Done():
	case <-signals:
		ask()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-s.Closing.Done():
		case <-signals:
		case <-timer.C:
		}
	}
	s.close()
	select {
	case <-ctx.Done():
	case <-signals:
		cut()
	}
}

// OnSignals begins to listen to signals; end stops that. A ctx that is over is as good as a signal and the delay.
func OnSignals(ctx context.Context, delay time.Duration) (s *Stages, end func()) {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	s, finish := newStages(ctx, signals, delay)
	return s, func() {
		signal.Stop(signals)
		finish()
	}
}

func newStages(ctx context.Context, signals <-chan os.Signal, delay time.Duration) (s *Stages, finish func()) {
	s = &Stages{}
	cutting, cut := context.WithCancel(context.WithoutCancel(ctx))
	s.Cutting = cutting
	s.Closing, s.close = context.WithCancel(ctx)
	asked, ask := context.WithCancel(s.Closing)
	s.Asked = asked
	running, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(running, signals, delay, ask, cut)
	}()
	return s, func() {
		end()
		<-done
		ask()
		cut()
	}
}
