package discovery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/store"
)

const (
	// keepRest and keepShare bound what writing takes of the store: a write is followed by a rest of ten times as long as
	// it took, of 20 ms at least and a second at most. So a change is kept within some hundredths of a second, and
	// what changes often doesn't hold up commits.
	keepRest, keepShare, keepInterval = 20 * time.Millisecond, 10, time.Second
	// keepWait is the longest wait before a write, or a read, that failed is tried again; it doubles up to there.
	keepWait = 10 * time.Second
	// keepBatch is how many services are written in one step.
	keepBatch = 1000
	// keepAtEnd is how long the last write may take, when the process ends.
	keepAtEnd = 2 * time.Second
)

// keeper writes what is found to the store, aside from whoever finds it, and reads it. While the store is away, what
// is to be written waits, the newest for each service.
type keeper struct {
	store   store.Store
	log     *slog.Logger
	unsaved prometheus.Gauge
	news    chan struct{}

	mu      sync.Mutex
	found   map[string]*store.Discovered // by service id; nil: it is to be forgotten
	writing int                          // how many services are being written
}

func newKeeper(s store.Store, unsaved prometheus.Gauge, log *slog.Logger) *keeper {
	return &keeper{
		store: s, unsaved: unsaved, log: log, news: make(chan struct{}, 1), found: map[string]*store.Discovered{},
	}
}

func (k *keeper) keep(d store.Discovered) { k.put(d.ServiceID, &d) }

func (k *keeper) forget(serviceID string) { k.put(serviceID, nil) }

func (k *keeper) put(serviceID string, d *store.Discovered) {
	k.mu.Lock()
	k.found[serviceID] = d
	k.count()
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// count shows how many services wait to be written, or to be forgotten; the caller holds mu.
func (k *keeper) count() { k.unsaved.Set(float64(len(k.found) + k.writing)) }

// read returns what the store keeps, once what comes after that is done too. It waits for the store; the error is ctx's.
func (k *keeper) read(ctx context.Context, after func(context.Context) error) ([]store.Discovered, error) {
	for wait := keepInterval / 10; ; wait = min(2*wait, keepWait) {
		known, err := k.store.Discovered(ctx)
		if err == nil {
			err = after(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return known, ctx.Err()
		}
		if wait == keepInterval/10 {
			k.log.Error("what discovery found before can't be read; endpoints are published once it is", "error", err.Error())
		}
		if !rest(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// run writes until ctx ends, and what is left then.
func (k *keeper) run(ctx context.Context) {
	failed := false
	for wait := keepInterval; ; {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepAtEnd)
			defer cancel()
			if err := k.write(last); err != nil {
				k.log.Error("what discovery found last is not kept for a restart", "error", err.Error())
			}
			return
		case <-k.news:
		}
		begun := time.Now()
		err := k.write(ctx)
		switch {
		case err == nil:
			wait, failed = min(max(keepRest, keepShare*time.Since(begun)), keepInterval), false
		case ctx.Err() == nil:
			if !failed {
				k.log.Error("what discovery finds can't be kept for a restart; it is tried again", "error", err.Error())
			}
			wait, failed = min(2*max(wait, keepInterval/2), keepWait), true
			select {
			case k.news <- struct{}{}:
			default:
			}
		}
		rest(ctx, wait)
	}
}

// write writes what there is, in steps. What could not be written waits, unless something newer came.
func (k *keeper) write(ctx context.Context) error {
	k.mu.Lock()
	all := k.found
	k.found, k.writing = map[string]*store.Discovered{}, len(all)
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.writing = 0
		k.count()
	}()
	for len(all) > 0 {
		var found []store.Discovered
		var gone, ids []string
		for id, d := range all {
			if len(ids) == keepBatch {
				break
			}
			ids = append(ids, id)
			if d == nil {
				gone = append(gone, id)
			} else {
				found = append(found, *d)
			}
		}
		if err := k.store.KeepDiscovered(ctx, found, gone); err != nil {
			k.mu.Lock()
			for id, d := range all {
				if _, newer := k.found[id]; !newer {
					k.found[id] = d
				}
			}
			k.mu.Unlock()
			return err
		}
		for _, id := range ids {
			delete(all, id)
		}
	}
	return nil
}

// rest waits, and reports whether ctx goes on.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
