package upstream

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream/outcome"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// balanced returns a service of a node in the zone "a".
func balanced(t *testing.T, s *configv1.Service) (*Service, *Registry) {
	t.Helper()
	r := NewRegistry(slog.New(slog.DiscardHandler))
	r.OnNode(map[string]string{"zone": "a"})
	t.Cleanup(r.Close)
	s.Name = "s"
	if problems := r.Apply(map[string]Definition{"1": {Service: s}}, nil); len(problems) > 0 {
		t.Fatal(problems)
	}
	return r.Get("1"), r
}

func endpoint(port uint32, labels ...string) *configv1.Endpoint {
	e := &configv1.Endpoint{Host: "127.0.0.1", Port: port, Labels: map[string]string{}}
	for i := 0; i+1 < len(labels); i += 2 {
		e.Labels[labels[i]] = labels[i+1]
	}
	return e
}

// shares returns the ports that a thousand requests go to.
func shares(s *Service) map[uint32]int {
	got := map[uint32]int{}
	for range 1000 {
		got[s.Pick(&exchange.Exchange{}, nil).Port]++
	}
	return got
}

func (s *Service) at(port uint32) *Endpoint {
	for _, e := range s.current.Load().endpoints {
		if e.Port == port {
			return e
		}
	}
	return nil
}

// TestSchedulesBeginAtDrawnPlaces looks at what gets the first request of many services.
func TestSchedulesBeginAtDrawnPlaces(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	t.Cleanup(r.Close)
	const services = 100
	all := map[string]Definition{}
	for i := range services {
		all[fmt.Sprint(i)] = Definition{Service: &configv1.Service{
			Name: fmt.Sprint("s", i), Endpoints: []*configv1.Endpoint{endpoint(1), endpoint(2), endpoint(3)},
		}}
	}
	if problems := r.Apply(all, nil); len(problems) > 0 {
		t.Fatal(problems)
	}
	first := map[uint32]int{}
	for i := range services {
		first[r.Get(fmt.Sprint(i)).Pick(&exchange.Exchange{}, nil).Port]++
	}
	if len(first) != 3 {
		t.Errorf("the first requests go to %v", first)
	}
}

// TestZonesAndPriorities takes endpoints away in turn: requests stay in the node's zone, then in the tier, and only
// then go to the next one.
func TestZonesAndPriorities(t *testing.T) {
	s, r := balanced(t, &configv1.Service{
		LoadBalancerConfig: &configv1.LoadBalancerConfig{ZoneLabel: "zone", PriorityLabel: "tier"},
		Endpoints: []*configv1.Endpoint{
			endpoint(1, "zone", "b"), endpoint(2, "zone", "a"), endpoint(3, "zone", "a"), endpoint(4), // the first tier
			endpoint(5, "zone", "a", "tier", "1"), endpoint(6, "tier", "1", "zone", "c"),
		},
	})
	for _, step := range []struct {
		what string
		down []uint32
		want string
	}{
		{"all are healthy", nil, "2:50 3:50"},
		{"half of the zone is", []uint32{2}, "1:15 3:70 4:15"},
		{"none of the zone is", []uint32{3}, "1:50 4:50"},
		{"half of the rest is", []uint32{1}, "4:70 5:30"},
		{"none of the tier is", []uint32{4}, "5:100"},
		{"nor of the zone in the next", []uint32{5}, "6:100"},
	} {
		for _, port := range step.down {
			s.at(port).State.SetHealthy(false)
		}
		got := shares(s)
		var text []string
		for port := uint32(1); port <= 6; port++ {
			if n := got[port]; n > 0 {
				text = append(text, fmt.Sprintf("%d:%d", port, (n+25)/50*5))
			}
		}
		if strings.Join(text, " ") != step.want {
			t.Errorf("%s: %s instead of %s (%v)", step.what, strings.Join(text, " "), step.want, got)
		}
	}
	// Labels are changed live: the endpoints stay what they are.
	before := s.at(6)
	again := &configv1.Service{
		Name: "s", Endpoints: []*configv1.Endpoint{endpoint(6, "tier", "0"), endpoint(1, "tier", "2")},
		LoadBalancerConfig: &configv1.LoadBalancerConfig{PriorityLabel: "tier"},
	}
	r.Apply(map[string]Definition{"1": {Service: again}}, nil)
	s.at(1).State.SetHealthy(true)
	if got := shares(s); s.at(6) != before || got[6] != 1000 {
		t.Errorf("after the change: %v", got)
	}
}

