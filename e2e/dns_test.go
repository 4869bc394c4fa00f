package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gateway.internal/controlplane/testserver"
)

// nameServer answers for one name with the addresses that it is told, which live for a second.
type nameServer struct {
	address string
	mu      sync.Mutex
	code    int
	four    []string
}

func newNameServer(t *testing.T, four ...string) *nameServer {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{address: packets.LocalAddr().String(), four: four}
	begun := make(chan struct{})
	s := &dns.Server{PacketConn: packets, Handler: n, NotifyStartedFunc: func() { close(begun) }}
	go func() { _ = s.ActivateAndServe() }()
	<-begun
	t.Cleanup(func() { _ = s.Shutdown() })
	return n
}

func (n *nameServer) say(code int, four ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.code, n.four = code, four
}

// ServeDNS implements dns.Handler.
func (n *nameServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := new(dns.Msg)
	r.SetRcode(m, n.code)
	if n.code == dns.RcodeSuccess && m.Question[0].Qtype == dns.TypeA {
		for _, a := range n.four {
			rr, _ := dns.NewRR(m.Question[0].Name + " 1 IN A " + a)
			r.Answer = append(r.Answer, rr)
		}
	}
	_ = w.WriteMsg(r)
}

// houses are servers on one port of several addresses of this machine. Each says its address, and what Host its health
// checks had.
type houses struct {
	port   int
	checks sync.Map // host of a check -> true
	conns  atomic.Int64
}

func newHouses(t *testing.T, addresses ...string) *houses {
	t.Helper()
	h := &houses{port: testserver.FreePort(t)}
	for _, a := range addresses {
		ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", a, h.port))
		if err != nil {
			t.Fatal(err)
		}
		protocols := &http.Protocols{}
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		s := &http.Server{Protocols: protocols, ReadHeaderTimeout: time.Minute, ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				h.conns.Add(1)
			}
		}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/check":
				h.checks.Store(r.Host, true)
			case "/long":
				for range 6 {
					_, _ = io.WriteString(w, "part\n")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-r.Context().Done():
						return
					case <-time.After(500 * time.Millisecond):
					}
				}
			default:
				_, _ = io.WriteString(w, a)
			}
		})}
		go func() { _ = s.Serve(ln) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	return h
}

// TestNamesOfEndpoints changes what a name server says of an endpoint's name under steady traffic: all addresses get
// requests, old ones none any more within seconds, and not one request fails, whatever the name server says.
func TestNamesOfEndpoints(t *testing.T) {
	t.Parallel()
	server := newNameServer(t, "127.0.0.2", "127.0.0.3")
	h := newHouses(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config", "gateway.yaml"), fmt.Sprintf(`
services:
  - {name: s, endpoints: [{host: house.test, port: %d}], health_check_config: {path: /check, interval: 200ms}}
routes: [{name: r, path: /*, service_id: s}]
`, h.port))
	front, state, lines := address(t), address(t), filepath.Join(dir, "access.log")
	p := launch(t, bin(t, "dataplane"), nil, "--config", filepath.Join(dir, "config"), "--http-addr", front, "--https-addr", "", "--status-addr", state,
		"--data-dir", filepath.Join(dir, "data"), "--resolver", server.address, "--access-log", lines)
	testserver.WaitFor(t, "node", func() error { return status(state, "/readyz", 200) })

	// served waits until the last requests went to these addresses and no others.
	served := func(want ...string) {
		t.Helper()
		testserver.WaitFor(t, "requests go to "+strings.Join(want, ", "), func() error {
			got := map[string]int{}
			for range 20 {
				code, body := get(t, "http://"+front)
				if code != 200 {
					t.Errorf("%d %s", code, body)
				}
				got[body]++
			}
			for _, w := range want {
				if got[w] != 20/len(want) {
					return fmt.Errorf("they went to %v", got)
				}
			}
			return nil
		})
	}
	served("127.0.0.2", "127.0.0.3")
	server.say(dns.RcodeSuccess, "127.0.0.4")
	begin := time.Now()
	served("127.0.0.4")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("requests went to the new address after %s; the old one's time to live was a second", took)
	}
	metric := func(line string) {
		t.Helper()
		testserver.WaitFor(t, "metric "+line, func() error {
			if _, text := get(t, "http://"+state+"/metrics"); !strings.Contains(text, line+"\n") {
				return fmt.Errorf("it is not there")
			}
			return nil
		})
	}
	metric(fmt.Sprintf(`gateway_service_health{endpoint="127.0.0.4:%d",service="s"} 1`, h.port))
	for _, code := range []int{dns.RcodeServerFailure, dns.RcodeNameError} {
		server.say(code)
		metric(`gateway_dns_failing{name="house.test"} 1`)
		served("127.0.0.4")
	}
	server.say(dns.RcodeSuccess, "127.0.0.2", "127.0.0.4")
	served("127.0.0.2", "127.0.0.4")
	if n := strings.Count(p.logs(), "a name can't be resolved"); n != 1 {
		t.Errorf("said %d times that the name can't be resolved", n)
	}
	if _, ok := h.checks.Load(fmt.Sprintf("house.test:%d", h.port)); !ok {
		t.Error("no check had the name as its host")
	}
	testserver.WaitFor(t, "lines of the access log", func() error {
		text, err := os.ReadFile(lines)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			var l struct{ Endpoint string }
			if err := json.Unmarshal([]byte(line), &l); err != nil || !strings.HasPrefix(l.Endpoint, "127.0.0.") {
				t.Fatalf("%s: %v", line, err)
			}
		}
		if !strings.Contains(string(text), fmt.Sprintf(`"endpoint":"127.0.0.4:%d"`, h.port)) {
			return fmt.Errorf("none has the address that served it")
		}
		return nil
	})
}

// TestAgeOfConnections sends without a pause to a service whose connections may be a second old: others take their
// place, over HTTP/1.1 and HTTP/2, and a response that takes longer than that is whole.
func TestAgeOfConnections(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			h := newHouses(t, "127.0.0.1")
			dir := t.TempDir()
			write(t, filepath.Join(dir, "config", "gateway.yaml"), fmt.Sprintf(`
services: [{name: s, protocol: %s, endpoints: [{host: 127.0.0.1, port: %d}], connection_pool: {max_age: 1s}}]
routes: [{name: r, path: /*, service_id: s}]
`, protocol, h.port))
			front, state := address(t), address(t)
			launch(t, bin(t, "dataplane"), nil, "--config", filepath.Join(dir, "config"), "--http-addr", front, "--https-addr", "", "--status-addr", state,
				"--data-dir", filepath.Join(dir, "data"))
			testserver.WaitFor(t, "node", func() error { return status(state, "/readyz", 200) })
			var long sync.WaitGroup
			long.Go(func() {
				if code, body := get(t, "http://"+front+"/long"); code != 200 || strings.Count(body, "part") != 6 {
					t.Errorf("the long response: %d %q", code, body)
				}
			})
			begin := time.Now()
			for h.conns.Load() < 4 {
				if code, body := get(t, "http://"+front); code != 200 {
					t.Fatalf("%d %s", code, body)
				}
				if time.Since(begin) > 30*time.Second {
					t.Fatalf("%d connections after 30s", h.conns.Load())
				}
			}
			if took := time.Since(begin); took < 1500*time.Millisecond {
				t.Errorf("four connections, one of them for the long response, after %s", took)
			}
			long.Wait()
		})
	}
}
