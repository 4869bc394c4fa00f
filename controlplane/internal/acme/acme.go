// Package acme obtains certificates and renews them (RFC 8555), for every certificate of the configuration that says
// so. It is a client of the control plane like any other: it reads what the catalog publishes, commits what it obtained
// as revisions, and has challenges answered by the nodes, through routes that it adds for as long as a server asks
// (HTTP-01). It knows nothing of TLS on nodes, nor of who else changes the configuration; of several control planes one
// does the work, the one that has the lease.
package acme

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/controlplane/internal/catalog"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

const (
	// author is who the revisions are by.
	author = "acme"
	// leaseName is the lease of the control plane that does the work; leaseTTL is how long it takes until another one
	// follows one that died.
	leaseName = "acme"
	leaseTTL  = 10 * time.Second
	// maxOrders bounds how many certificates are ordered at once.
	maxOrders = 4
	// orderTimeout bounds one order, with all that it waits for.
	orderTimeout = 10 * time.Minute
	// nodesTimeout bounds how long nodes are waited for that do not answer.
	nodesTimeout = 30 * time.Second
	// settleTime is given to the nodes of other control planes, which this one does not hear of.
	settleTime = 2 * time.Second
	// firstRetry and lastRetry are the least and the most time between attempts; each failure triples it. Servers allow
	// few of them: Let's Encrypt five an hour for a host.
	firstRetry = time.Minute
	lastRetry  = 6 * time.Hour
	// askInterval is how often a server is asked when to renew, unless it says otherwise.
	askInterval = 6 * time.Hour
)

// Store is what control planes share.
type Store interface {
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, name, holder string) error
	Secret(ctx context.Context, name string, fresh func() ([]byte, error)) ([]byte, error)
}

// Nodes tells who is connected and what each runs.
type Nodes interface {
	Nodes() []*adminv1.Node
}

// Settings say where certificates come from.
type Settings struct {
	// DirectoryURL is the server's, where a certificate names none.
	DirectoryURL string
	// Contact is the mail address that servers are given; empty: none.
	Contact string
	// HTTP makes the requests to servers.
	HTTP *http.Client
}

// Keeper keeps certificates valid. Run does the work; its metrics may be collected at any time.
type Keeper struct {
	settings Settings
	catalog  *catalog.Catalog
	store    Store
	nodes    Nodes
	log      *slog.Logger
	holder   string
	settle   time.Duration // settleTime; tests have no other control planes

	obtained, failed prometheus.Counter

	mu       sync.Mutex // of what follows
	accounts map[string]*account
	leading  bool
	failures map[string]int // in a row, by the certificate's name
}

// New returns a keeper whose metrics are in a registry.
func New(s Settings, c *catalog.Catalog, st Store, n Nodes, log *slog.Logger, registry prometheus.Registerer) *Keeper {
	orders := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gateway_acme_orders_total", Help: "Orders of certificates, by how they ended."}, []string{"outcome"})
	k := &Keeper{
		settings: s, catalog: c, store: st, nodes: n, log: log, holder: uuid.NewString(), settle: settleTime,
		obtained: orders.WithLabelValues("obtained"), failed: orders.WithLabelValues("failed"),
		accounts: map[string]*account{}, failures: map[string]int{},
	}
	registry.MustRegister(orders, states{k})
	return k
}

// Run does the work whenever this control plane has the lease, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(leaseTTL / 3)
	defer tick.Stop()
	for {
		if k.stands() && k.acquire(ctx) {
			k.lead(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// stands reports whether this control plane is of use: where it has no nodes, another one may have some.
func (k *Keeper) stands() bool {
	if k.catalog.Current() == nil {
		return false
	}
	for _, n := range k.nodes.Nodes() {
		if n.GetConnected() {
			return true
		}
	}
	return false
}

func (k *Keeper) acquire(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaseTTL/3)
	defer cancel()
	held, err := k.store.Acquire(ctx, leaseName, k.holder, leaseTTL)
	return held && err == nil
}

// lead works until ctx ends or the lease is lost.
func (k *Keeper) lead(ctx context.Context) {
	k.setLeading(true)
	k.log.Info("acme: this control plane keeps certificates valid")
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		defer cancel()
		k.renewLease(ctx)
	})
	k.work(ctx)
	cancel()
	renewing.Wait()
	k.setLeading(false)
	late, cancelLate := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancelLate()
	_ = k.store.Release(late, leaseName, k.holder) // ends by itself otherwise
}

func (k *Keeper) setLeading(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leading = on
	clear(k.failures)
}

