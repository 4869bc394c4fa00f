package outlier

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func settings() config.Outlier {
	return config.Outlier{
		Consecutive5xx: 5, ConsecutiveGateway: 5, Interval: 10 * time.Second, BaseEjectionTime: 30 * time.Second,
		MaxEjectionTime: 5 * time.Minute, MaxEjectionPercent: 100,
	}
}

// serviceOf returns a service of n endpoints, all of the same weight.
func serviceOf(n int, set config.Outlier) Service {
	s := Service{ID: "1", Name: "users", Settings: set}
	for i := range n {
		s.Endpoints = append(s.Endpoints, Endpoint{Host: &Host{}, State: &balance.State{}, Address: fmt.Sprint(i), Weight: 1})
	}
	return s
}

func newDetector(services ...Service) *Detector {
	d := New(slog.New(slog.DiscardHandler))
	d.Set(services)
	return d
}

var (
	good    = outcome.Result{Kind: outcome.Answered, Status: 200}
	broken  = outcome.Result{Kind: outcome.Answered, Status: 500}
	gateway = outcome.Result{Kind: outcome.Answered, Status: 503}
	reset   = outcome.Result{Kind: outcome.Reset}
)

// end has n requests end at an endpoint.
func (e *Endpoint) end(r outcome.Result, n int) {
	for range n {
		e.Host.Ended(&r)
	}
}

// ejected returns which endpoints get no requests.
func (s *Service) ejected() string {
	synctest.Wait()
	var list []string
	for _, e := range s.Endpoints {
		if !e.State.Healthy() {
			list = append(list, e.Address)
		}
	}
	return strings.Join(list, " ")
}

func TestFailuresInARowEject(t *testing.T) {
	only5xx, onlyGateway := settings(), settings()
	only5xx.ConsecutiveGateway, onlyGateway.Consecutive5xx = 0, 0
	for _, c := range []struct {
		name   string
		set    config.Outlier
		ends   func(e *Endpoint)
		reason Reason
	}{
		{"as many as are allowed", settings(), func(e *Endpoint) { e.end(broken, 4) }, NoReason},
		{"one more", settings(), func(e *Endpoint) { e.end(broken, 5) }, Consecutive5xx},
		{"not in a row", settings(), func(e *Endpoint) { e.end(broken, 4); e.end(good, 1); e.end(broken, 4) }, NoReason},
		{"of the gateway", settings(), func(e *Endpoint) { e.end(gateway, 2); e.end(reset, 3) }, ConsecutiveGatewayFailures},
		{"of both kinds", settings(), func(e *Endpoint) { e.end(reset, 4); e.end(broken, 1) }, Consecutive5xx},
		{"of the gateway, where any counts", only5xx, func(e *Endpoint) { e.end(reset, 5) }, Consecutive5xx},
		{"of the service, where the gateway's count", onlyGateway, func(e *Endpoint) { e.end(broken, 50) }, NoReason},
		{"a status between the gateway's", onlyGateway,
			func(e *Endpoint) { e.end(gateway, 4); e.end(broken, 1); e.end(gateway, 4) }, NoReason},
		{"what says nothing", settings(), func(e *Endpoint) {
			e.end(outcome.Result{},
				50)
			e.end(outcome.Result{Kind: outcome.Overloaded}, 50)
		}, NoReason},
		{"what says nothing between", settings(), func(e *Endpoint) {
			e.end(broken, 3)
			e.end(outcome.Result{},
				5)
			e.end(broken, 2)
		}, Consecutive5xx},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serviceOf(3, c.set)
				d := newDetector(s)
				defer d.Close()
				c.ends(&s.Endpoints[1])
				want := ""
				if c.reason != NoReason {
					want = "1"
				}
				if got := s.ejected(); got != want {
					t.Errorf("ejected: %q, want %q", got, want)
				}
				d.Look([]*Host{s.Endpoints[1].Host}, func(_ int, e Ejection) {
					if e.Reason != c.reason {
						t.Errorf("the reason is %s, want %s", e.Reason, c.reason)
					}
				})
			})
		})
	}
}

