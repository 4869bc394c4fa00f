package discovery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/backoff"
)

const (
	// keepRest and keepShare bound what writing takes of the store: a write is followed by a rest of ten times as long as
	// it took, of 20 ms at least and a second at most. So a change is kept within some hundredths of a second, and
	// what changes often doesn't hold up commits.
	keepRest, keepShare, keepInterval = 20 * time.Millisecond, 10, time.Second
	// keepWait is the longest wait before a write, or a read, that failed is tried again; it doubles up to there.
	keepWait = 10 * time.Second
	// keepBatch and keepBatchBytes bound what is written in one step: so many services, and so many bytes, or one
	// service that has more.
	keepBatch, keepBatchBytes = 1000, 8 << 20
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
	refused map[string]bool              // ids of services whose newest answer the store does not take
}

func newKeeper(s store.Store, unsaved prometheus.Gauge, log *slog.Logger) *keeper {
	return &keeper{
		store: s, unsaved: unsaved, log: log, news: make(chan struct{}, 1), found: map[string]*store.Discovered{},
		refused: map[string]bool{},
	}
}

func (k *keeper) keep(d store.Discovered) { k.put(d.ServiceID, &d) }

func (k *keeper) forget(serviceID string) { k.put(serviceID, nil) }

func (k *keeper) put(serviceID string, d *store.Discovered) {
	k.mu.Lock()
	k.found[serviceID] = d
	delete(k.refused, serviceID)
	k.count()
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// count shows how many services wait to be written, or to be forgotten; the caller holds mu.
func (k *keeper) count() { k.unsaved.Set(float64(len(k.found) + k.writing + len(k.refused))) }

// read returns what the store keeps, once what comes after that is done too. It waits for the store; the error is
// ctx's.
func (k *keeper) read(ctx context.Context, after func(context.Context) error) ([]store.Discovered, error) {
	retry := backoff.Exponential{Least: keepInterval / 10, Most: keepWait}
	for failed := false; ; failed = true {
		known, err := k.store.Discovered(ctx)
		if err == nil {
			err = after(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return known, ctx.Err()
		}
		if !failed {
			k.log.Error("what discovery found before can't be read; endpoints are published once it is", "error", err.Error())
		}
		if !retry.Wait(ctx, nil) {
			return nil, ctx.Err()
		}
	}
}

// run writes until ctx ends, and what is left then.
func (k *keeper) run(ctx context.Context) {
	retry := backoff.Exponential{Least: keepInterval, Most: keepWait}
	for failed := false; ; {
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
			failed = false
			retry.Reset()
			backoff.Sleep(ctx, min(max(keepRest, keepShare*time.Since(begun)), keepInterval), nil)
		case ctx.Err() == nil:
			if !failed {
				k.log.Error("what discovery finds can't be kept for a restart; it is tried again", "error", err.Error())
			}
			failed = true
			retry.Wait(ctx, nil)
			select {
			case k.news <- struct{}{}:
			default:
			}
		}
	}
}

// write writes what there is, in steps, by service id. What could not be written because the store is away waits,
// unless something newer came.
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
	for _, ids := range batches(all) {
		if err := k.writeBatch(ctx, ids, all); err != nil {
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

// batches distributes services over steps, in the order of their ids.
func batches(all map[string]*store.Discovered) (steps [][]string) {
	var step []string
	size := 0
	for _, id := range slices.Sorted(maps.Keys(all)) {
		n := len(id)
		if d := all[id]; d != nil {
			n += len(d.Question)
			for _, e := range d.Endpoints {
				n += proto.Size(e)
			}
		}
		if len(step) > 0 && (len(step) == keepBatch || size+n > keepBatchBytes) {
			steps, step, size = append(steps, step), nil, 0
		}
		step, size = append(step, id), size+n
	}
	if len(step) > 0 {
		steps = append(steps, step)
	}
	return steps
}

// writeBatch writes some of all. A service that the store does not take, though it is there, keeps no other one from
// being written: that is found out by halves, logged, and not tried again with the same answer. An error says that the
// store is away.
func (k *keeper) writeBatch(ctx context.Context, ids []string, all map[string]*store.Discovered) error {
	var found []store.Discovered
	var gone []string
	for _, id := range ids {
		if d := all[id]; d != nil {
			found = append(found, *d)
		} else {
			gone = append(gone, id)
		}
	}
	err := k.store.KeepDiscovered(ctx, found, gone)
	switch {
	case err == nil, errors.Is(err, store.ErrUnavailable), ctx.Err() != nil:
		return err
	case len(ids) > 1:
		half := len(ids) / 2
		if err := k.writeBatch(ctx, ids[:half], all); err != nil {
			return err
		}
		return k.writeBatch(ctx, ids[half:], all)
	}
	k.log.Error("what discovery finds of a service can't be kept for a restart", "service_id", ids[0], "error", err.Error())
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, newer := k.found[ids[0]]; !newer {
		k.refused[ids[0]] = true
	}
	return nil
}
