package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/overload"
	"gateway.internal/shared/waittest"
)

// overloadOfTests turns away requests of nodes that are started while it is set; nil: none are.
var overloadOfTests *overload.Controller

// startLimited starts a node with a limit of exchanges.
func startLimited(t *testing.T, requests int, config string) (*gateway, *overload.Controller) {
	t.Helper()
	overloadOfTests = overload.New(overload.Settings{MaxRequests: requests, Shards: 2})
	defer func() { overloadOfTests = nil }()
	return start(t, config), overloadOfTests
}

// blocked is a service that outcomes when it may, and counts who waits by path.
type blocked struct {
	address string
	release chan struct{}
	mu      sync.Mutex
	waiting map[string]int
}

func newBlocked(t *testing.T) *blocked {
	t.Helper()
	h := &blocked{release: make(chan struct{}), waiting: map[string]int{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.waiting[r.URL.Path]++
		h.mu.Unlock()
		<-h.release
		_, _ = io.WriteString(w, "done")
	}))
	t.Cleanup(s.Close)
	t.Cleanup(sync.OnceFunc(func() {
		select {
		case <-h.release:
		default:
			close(h.release)
		}
	}))
	h.address = s.Listener.Addr().String()
	return h
}

func (h *blocked) waits(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting[path]
}

// valueOf returns the value of a metric of a collector, with a label; -1: there is none.
func valueOf(t *testing.T, c prometheus.Collector, name, label string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// outcomes gathers what clients got.
type outcomes struct {
	sync.WaitGroup
	mu   sync.Mutex
	seen map[string]int // by path and status
}

func (a *outcomes) count(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[what]
}

// send sends requests, all at once.
func (a *outcomes) send(g *gateway, client *http.Client, n int, path string, fields ...string) {
	for range n {
		a.Go(func() {
			res, text := g.getAs(client, path, fields...)
			what := fmt.Sprint(path, " ", res.StatusCode)
			if res.StatusCode == 503 {
				after := res.Header.Get("Retry-After")
				if !strings.Contains(text, `"code":"OVERLOADED"`) || len(after) != 1 || after < "1" || after > "5" {
					what = fmt.Sprintf("%s, Retry-After: %s", text, after)
				}
			}
			a.mu.Lock()
			a.seen[what]++
			a.mu.Unlock()
		})
	}
}

// TestTheLowestAreTurnedAwayFirst offers twice the exchanges that a node may have, to a service that outcomes none of
// them meanwhile: all critical requests get to it, those of low priority leave half of the node to others, and what was
// turned away was told so at once.
func TestTheLowestAreTurnedAwayFirst(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			if version == "HTTP/2" {
				once(t)
			}
			service := newBlocked(t)
			host, port, _ := net.SplitHostPort(service.address)
			g, c := startLimited(t, 20, fmt.Sprintf(`
services: [{name: s, endpoints: [{host: %s, port: %s}], policy_id: low}]
policies: [{name: low, request_priority: low}, {name: high, request_priority: high}]
routes:
  - {name: low, path: /low, service_id: s}
  - {name: normal, path: /normal, service_id: s, request_priority: normal}
  - {name: high, path: /high, service_id: s, policy_id: high}
  - {name: critical, path: /critical, service_id: s, policy_id: high, request_priority: critical}
`, host, port))
			client := clientOf(t, version)
			a := &outcomes{seen: map[string]int{}}
			settled := func(path string, n, least, most int) {
				t.Helper()
				a.send(g, client, n, path)
				waittest.Until(t, "all requests of "+path+" wait, or are answered", func() bool {
					return service.waits(path)+a.count(path+" 503") == n
				})
				if got := service.waits(path); got < least || got > most {
					t.Errorf("%s: %d requests got to the service, want %d to %d", path, got, least, most)
				}
			}
			settled("/low", 24, 10, 12)
			settled("/normal", 4, 4, 4)
			settled("/critical", 4, 4, 4)
			settled("/high", 4, 0, 2)
			under := service.waits("/low") + service.waits("/normal") + service.waits("/critical") + service.waits("/high")
			a.send(g, client, 24-under, "/critical")
			waittest.Until(t, "the limit holds for critical requests, too", func() bool {
				return a.count("/critical 503") == 4 && service.waits("/critical") == 20-under+4
			})
			if n := valueOf(t, c, "gateway_overload_requests", ""); n != 20 {
				t.Errorf("%v exchanges are counted", n)
			}
			if n, want := valueOf(t, c, "gateway_requests_shed_total", "low"), 24-service.waits("/low"); int(n) != want {
				t.Errorf("%v requests of low priority are counted, %d were turned away", n, want)
			}
			close(service.release)
			a.Wait()
			for what := range a.seen {
				if !strings.HasSuffix(what, " 200") && !strings.HasSuffix(what, " 503") {
					t.Errorf("a client got %s", what)
				}
			}
			waittest.Until(t, "no exchange is counted any more", func() bool {
				return valueOf(t, c, "gateway_overload_requests", "") == 0
			})
			if res, _ := g.getAs(client, "/low"); res.StatusCode != 200 {
				t.Errorf("once there is room: %d", res.StatusCode)
			}
		})
	}
}

// TestPrioritiesOfConsumers: the group of a consumer decides, whom a step finds out after the request was admitted.
func TestPrioritiesOfConsumers(t *testing.T) {
	service, a := newBlocked(t), newAuthorizer(t)
	host, port, _ := net.SplitHostPort(service.address)
	at, port2, _ := net.SplitHostPort(a.address)
	g, c := startLimited(t, 10, fmt.Sprintf(`
services:
  - {name: s, endpoints: [{host: %s, port: %s}], pipeline_id: auth}
  - {name: authorizer, endpoints: [{host: %s, port: %s}]}
middleware:
  - {name: auth, type: ext_auth, config: {service_id: authorizer, principal: {consumer: X-User, groups: X-Groups}}}
pipelines: [{name: auth, middleware_ids: [auth]}]
policies: [{name: p, request_priority: low, group_priorities: {staff: low, admins: critical}}]
routes: [{name: r, path: /*, service_id: s, policy_id: p}]
`, host, port, at, port2))
	client := clientOf(t, "HTTP/1.1")
	all := &outcomes{seen: map[string]int{}}
	all.send(g, client, 7, "/admins", "Authorization", "good")
	waittest.Until(t, "those of the group wait", func() bool { return service.waits("/admins") == 7 })
	all.send(g, client, 3, "/others")
	waittest.Until(t, "others are turned away", func() bool { return all.count("/others 503") == 3 })
	if n := service.waits("/others"); n != 0 {
		t.Errorf("%d requests of others got to the service", n)
	}
	close(service.release)
	all.Wait()
	if all.count("/admins 200") != 7 {
		t.Errorf("%v", all.seen)
	}
	waittest.Until(t, "no exchange is counted any more", func() bool {
		return valueOf(t, c, "gateway_overload_requests", "") == 0
	})
}
