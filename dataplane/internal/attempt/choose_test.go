package attempt

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// waiting is a client that waits.
type waiting struct{ staying }

func (waiting) Watch(exchange.Aborter) {}

// registryOf returns a registry that apply gives a service with a bulkhead for one, and endpoints with some ports.
func registryOf(t *testing.T) (r *upstream.Registry, apply func(ports ...uint32)) {
	t.Helper()
	r = upstream.NewRegistry(slog.New(slog.DiscardHandler))
	return r, func(ports ...uint32) {
		t.Helper()
		s := &configv1.Service{Id: "s", Name: "s", CircuitBreakerConfig: &configv1.CircuitBreakerConfig{
			Type: config.HystrixCircuit, MaxConcurrent: 1, MaxPending: 1,
		}}
		for _, p := range ports {
			s.Endpoints = append(s.Endpoints, &configv1.Endpoint{Host: "127.0.0.1", Port: p})
		}
		if problems := r.Apply(map[string]upstream.Definition{"s": {Service: s}}, nil); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
}

func attemptsAt(s *upstream.Service, perTry time.Duration) *Attempts {
	x := &exchange.Exchange{}
	x.Start = time.Now()
	x.Now, x.Down = x.Start, waiting{}
	x.Request.Method = "GET"
	return &Attempts{Exchange: x, Service: s, Retries: &config.Retries{Attempts: 2, PerTry: perTry, On: config.RetryReset,
		MinPerSecond: 10}}
}

// TestTryBeginsWithItsPlace has an attempt wait for a place for longer than per_try_timeout: its time, and what it is
// said to take, begin when it has one. So does the time for which the next one waits, when the one before has used its
// up.
func TestTryBeginsWithItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, apply := registryOf(t)
		defer r.Close()
		apply(1, 2)
		s := r.Get("s")
		const perTry = time.Second
		a := attemptsAt(s, perTry)
		for range 2 {
			holder := attemptsAt(s, 0)
			if !holder.Choose() {
				t.Fatal("there is no place for the first")
			}
			begun := time.Now()
			go func() {
				time.Sleep(3 * perTry)
				holder.Exchange.Tick()
				holder.end(holder.Exchange.Now)
			}()
			if !a.Choose() {
				t.Fatalf("there was no place: %v", a.verdict)
			}
			if now := time.Now(); now.Sub(begun) != 3*perTry || !a.Begun.Equal(now) || !a.Exchange.Until().Equal(now.Add(perTry)) {
				t.Errorf("chosen after %s, it has begun %s ago, and has %s", now.Sub(begun), now.Sub(a.Begun),
					a.Exchange.Until().Sub(now))
			}
			time.Sleep(2 * perTry)
			a.Exchange.Tick()
			a.end(a.Exchange.Now)
		}
		if n := s.Circuit().Status(time.Now()).Concurrent; n != 0 {
			t.Errorf("%d places are taken at the end", n)
		}
	})
}

// TestEndpointLeavesBackOff has the endpoint that was chosen for the next attempt be taken away, or ejected, while that
// one waits: another one gets it, with the same place in the circuit.
func TestEndpointLeavesBackOff(t *testing.T) {
	for _, ejected := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, apply := registryOf(t)
			defer r.Close()
			apply(1, 2, 3)
			s := r.Get("s")
			a := attemptsAt(s, 0)
			if !a.Choose() {
				t.Fatal("there is no endpoint")
			}
			first := a.Endpoint
			a.end(a.Exchange.Now)
			if _, ok := a.plan(config.RetryReset, 0, false, nil); !ok {
				t.Fatal("there is no retry")
			}
			next := a.next
			if ejected {
				next.State.SetHealthy(false)
			} else {
				var left []uint32
				for p := range uint32(3) {
					if p+1 != next.Port {
						left = append(left, p+1)
					}
				}
				apply(left...)
			}
			if !a.Choose() || a.Endpoint == next || a.Endpoint == first {
				t.Errorf("it goes to %s after %s, where %s has left", a.Endpoint.Address(), first.Address(), next.Address())
			}
			if n := s.Circuit().Status(time.Now()).Concurrent; n != 1 {
				t.Errorf("%d places are taken", n)
			}
			a.Finish()
			if n := s.Circuit().Status(time.Now()).Concurrent; n != 0 {
				t.Errorf("%d places are taken at the end", n)
			}
		})
	}
}

// TestHedgesAreDecidedOnOnce has the delay of hedges become known only after an attempt has been chosen, as happens
// where that is done in a loop: that one is made, and no group beside it, which would wait for its place in the
// circuit.
func TestHedgesAreDecidedOnOnce(t *testing.T) {
	r, apply := registryOf(t)
	defer r.Close()
	apply(1)
	s := r.Get("s")
	a := attemptsAt(s, 0)
	a.Retries.HedgeAttempts, a.Retries.HedgeQuantile = 2, 0.5
	a.Request = Part{taken: true, Whole: true}
	if a.Several() || !a.Choose() {
		t.Fatal("it is not a single attempt")
	}
	a.Exchange.Now = a.Exchange.Now.Add(time.Second)
	for range 200 {
		s.Retries.Latencies.Add(a.Exchange.Now, time.Second)
	}
	if !a.Several() {
		t.Fatal("it is still not known when to hedge")
	}
	// Nobody listens at the port.
	if a.Send() || a.Exchange.Response.Code != fault.UpstreamUnavailable {
		t.Errorf("the response is %s", a.Exchange.Response.Code)
	}
	a.Finish()
	if n := s.Circuit().Status(time.Now()).Concurrent; n != 0 {
		t.Errorf("%d places are taken at the end", n)
	}
}

// breaking is a client that panics when it is watched.
type breaking struct{ staying }

func (breaking) Watch(exchange.Aborter) { panic("in a test") }

// TestPanicInAcquire has the wait for a connection panic: neither the endpoint nor the circuit counts the attempt any
// more.
func TestPanicInAcquire(t *testing.T) {
	r, apply := registryOf(t)
	defer r.Close()
	apply(1)
	s := r.Get("s")
	a := attemptsAt(s, 0)
	a.Exchange.Down = breaking{}
	a.Request = Part{taken: true, Whole: true}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing has panicked")
			}
		}()
		a.Send()
	}()
	if n := a.Endpoint.State.InFlight(); n != 1 {
		t.Errorf("%d requests are in flight before the end", n)
	}
	endpoint := a.Endpoint
	a.Discard()
	if n, places := endpoint.State.InFlight(), s.Circuit().Status(time.Now()).Concurrent; n != 0 || places != 0 {
		t.Errorf("%d requests are in flight, and %d places are taken at the end", n, places)
	}
}