// TestSourcesOfKeys has requests that are told apart by each place: the same key leads to the same endpoint, others
// are spread.
func TestSourcesOfKeys(t *testing.T) {
	at := func(key int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(key >> 8), byte(key)}), uint16(key*7))
	}
	for _, c := range []struct {
		name, key string
		set       func(x *exchange.Exchange, key int)
	}{
		{"by default the client's address", ``, func(x *exchange.Exchange, key int) { x.Client = at(key) }},
		{"the client's address", `{"client_ip":true}`, func(x *exchange.Exchange, key int) { x.Client = at(key) }},
		{"a header field", `{"header":"X-User"}`, func(x *exchange.Exchange, key int) {
			x.Request.Header.Add("x-user", fmt.Sprint(key))
		}},
		{"a cookie", `{"cookie":{"name":"at"}}`, func(x *exchange.Exchange, key int) {
			x.Request.Header.Add("Cookie", "att=1; at="+fmt.Sprint(key)+"; b=c")
		}},
		{"the consumer", `{"consumer":true}`, func(x *exchange.Exchange, key int) {
			x.Principal = &exchange.Principal{Consumer: fmt.Sprint("c", key)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := &configv1.LoadBalancerConfig{TableSize: 1009}
			if c.key != "" {
				config.HashKey = &configv1.HashKey{}
				if err := protojson.Unmarshal([]byte(c.key), config.HashKey); err != nil {
					t.Fatal(err)
				}
			}
			s, _ := balanced(t, &configv1.Service{
				LoadBalancerType: "consistent_hash", LoadBalancerConfig: config,
				Endpoints: []*configv1.Endpoint{endpoint(1), endpoint(2), endpoint(3), endpoint(4)},
			})
			to := map[uint32]int{}
			for key := range 400 {
				var first *Endpoint
				for n := range 3 {
					x := &exchange.Exchange{}
					c.set(x, key)
					e := s.Pick(x, nil)
					if n == 0 {
						first = e
						to[e.Port]++
					} else if e != first {
						t.Fatalf("key %d leads to two endpoints", key)
					}
					if x.Affinity().SetCookie != "" {
						t.Fatal("a client that has its key is given a cookie")
					}
					var branch exchange.Exchange
					whole := &exchange.Exchange{}
					c.set(whole, key)
					if whole.Branch(&branch, nil); s.Pick(&branch, nil) != first {
						t.Fatalf("one of several attempts with key %d goes elsewhere", key)
					}
				}
			}
			for port := uint32(1); port <= 4; port++ {
				if to[port] < 60 || to[port] > 140 {
					t.Errorf("400 keys are spread as %v", to)
				}
			}
		})
	}
}

