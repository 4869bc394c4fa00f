// Package share tells other nodes of circuits that have opened, and opens those of this node when others have, through
// Redis. It knows circuits by their service's name, which is the same on all nodes, and no requests. Nothing waits for
// it: without Redis each node goes on alone.
package share

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/redis"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/shared/backoff"
)

// How long a node waits before it connects again.
const (
	leastWait = 100 * time.Millisecond
	mostWait  = 15 * time.Second
)

// Sharing shares a node's circuits. Its methods are safe for concurrent use, Run excepted.
type Sharing struct {
	redis *redis.Client
	log   *slog.Logger
	node  uint64
	// lookInterval is how often some of the keys are read, and the connection that listens is tried.
	lookInterval time.Duration
	wake         chan struct{} // something has to be written or read

	taken, invalid atomic.Uint64
	openings       uint64 // that were shared; Run's goroutine counts them

	mu     sync.Mutex
	byID   map[string]*entry
	byHash map[string]*entry
}

// entry is one service's circuit. Run's goroutine alone uses the last ones.
type entry struct {
	service string // its name
	hash    string // of the name
	circuit circuit.Circuit
	dirty   atomic.Bool // the circuit's state has changed
	unread  atomic.Bool // its key has not been read

	shared   circuit.Opening // the last opening of its own
	sharedOf uint64          // the circuit's number of that
	written  uint64          // the circuit's number of what this session has written; 0: nothing
	value    string          // what was written last, while it may be there
}

// New returns a sharing without circuits, which does nothing before Run.
func New(client *redis.Client, log *slog.Logger) *Sharing {
	return &Sharing{
		redis: client, log: log, node: rand.Uint64(), lookInterval: lookInterval, wake: make(chan struct{}, 1),
		byID: map[string]*entry{}, byHash: map[string]*entry{},
	}
}

// Add shares the circuit of a service, which may be known already.
func (s *Sharing) Add(id, service string, c circuit.Circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[id]; e != nil {
		if e.circuit == c && e.service == service {
			return
		}
		s.remove(id)
	}
	e := &entry{service: service, hash: hashOf(service), circuit: c}
	s.byID[id], s.byHash[e.hash] = e, e
	e.unread.Store(true)
	c.Watch(func() { s.changed(e) })
	s.changed(e)
}

// Remove ends the sharing of a service's circuit. What others were told of it ends by itself.
func (s *Sharing) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(id)
}

func (s *Sharing) remove(id string) {
	e := s.byID[id]
	if e == nil {
		return
	}
	e.circuit.Watch(nil)
	delete(s.byID, id)
	if s.byHash[e.hash] == e {
		delete(s.byHash, e.hash)
	}
}

func (s *Sharing) changed(e *entry) {
	e.dirty.Store(true)
	select {
	case s.wake <- struct{}{}:
	default: // it will look
	}
}

func (s *Sharing) entries() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*entry, 0, len(s.byID))
	for _, e := range s.byID {
		all = append(all, e)
	}
	return all
}

// Run shares until ctx ends. It is called once.
func (s *Sharing) Run(ctx context.Context) {
	wait := backoff.Exponential{Least: leastWait, Most: mostWait}
	told := false
	for {
		err := s.session(ctx, func() {
			wait.Reset()
			told = false
			s.redis.Up()
			s.log.Info("connected to Redis, circuits are shared", "address", s.redis.Address())
		})
		if ctx.Err() != nil {
			return
		}
		s.redis.Failed()
		if !told {
			told = true
			s.log.Warn("Redis fails, circuits are not shared until it answers",
				"address", s.redis.Address(), "error", err.Error())
		}
		if !wait.Wait(ctx, nil) {
			return
		}
	}
}

// take opens the circuit of a service that another node has opened.
func (s *Sharing) take(e *entry, of circuit.Opening, left time.Duration) {
	if of.Node == s.node {
		return
	}
	now := time.Now()
	if e.circuit.Take(now, now.Add(left), of) {
		s.taken.Add(1)
		s.log.Info("another node has opened the circuit", "service", e.service, "left", left.String())
	}
}

// hear does what a message says.
func (s *Sharing) hear(text string) {
	m, ok := parseMessage(text)
	if !ok {
		s.invalid.Add(1)
		return
	}
	s.mu.Lock()
	e := s.byHash[m.hash]
	s.mu.Unlock()
	switch {
	case e == nil || m.of.Node == s.node:
	case m.closed:
		e.circuit.Drop(time.Now(), m.of)
	default:
		s.take(e, m.of, m.open)
	}
}

var (
	takenDesc = prometheus.NewDesc("gateway_circuit_breaker_shared_openings_total",
		"Circuits that this node has opened, or keeps open for longer, because another node has.", nil, nil)
	invalidDesc = prometheus.NewDesc("gateway_circuit_breaker_shared_invalid_total",
		"Values and messages in Redis about circuits that no node has written, and that were ignored.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Sharing) Describe(ch chan<- *prometheus.Desc) {
	ch <- takenDesc
	ch <- invalidDesc
}

// Collect implements prometheus.Collector.
func (s *Sharing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(takenDesc, prometheus.CounterValue, float64(s.taken.Load()))
	ch <- prometheus.MustNewConstMetric(invalidDesc, prometheus.CounterValue, float64(s.invalid.Load()))
}
