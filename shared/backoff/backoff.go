// Package backoff knows how long to wait before something that failed is tried again.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Exponential waits for Least at most before the first try, twice as long before each further one, and never longer
// than Most. Of that up to a half is left to chance, so that those who failed together do not come back together. It
// belongs to one goroutine, which may change the fields between calls.
type Exponential struct {
	Least, Most time.Duration

	last time.Duration
}

// Next returns how long to wait before the next try.
func (e *Exponential) Next() time.Duration {
	e.last = min(max(2*e.last, e.Least), e.Most)
	return e.last/2 + rand.N(e.last/2+1)
}

// Reset says that a try was good.
func (e *Exponential) Reset() { e.last = 0 }

// Wait is Sleep for Next.
func (e *Exponential) Wait(ctx context.Context, wake <-chan struct{}) bool {
	return Sleep(ctx, e.Next(), wake)
}

// Sleep waits for d, or until something comes from wake, which may be nil, and reports false when ctx has ended.
func Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