// TestCookiesAreGiven: a client without the cookie gets one that leads to where it just was, once for all of its
// attempts.
func TestCookiesAreGiven(t *testing.T) {
	s, _ := balanced(t, &configv1.Service{
		LoadBalancerType: "consistent_hash",
		LoadBalancerConfig: &configv1.LoadBalancerConfig{TableSize: 1009, HashKey: &configv1.HashKey{
			Source: &configv1.HashKey_Cookie{
				Cookie: &configv1.ClientCookie{Name: "at", Ttl: "1h", SameSite: "none"},
			},
		}},
		Endpoints: []*configv1.Endpoint{endpoint(1), endpoint(2), endpoint(3), endpoint(4)},
	})
	seen := map[string]bool{}
	for range 50 {
		x := &exchange.Exchange{}
		x.Request.Header.Add("Cookie", "other=1; at=")
		first := s.Pick(x, nil)
		set := x.Affinity().SetCookie
		var tried Tried
		tried.Add(first)
		if second := s.Pick(x, &tried); second == first || x.Affinity().SetCookie != set {
			t.Fatalf("another attempt goes to %v, with the cookie %q after %q", second == first, x.Affinity().SetCookie, set)
		}
		value, rest, _ := strings.Cut(strings.TrimPrefix(set, "at="), ";")
		if len(value) != 32 || rest != " Path=/; Max-Age=3600; HttpOnly; SameSite=None; Secure" || seen[value] {
			t.Fatalf("the cookie is %q", set)
		}
		seen[value] = true
		next := &exchange.Exchange{}
		next.Request.Header.Add("cookie", "other=1; at="+value)
		if got := s.Pick(next, nil); got != first || next.Affinity().SetCookie != "" {
			t.Fatal("the cookie leads elsewhere, or is given again")
		}
	}
}

// TestEndpointsThatAreAddedStartSlowly adds an endpoint to a service.
func TestEndpointsThatAreAddedStartSlowly(t *testing.T) {
	config := &configv1.LoadBalancerConfig{SlowStart: &configv1.SlowStart{Window: "1h"}}
	s, r := balanced(t, &configv1.Service{
		LoadBalancerConfig: config, Endpoints: []*configv1.Endpoint{endpoint(1), endpoint(2)},
	})
	for _, e := range s.current.Load().endpoints {
		e.State.BeganAt(time.Now().Add(-2 * time.Hour))
	}
	r.Apply(map[string]Definition{"1": {Service: &configv1.Service{
		Name: "s", LoadBalancerConfig: config, Endpoints: []*configv1.Endpoint{endpoint(1), endpoint(2), endpoint(3)},
	}}}, nil)
	got := map[uint32]int{}
	x := &exchange.Exchange{}
	x.Now = time.Now()
	for range 4200 {
		got[s.Pick(x, nil).Port]++
	}
	if got[3] < 120 || got[3] > 280 { // a tenth of a share beside two
		t.Errorf("shared as %v", got)
	}
}

// TestResultsReachPeakEWMA tells a service of one slow endpoint and one that fails, and of attempts that say nothing.
func TestResultsReachPeakEWMA(t *testing.T) {
	endpoints := []*configv1.Endpoint{endpoint(1), endpoint(2), endpoint(3)}
	s, r := balanced(t, &configv1.Service{LoadBalancerType: "peak_ewma", Endpoints: endpoints})
	now := time.Now()
	for port, result := range map[uint32]outcome.Result{
		1: {Kind: outcome.Answered, Status: 200, Took: time.Millisecond},
		2: {Kind: outcome.Answered, Status: 200, Took: 100 * time.Millisecond},
		3: {Kind: outcome.ConnectFailed, Took: time.Microsecond},
	} {
		result.Begun = now
		s.Ended(&Result{Result: result, Service: s, Endpoint: s.at(port)})
		result.Kind, result.Took = outcome.Canceled, time.Hour
		s.Ended(&Result{Result: result, Service: s, Endpoint: s.at(port)})
	}
	x := &exchange.Exchange{}
	x.Now = now.Add(time.Second)
	got := map[uint32]int{}
	for range 900 {
		got[s.Pick(x, nil).Port]++
	}
	if got[1] < 500 || got[2] < 200 || got[3] > 5 { // each is drawn in two of three picks
		t.Errorf("shared as %v", got)
	}
	r.Apply(map[string]Definition{"1": {Service: &configv1.Service{Name: "s", Endpoints: endpoints}}}, nil)
	if s.observers.Load() != nil {
		t.Error("results are told to nobody who asks for them")
	}
}