// The times are those of an endpoint that fails whenever it is tried, and of one that does not for a while.
func TestEjectionsGrowAndShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		set.MaxEjectionTime = 100 * time.Second
		s := serviceOf(3, set)
		d := newDetector(s)
		defer d.Close()
		bad := &s.Endpoints[0]
		lasts := func(want time.Duration) {
			t.Helper()
			begun := time.Now()
			bad.end(broken, 5)
			for s.ejected() == "0" && time.Since(begun) < time.Hour {
				time.Sleep(time.Second)
			}
			if got := time.Since(begun); got != want {
				t.Errorf("an ejection of %s, want %s", got, want)
			}
		}
		lasts(30 * time.Second)
		lasts(60 * time.Second)
		lasts(90 * time.Second)
		lasts(100 * time.Second) // the longest
		lasts(100 * time.Second)
		time.Sleep(21 * time.Second) // two sweeps
		lasts(60 * time.Second)
		time.Sleep(time.Hour)
		lasts(30 * time.Second)
	})
}

func TestNeverMoreThanTheShare(t *testing.T) {
	for _, c := range []struct {
		endpoints, percent int
		want               string
	}{
		{1, 100, ""}, {2, 100, "0"}, {3, 10, "0"}, {10, 10, "0"}, {10, 29, "0 1"}, {4, 100, "0 1 2"}, {4, 75, "0 1 2"}, {4,
			74, "0 1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			set := settings()
			set.MaxEjectionPercent = c.percent
			s := serviceOf(c.endpoints, set)
			d := newDetector(s)
			defer d.Close()
			for i := range s.Endpoints {
				s.Endpoints[i].end(broken, 5)
				synctest.Wait()
			}
			if got := s.ejected(); got != c.want {
				t.Errorf("%d endpoints, %d %%: ejected %q, want %q", c.endpoints, c.percent, got, c.want)
			}
		})
	}
}

// The endpoint that is left is kept though it fails: an answer of 500 is better than none.
func TestTheLastThatTakesRequestsStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serviceOf(4, settings())
		s.Endpoints[2].State.SetHealthy(false)
		s.Endpoints[3].Weight = 0
		d := newDetector(s)
		defer d.Close()
		s.Endpoints[0].end(broken, 5)
		synctest.Wait()
		s.Endpoints[1].end(broken, 50)
		if got := s.ejected(); got != "0 2" {
			t.Errorf("no requests for %q, want 0, which is ejected, and 2, whose checks failed", got)
		}
	})
}

// A configuration that changes something else, or who else is there, neither gives back nor forgets.
func TestEjectionsOutliveChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		s := serviceOf(4, set)
		d := newDetector(s)
		defer d.Close()
		s.Endpoints[0].end(broken, 5)
		s.Endpoints[1].end(broken, 4)
		synctest.Wait()
		s.Name, s.Settings.Interval, s.Settings.BaseEjectionTime = "people", time.Second, time.Second
		s.Endpoints = append(s.Endpoints, serviceOf(1, set).Endpoints...)
		s.Endpoints[4].Address = "4"
		d.Set([]Service{s})
		if got := s.ejected(); got != "0" {
			t.Errorf("ejected after a change: %q, want 0", got)
		}
		s.Endpoints[1].end(broken, 1)
		if got := s.ejected(); got != "0 1" {
			t.Errorf("ejected when the failures go on: %q, want 0 and 1", got)
		}
		time.Sleep(2 * time.Second)
		if got := s.ejected(); got != "0" {
			t.Errorf("ejected by the new time: %q, want 0, whose ejection is of the old", got)
		}
		time.Sleep(28 * time.Second)
		if got := s.ejected(); got != "" {
			t.Errorf("ejected after 30s: %q", got)
		}
	})
}

func TestWhoLeavesTakesItsEjectionAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		set.MaxEjectionPercent = 50
		s := serviceOf(4, set)
		d := newDetector(s)
		defer d.Close()
		s.Endpoints[0].end(broken, 5)
		synctest.Wait()
		time.Sleep(time.Second)
		s.Endpoints[1].end(broken, 5)
		synctest.Wait()
		all := s.Endpoints
		s.Endpoints = all[:3:3] // two of three is more than may be: the one that has waited longest is given back
		d.Set([]Service{s})
		if got := s.ejected(); got != "1" {
			t.Errorf("ejected of three: %q, want 1", got)
		}
		s.Endpoints = []Endpoint{all[0], all[2]}
		d.Set([]Service{s})
		all[0].end(broken, 5)
		if got := s.ejected(); got != "0" || !all[1].State.Healthy() {
			t.Errorf("ejected of the two others: %q, want 0; the one that has left takes requests: %v", got,
				all[1].State.Healthy())
		}
		d.Set(nil)
		if got := s.ejected(); got != "" || all[0].Host.rules.Load() != nil {
			t.Errorf("ejected without a rule: %q", got)
		}
	})
}

func TestEndpointsAreCompared(t *testing.T) {
	rate := config.OutlierRate{MinimumHosts: 5, RequestVolume: 100, Limit: 1900}
	took := func(d time.Duration) outcome.Result {
		return outcome.Result{Kind: outcome.Answered, Status: 200, Took: d}
	}
	for _, c := range []struct {
		name string
		set  func(*config.Outlier)
		ends func(i int, e *Endpoint)
		want string
	}{
		{"one succeeds less", func(o *config.Outlier) { o.SuccessRate = rate },
			func(i int, e *Endpoint) { e.end(good, 100-40*(i/9)); e.end(broken, 40*(i/9)) }, "9"},
		{"too few requests", func(o *config.Outlier) { o.SuccessRate = rate },
			func(i int, e *Endpoint) { e.end(good, 99-40*(i/9)); e.end(broken, 40*(i/9)) }, ""},
		{"too few endpoints with enough", func(o *config.Outlier) { o.SuccessRate = rate },
			func(i int, e *Endpoint) { e.end(good, 20*i-40*(i/9)); e.end(broken, 40*(i/9)) }, "9"},
		{"all fail alike", func(o *config.Outlier) { o.SuccessRate = rate },
			func(_ int, e *Endpoint) { e.end(good, 60); e.end(broken, 40) }, ""},
		{"a share of failures", func(o *config.Outlier) {
			o.FailurePercentage = config.OutlierRate{MinimumHosts: 5, RequestVolume: 50, Limit: 85}
		}, func(i int, e *Endpoint) { e.end(broken, 78+i); e.end(good, 22-i) }, "7 8 9"},
		{"one is slow", func(o *config.Outlier) {
			o.Latency = config.OutlierLatency{MinimumHosts: 3, RequestVolume: 100, Factor: 3, Minimum: 10 * time.Millisecond}
		}, func(i int, e *Endpoint) { e.end(took(time.Duration(10+i/9*30)*time.Millisecond), 100) }, "9"},
		{"one is slower by less", func(o *config.Outlier) {
			o.Latency = config.OutlierLatency{MinimumHosts: 3, RequestVolume: 100, Factor: 3, Minimum: 10 * time.Millisecond}
		}, func(i int, e *Endpoint) { e.end(took(time.Duration(10+i/9*20)*time.Millisecond), 100) }, ""},
		{"one is slow, and all are fast", func(o *config.Outlier) {
			o.Latency = config.OutlierLatency{MinimumHosts: 3, RequestVolume: 100, Factor: 3, Minimum: 10 * time.Millisecond}
		}, func(i int, e *Endpoint) { e.end(took(time.Duration(1+i/9*8)*time.Millisecond), 100) }, ""},
		{"one request of one is slow", func(o *config.Outlier) {
			o.Latency = config.OutlierLatency{MinimumHosts: 3, RequestVolume: 100, Factor: 3, Percentile: 95}
		}, func(i int, e *Endpoint) {
			e.end(took(10*time.Millisecond), 99)
			e.end(took(time.Duration(i)*time.Second), 1)
		}, ""},
		{"a tenth of the requests of one is slow", func(o *config.Outlier) {
			o.Latency = config.OutlierLatency{MinimumHosts: 3, RequestVolume: 100, Factor: 3, Percentile: 95}
		}, func(i int, e *Endpoint) {
			e.end(took(10*time.Millisecond), 90)
			e.end(took(time.Duration(10+i/9*50)*time.Millisecond), 10)
		}, "9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := settings()
				set.Consecutive5xx, set.ConsecutiveGateway = 0, 0
				c.set(&set)
				s := serviceOf(10, set)
				d := newDetector(s)
				defer d.Close()
				for i := range s.Endpoints {
					c.ends(i, &s.Endpoints[i])
				}
				time.Sleep(9 * time.Second)
				if got := s.ejected(); got != "" {
					t.Errorf("ejected within the interval: %q", got)
				}
				time.Sleep(2 * time.Second)
				if got := s.ejected(); got != c.want {
					t.Errorf("ejected after the interval: %q, want %q", got, c.want)
				}
				time.Sleep(40 * time.Second)
				if got := s.ejected(); got != "" {
					t.Errorf("ejected for what was long ago: %q", got)
				}
			})
		})
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serviceOf(2, settings())
		other := s
		other.ID, other.Endpoints = "2", serviceOf(1,
			settings()).Endpoints // of the same name, as while a configuration is being applied
		d := newDetector(s, other)
		defer d.Close()
		s.Endpoints[1].end(broken, 5)
		synctest.Wait()
		s.Endpoints[0].end(broken, 5)
		synctest.Wait()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(d)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP gateway_outlier_ejected 1 while the endpoint is ejected.
