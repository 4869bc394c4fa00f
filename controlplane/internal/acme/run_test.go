package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

type running struct {
	*Keeper
	stop func()
}

func run(t *testing.T, k *Keeper) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = k.Run(ctx)
	}()
	r := &running{k, sync.OnceFunc(func() {
		cancel()
		<-done
	})}
	t.Cleanup(r.stop)
	return r
}

func (k *Keeper) leads() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leading
}

func (k *Keeper) failuresOf(name string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failures[name]
}

type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("the server is away")
}

func TestOneOfSeveralDoesTheWork(t *testing.T) {
	with, without := &fleet{}, &fleet{}
	with.set(node("n", 1))
	a := keeper(t, with)
	a.settings.HTTP = &http.Client{Transport: unreachable{}}
	a.apply(t, put(&configv1.Certificate{Name: "shop", Hosts: []string{"a.example"}, Acme: &configv1.ACME{}}))
	b := New(a.settings, a.catalog, a.store, with, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	c := New(a.settings, a.catalog, a.store, without, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	b.settle = 0
	ra, rb, rc := run(t, a), run(t, b), run(t, c)
	first, second := ra, rb
	waittest.UntilNil(t, "one that leads", func() error {
		if !ra.leads() && !rb.leads() {
			return errors.New("none does")
		}
		return nil
	})
	if rb.leads() {
		first, second = rb, ra
	}
	await := func(k *running, failures int) {
		t.Helper()
		waittest.UntilNil(t, "attempts", func() error {
			if n := k.failuresOf("shop"); n != failures || !k.leads() {
				return fmt.Errorf("%d failures in a row, leads: %v", n, k.leads())
			}
			return nil
		})
	}
	await(first, 1)
	if second.leads() || rc.leads() {
		t.Error("two do the work")
	}
	if got := testutil.ToFloat64(first.failed); got != 1 {
		t.Errorf("%v orders have failed", got)
	}
	// Who wishes for something else does not have to wait until the next attempt.
	changed := time.Now()
	first.apply(t, put(&configv1.Certificate{Name: "shop", Hosts: []string{"b.example"}, Acme: &configv1.ACME{}}))
	waittest.UntilNil(t, "another attempt", func() error {
		if got := testutil.ToFloat64(first.failed); got != 2 {
			return fmt.Errorf("%v orders have failed", got)
		}
		return nil
	})
	if took := time.Since(changed); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	first.stop()
	if first.leads() {
		t.Error("it leads after its end")
	}
	await(second, 1)
	second.apply(t, config.Edit{Kind: config.Certificate, Delete: "shop"})
	await(second, 0)
	second.stop()
	if rc.leads() {
		t.Error("one without nodes does the work")
	}
}
