// Package etcd discovers services that are registered in etcd: every key under a prefix is one instance, whose value is
// JSON with id, name, tags, address, port, meta and weight. However many services there are, one listing and one watch
// serve them all.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"

	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/shared/backoff"
)

const (
	// pageSize is how many registrations one call of a listing reads.
	pageSize = 5000
	// callTimeout is for one call.
	callTimeout = 5 * time.Second
	// The wait before another try doubles from shortWait to longWait; a watch that lived for steady starts anew.
	shortWait, longWait, steady = 100 * time.Millisecond, 2 * time.Second, 10 * time.Second
	// settle is the least time between two answers: registrations that come in crowds are told together.
	settle = 50 * time.Millisecond
)

// Source follows one etcd cluster.
type Source struct {
	settings Settings
	queries  chan map[string]discovery.Query // the newest that was not taken yet
}

var _ discovery.Source = (*Source)(nil)

// New returns a source that does nothing before Run. The error says which setting is wrong.
func New(s Settings) (*Source, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return &Source{settings: s, queries: make(chan map[string]discovery.Query, 1)}, nil
}

// Name implements discovery.Source.
func (s *Source) Name() string { return "etcd" }

// Question implements discovery.Source: the name of the registrations, and the tags that they have to carry, in any
// order.
func (s *Source) Question(q discovery.Query) string {
	tags := slices.Sorted(slices.Values(q.Discovery.GetEtcd().GetTags()))
	return fmt.Sprintf("%q %q", nameOf(q), slices.Compact(tags))
}

// Follow implements discovery.Source.
func (s *Source) Follow(queries map[string]discovery.Query) {
	select {
	case <-s.queries:
	default:
	}
	s.queries <- queries
}

// Run implements discovery.Source.
func (s *Source) Run(ctx context.Context, to *discovery.Report) {
	batches := make(chan batch)
	var running sync.WaitGroup
	running.Go(func() { s.follow(ctx, batches, to) })
	defer running.Wait()

	x := newIndex()
	var resting <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case queries := <-s.queries:
			x.follow(queries)
		case b := <-batches:
			for _, e := range x.apply(b) {
				to.Bad(e.key, e.bad)
			}
		case <-resting:
			resting = nil
		}
		if resting != nil {
			continue
		}
		if answers := x.answer(); answers != nil {
			to.Found(answers)
			resting = time.After(settle)
		}
	}
}

// follow reads everything and then watches, again and again, until ctx ends.
func (s *Source) follow(ctx context.Context, batches chan<- batch, to *discovery.Report) {
	var client *clientv3.Client
	defer func() {
		if client != nil {
			_ = client.Close()
		}
	}()
	retry := backoff.Exponential{Least: shortWait, Most: longWait}
	for {
		began := time.Now()
		var err error
		if client == nil {
			client, err = s.connect()
		}
		if err == nil {
			err = s.session(ctx, client, batches, to)
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, rpctypes.ErrCompacted) { // that is no fault: what was missed is read again
			to.Down(err)
		}
		if time.Since(began) > steady {
			retry.Reset()
		}
		if !retry.Wait(ctx, nil) {
			return
		}
	}
}

func (s *Source) connect() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: s.settings.Endpoints, Username: s.settings.Username, Password: s.settings.Password, TLS: s.settings.TLS,
		DialTimeout: callTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, Logger: zap.NewNop(),
		// gRPC's own back-off grows to two minutes, for which an etcd that is back would not be noticed.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{BaseDelay: shortWait, Multiplier: 2, Jitter: 0.2, MaxDelay: longWait}, MinConnectTimeout: callTimeout,
		})},
	})
}

var (
	errConnectionLost = errors.New("the connection was lost")
	errOtherCluster   = errors.New("another cluster answers, or an older state of this one")
	errWatchEnded     = errors.New("the watch has ended")
)

// session reads everything and watches from there until something goes wrong.
//
// A lost connection ends it, although the client could resume the watch by itself: a server that comes back with an
// older or another state would leave the watch waiting for a revision in its future.
func (s *Source) session(ctx context.Context, client *clientv3.Client, batches chan<- batch, to *discovery.Report) error {
	all, at, err := s.list(ctx, client)
	if err != nil {
		return fmt.Errorf("list %s: %w", s.settings.Prefix, err)
	}
	if err := send(ctx, batches, batch{whole: true, events: all}); err != nil {
		return err
	}
	return s.watch(ctx, client, at, batches, to.Up)
}

// position is where in a cluster's history a reader is.
type position struct {
	cluster  uint64
	revision int64
}

// list reads all registrations, as of one revision.
func (s *Source) list(ctx context.Context, client *clientv3.Client) ([]event, position, error) {
	var all []event
	var at position
	from, end := s.settings.Prefix, clientv3.GetPrefixRangeEnd(s.settings.Prefix)
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := client.Get(call, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(at.revision))
		cancel()
		if err != nil {
			return nil, position{}, err
		}
		if at.revision == 0 {
			at = position{page.Header.GetClusterId(), page.Header.GetRevision()}
		}
		for _, kv := range page.Kvs {
			all = append(all, put(kv.Key, kv.Value, kv.ModRevision))
		}
		if !page.More || len(page.Kvs) == 0 {
			return all, at, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func put(key, value []byte, revision int64) event {
	f, err := parse(value)
	if err != nil {
		return event{key: string(key), revision: revision, bad: err}
	}
	f.revision = revision
	return event{key: string(key), revision: revision, found: f}
}

// watch passes on what happens after a position until something goes wrong. It is rpctypes.ErrCompacted when the
// history from there is gone.
func (s *Source) watch(ctx context.Context, client *clientv3.Client, at position, batches chan<- batch, established func()) error {
	watching, stop := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop(nil)
	running.Go(func() {
		if client.ActiveConnection().WaitForStateChange(watching, connectivity.Ready) {
			stop(errConnectionLost)
		}
	})
	answers := client.Watch(watching, s.settings.Prefix, clientv3.WithPrefix(), clientv3.WithRev(at.revision+1), clientv3.WithCreatedNotify(), clientv3.WithFragment())
	for a := range answers {
		if err := a.Err(); err != nil {
			return fmt.Errorf("watch %s: %w", s.settings.Prefix, cause(watching, err))
		}
		if a.Header.GetClusterId() != at.cluster || a.Header.GetRevision() < at.revision {
			return errOtherCluster
		}
		if a.Created {
			established()
		}
		events := make([]event, 0, len(a.Events))
		for _, e := range a.Events {
			if e.Type == clientv3.EventTypeDelete {
				events = append(events, event{key: string(e.Kv.Key), revision: e.Kv.ModRevision})
				continue
			}
			events = append(events, put(e.Kv.Key, e.Kv.Value, e.Kv.ModRevision))
		}
		if len(events) == 0 {
			continue
		}
		if err := send(ctx, batches, batch{events: events}); err != nil {
			return err
		}
	}
	return cause(watching, errWatchEnded)
}

// cause prefers the reason that this side had.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func send(ctx context.Context, batches chan<- batch, b batch) error {
	select {
	case batches <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
