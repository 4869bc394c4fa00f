package proxy

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// troubled is a node before a service with two endpoints, whose calls, counted from 1, are answered by a function.
type troubled struct {
	*gateway
	client *http.Client
	calls  atomic.Int32
	config string
}

// trouble starts one. policy is what the policy says, besides the back-off.
func trouble(
	t *testing.T, version, protocol, policy string,
	answer func(n int32, endpoint string, w http.ResponseWriter, r *http.Request),
) *troubled {
	t.Helper()
	s := &troubled{client: clientOf(t, version)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(s.calls.Add(1), r.Context().Value(http.LocalAddrContextKey).(net.Addr).String(), w, r)
	})
	var endpoints []string
	for range 2 {
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		if protocol != "http" {
			server.Config.Protocols = &http.Protocols{}
			server.Config.Protocols.SetUnencryptedHTTP2(true)
		}
		server.Start()
		t.Cleanup(server.Close)
		host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
		endpoints = append(endpoints, fmt.Sprintf("{host: %s, port: %s}", host, port))
	}
	s.config = troubledConfig(protocol, strings.Join(endpoints, ", "), policy)
	s.gateway = start(t, s.config)
	return s
}

func troubledConfig(protocol, endpoints, policy string) string {
	return fmt.Sprintf(`services: [{name: s, protocol: %s, policy_id: p, endpoints: [%s],
  connection_pool: {response_timeout: 20s, connect_timeout: 20s}}]
routes: [{name: all, path: /*, service_id: s}]
policies: [{name: p, %s}]
`, protocol, endpoints, policy)
}

// series returns the sums of the services' series of a metric, by the value of a label.
func (g *gateway) series(metric, label string) map[string]float64 {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.services)
	all, err := registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	n := map[string]float64{}
	for _, family := range all {
		if family.GetName() != metric {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					n[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// ask returns status and body, and an error as text.
func (s *troubled) ask(method, path string, body io.Reader) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.address+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}

func (s *troubled) do(req *http.Request) string {
	s.t.Helper()
	res, err := s.client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(res.StatusCode, " ", string(b))
}

// fast is a back-off for tests.
const fast = "backoff: {base: 1ms, max: 2ms}"

// misbehaveAs answers a call as its name says.
func misbehaveAs(how string, w http.ResponseWriter, r *http.Request) {
	var status int
	switch {
	case how == "reset":
		panic(http.ErrAbortHandler)
	case how == "hang":
		<-r.Context().Done()
		return
	case strings.HasPrefix(how, "large"):
		w.WriteHeader(503)
		_, _ = w.Write(make([]byte, 1<<20))
		return
	case strings.HasPrefix(how, "endless"):
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	_, _ = fmt.Sscan(how, &status)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "bad")
}