# TYPE gateway_outlier_ejected gauge
gateway_outlier_ejected{endpoint="0",service="users"} 0
gateway_outlier_ejected{endpoint="1",service="users"} 1
# HELP gateway_outlier_ejections_overflow_total Ejections that the limits did not allow.
# TYPE gateway_outlier_ejections_overflow_total counter
gateway_outlier_ejections_overflow_total{service="users"} 1
# HELP gateway_outlier_ejections_total Ejections of endpoints, by the reason.
# TYPE gateway_outlier_ejections_total counter
gateway_outlier_ejections_total{reason="consecutive_5xx",service="users"} 1
gateway_outlier_ejections_total{reason="consecutive_gateway_failures",service="users"} 0
`)); err != nil {
			t.Error(err)
		}
	})
}

func TestCountingDoesNotAllocate(t *testing.T) {
	set := settings()
	set.Latency = config.OutlierLatency{MinimumHosts: 3, RequestVolume: 1, Factor: 3, Percentile: 95}
	set.SuccessRate = config.OutlierRate{MinimumHosts: 3, RequestVolume: 1, Limit: 1900}
	s := serviceOf(2, set)
	d := newDetector(s)
	defer d.Close()
	for _, r := range []outcome.Result{good, broken} {
		if n := testing.AllocsPerRun(100, func() { s.Endpoints[0].Host.Ended(&r) }); n != 0 {
			t.Errorf("%s %d: %v allocations", r.Kind, r.Status, n)
		}
	}
}

func TestPercentilesAreAtMostAnEighthTooHigh(t *testing.T) {
	for _, micros := range []uint64{0, 1, 7, 8, 15, 16, 1000, 65_535, 65_536, 123_456_789, maxTime, maxTime + 1} {
		bucket := bucketOf(micros)
		if bucket >= bucketCount {
			t.Fatalf("%d µs are in bucket %d of %d", micros, bucket, bucketCount)
		}
		known := min(micros, maxTime)
		if end := endOf(bucket); end < known || end-known > known/8 {
			t.Errorf("%d µs are in a bucket that ends at %d", micros, end)
		}
		h := &histogram{}
		h.buckets[bucket].Add(1)
		if got := h.take(50); got != endOf(bucket) || h.take(50) != 0 {
			t.Errorf("%d µs: %d", micros, got)
		}
	}
}