// renewLease returns when the lease is lost: not renewed for so long that another one may have it soon, or not wanted
// without nodes.
func (k *Keeper) renewLease(ctx context.Context) {
	tick := time.NewTicker(leaseTTL / 5)
	defer tick.Stop()
	renewed, useful := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		if k.acquire(ctx) {
			renewed = asked
		}
		if k.stands() {
			useful = asked
		}
		switch {
		case ctx.Err() != nil:
			return
		case time.Since(renewed) > leaseTTL*2/3:
			k.log.Warn("acme: the lease is lost; another control plane may go on")
			return
		case time.Since(useful) > nodesTimeout:
			k.log.Warn("acme: no node is connected here; another control plane may go on")
			return
		}
	}
}

// task is one certificate that is kept valid. The goroutine of work owns it, except while it is under way.
type task struct {
	name     string
	desired  string // what is asked for; a new one is looked at at once
	next     time.Time
	failures int
	underway bool
	renewal  renewal
}

// result is what came of an attempt.
type result struct {
	id      string
	name    string
	err     error
	next    time.Time // when to look again; not with err
	renewal renewal
}

// work keeps all certificates valid until ctx ends, and waits for what it began.
func (k *Keeper) work(ctx context.Context) {
	if err := k.sweep(ctx); err != nil {
		k.log.Warn("acme: challenges of earlier orders can't be removed", "error", err.Error())
	}
	if !sleep(ctx, k.settle) { // nodes that lost their control plane are on their way
		return
	}
	tasks, results := map[string]*task{}, make(chan result)
	running := 0
	var all sync.WaitGroup
	defer all.Wait()
	for {
		changed := k.catalog.Changed()
		now, wake := time.Now(), time.Now().Add(time.Hour)
		for id, m := range k.desiredCertificates(tasks) {
			t := tasks[id]
			switch {
			case t.underway:
			case t.next.After(now):
				wake = earlier(wake, t.next)
			case running < maxOrders:
				running++
				t.underway = true
				before := t.renewal
				all.Go(func() {
					r := k.attend(ctx, m, before)
					select {
					case results <- r:
					case <-ctx.Done():
					}
				})
			}
		}
		timer := time.NewTimer(time.Until(wake))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-timer.C:
		case r := <-results:
			running--
			k.settleTask(tasks[r.id], r)
		}
		timer.Stop()
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// desiredCertificates returns the certificates to keep valid by id, and brings tasks in line with them.
func (k *Keeper) desiredCertificates(tasks map[string]*task) map[string]*configv1.Certificate {
	wanted := map[string]*configv1.Certificate{}
	for e := range k.catalog.Current().Config.All(config.Certificate) {
		m := e.Message.(*configv1.Certificate)
		if m.GetAcme() == nil {
			continue
		}
		wanted[e.ID()] = m
		t := tasks[e.ID()]
		if t == nil {
			t = &task{name: m.GetName()}
			tasks[e.ID()] = t
		}
		if t.name != m.GetName() {
			k.setFailures(t.name, 0)
			t.name = m.GetName()
			k.setFailures(t.name, t.failures)
		}
		if desired := k.desired(m); t.desired != desired && !t.underway {
			t.desired, t.next, t.failures = desired, time.Time{}, 0
			k.setFailures(m.GetName(), 0)
		}
	}
	for id, t := range tasks {
		if wanted[id] == nil && !t.underway {
			delete(tasks, id)
			k.setFailures(t.name, 0)
		}
	}
	return wanted
}

// settleTask notes what came of an attempt. The certificate may be gone meanwhile.
func (k *Keeper) settleTask(t *task, r result) {
	t.underway, t.renewal = false, r.renewal
	if r.err == nil {
		t.failures, t.next = 0, r.next
		k.setFailures(r.name, 0)
		return
	}
	t.failures++
	wait := backOff(t.failures)
	t.next = time.Now().Add(wait)
	k.setFailures(r.name, t.failures)
	k.log.Error("acme: a certificate can't be obtained", "certificate", r.name, "error", r.err.Error(), "failures", t.failures, "next_attempt_in", wait.Round(time.Second).String())
}

// sleep waits, and reports whether ctx is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// commit makes a revision. What it leaves may have no routes but those that it removes.
func (k *Keeper) commit(ctx context.Context, message string, edits func(v *catalog.Version) ([]config.Edit, error)) (uint32, error) {
	done, err := k.catalog.Commit(ctx, catalog.CommitRequest{Author: author, Message: message, AllowShrink: true, Edits: edits})
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return done.Version.Revision, nil
}
