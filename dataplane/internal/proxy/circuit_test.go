package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/shared/waittest"
)

// withCircuit adds a circuit to the service of a configuration.
func withCircuit(config, circuit string) string {
	return strings.Replace(config, "{name: s, ", "{name: s, circuit_breaker_config: {"+circuit+"}, ", 1)
}

// failingService answers 500 while failing is set, and holds answers back while held has something in it.
type failingService struct {
	failing atomic.Bool
	asked   atomic.Int64
	arrived chan struct{}
	held    chan struct{} // is received from before each answer; nil: none is held back
}

func (s *failingService) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.asked.Add(1)
	if s.held != nil {
		s.arrived <- struct{}{}
		<-s.held
	}
	if s.failing.Load() {
		w.WriteHeader(500)
	}
	_, _ = io.WriteString(w, "ok")
}

// startFailing starts a service of a protocol.
func startFailing(t *testing.T, s *failingService) string {
	t.Helper()
	server := httptest.NewUnstartedServer(s)
	server.Config.Protocols = &http.Protocols{}
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// speaker returns a client that speaks a version of HTTP.
func speaker(t *testing.T, version string) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: &http.Protocols{}}
	if version == "HTTP/2" {
		transport.Protocols.SetUnencryptedHTTP2(true)
	} else {
		transport.Protocols.SetHTTP1(true)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: waittest.Limit}
}

// statusOf returns the status, the code of the gateway's error, and Retry-After.
func statusOf(t *testing.T, client *http.Client, address string) string {
	t.Helper()
	res, err := client.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := fmt.Sprint(res.StatusCode)
	if strings.Contains(string(text), "CIRCUIT_OPEN") {
		answer += " CIRCUIT_OPEN after " + res.Header.Get("Retry-After")
	}
	return answer
}

// TestCircuit goes through the life of a circuit: it opens, keeps requests from the service, lets one through, and
// closes.
func TestCircuit(t *testing.T) {
	for _, kind := range []string{"window", "hystrix"} {
		t.Run(kind, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				s := &failingService{}
				s.failing.Store(true)
				g := start(t, withCircuit(speaking(protocol, startFailing(t, s), ""),
					"type: "+kind+", min_requests: 5, error_threshold: 0.5, timeout: 100ms, interval: 60s"))
				client := speaker(t, version)
				for i := range 5 {
					if got := statusOf(t, client, g.address); got != "500" {
						t.Fatalf("request %d: %s", i, got)
					}
				}
				// From here on no more than one request a tenth of a second gets to the service.
				waittest.Until(t, "the circuit opens", func() bool {
					return statusOf(t, client, g.address) == "503 CIRCUIT_OPEN after 1"
				})
				if got := g.metric("gateway_circuit_breaker_rejected_total"); got == 0 {
					t.Error("nothing was counted as rejected")
				}
				waittest.Until(t, "the error in the log", func() bool {
					return strings.Contains(g.logged(), `CIRCUIT_OPEN`)
				})
				s.failing.Store(false)
				waittest.Until(t, "the circuit closes", func() bool { return statusOf(t, client, g.address) == "200" })
				waittest.Until(t, "the state is 0", func() bool { return g.metric("gateway_circuit_breaker_state") == 0 })
				if got := statusOf(t, client, g.address); got != "200" {
					t.Errorf("after that: %s", got)
				}
			})
		})
	}
}

// TestProbesThroughTheNode lets one request through when the time is over, while others come.
func TestProbesThroughTheNode(t *testing.T) {
	s := &failingService{arrived: make(chan struct{}, 9), held: make(chan struct{}, 9)}
	s.failing.Store(true)
	g := start(t, withCircuit(to(startFailing(t, s), ""), "consecutive_failures: 1, timeout: 100ms, max_timeout: 100ms"))
	client := speaker(t, "HTTP/1.1")
	s.held <- struct{}{}
	if got := statusOf(t, client, g.address); got != "500" {
		t.Fatalf("the first: %s", got)
	}
	<-s.arrived
	// The client may have its response before the circuit has the result.
	state := g.services.Get(g.serviceID()).Circuit()
	waittest.Until(t, "the circuit opens", func() bool { return state.Status(time.Now()).To[circuit.Opened] == 1 })
	s.failing.Store(false)
	probe := make(chan string, 1)
	waittest.Until(t, "one is let through", func() bool {
		select {
		case <-s.arrived:
			return true
		default:
		}
		go func() { // it is refused, or waits
			res, err := client.Get("http://" + g.address + "/")
			if err == nil {
				defer res.Body.Close()
				if res.StatusCode == 200 {
					probe <- "200"
				}
			}
		}()
		return false
	})
	for range 5 {
		if got := statusOf(t, client, g.address); got != "503 CIRCUIT_OPEN after 1" {
			t.Errorf("beside what tries the service: %s", got)
		}
	}
	if n := s.asked.Load(); n != 2 {
		t.Errorf("the service was asked %d times, want 2", n)
	}
	s.held <- struct{}{}
	waittest.Receive(t, "the response of what tried it", probe)
	waittest.Until(t, "the circuit closes", func() bool { return state.Status(time.Now()).State == circuit.Closed })
	s.held <- struct{}{}
	if got := statusOf(t, client, g.address); got != "200" {
		t.Errorf("after it: %s", got)
	}
}

// TestBulkheadOfAService has one request under way and one waiting.
func TestBulkheadOfAService(t *testing.T) {
	s := &failingService{arrived: make(chan struct{}, 9), held: make(chan struct{}, 9)}
	g := start(t, withCircuit(to(startFailing(t, s), ""), "type: hystrix, max_concurrent: 1, max_pending: 1"))
	client := speaker(t, "HTTP/1.1")
	answers := make(chan string, 2)
	ask := func() { answers <- statusOf(t, client, g.address) }
	go ask()
	waittest.Receive(t, "the first at the service", s.arrived)
	go ask()
	places := g.services.Get(g.serviceID()).Circuit()
	waittest.Until(t, "the second waits", func() bool { return places.Status(time.Now()).Pending == 1 })
	if got := statusOf(t, client, g.address); got != "503 CIRCUIT_OPEN after 1" {
		t.Errorf("the third: %s", got)
	}
	for range 2 {
		s.held <- struct{}{}
		if got := waittest.Receive(t, "an answer", answers); got != "200" {
			t.Errorf("who had a place: %s", got)
		}
	}
	waittest.Until(t, "all places are given back", func() bool { return places.Status(time.Now()).Concurrent == 0 })
}

// TestCircuitOfCalls has calls of gRPC get UNAVAILABLE.
func TestCircuitOfCalls(t *testing.T) {
	once(t)
	_, _, address := newRPCServer(t)
	g := start(t, withCircuit(speaking("grpc", address, ""), "consecutive_failures: 2, timeout: 1h"))
	client := rpcClient(t, g.address)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	call := func(code codes.Code) error {
		_, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(code)}})
		return err
	}
	for _, code := range []codes.Code{
		codes.NotFound, codes.Internal, codes.NotFound, codes.Internal, codes.OK, codes.Unavailable,
	} {
		if err := call(code); status.Code(err) != code {
			t.Fatalf("%s: %v", code, err)
		}
	}
	_ = call(codes.Internal)
	waittest.Until(t, "the circuit opens", func() bool {
		err := call(codes.OK)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "CIRCUIT_OPEN")
	})
}

// TestCircuitChanges has new settings hold at once, and the state stay.
func TestCircuitChanges(t *testing.T) {
	s := &failingService{}
	s.failing.Store(true)
	address := startFailing(t, s)
	g := start(t, "")
	reload := make(chan struct{})
	files := &follow.Files{Path: filepath.Join(t.TempDir(), "a.yaml"), Log: slog.New(slog.DiscardHandler), To: g.node,
		Reload: reload}
	write := func(config string) {
		t.Helper()
		if err := os.WriteFile(files.Path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(withCircuit(to(address, ""), "consecutive_failures: 1, timeout: 1h"))
	if err := files.Load(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { files.Run(ctx) })
	defer running.Wait()
	defer stop()
	client := speaker(t, "HTTP/1.1")
	waittest.Until(t, "the circuit opens", func() bool {
		return statusOf(t, client, g.address) == "503 CIRCUIT_OPEN after 3600"
	})
	write(withCircuit(to(address, ""), "consecutive_failures: 2, timeout: 30m"))
	reload <- struct{}{}
	last := ""
	waittest.Until(t, "a shorter time", func() bool {
		last = statusOf(t, client, g.address)
		return last != "503 CIRCUIT_OPEN after 3600"
	})
	if last != "503 CIRCUIT_OPEN after 1800" {
		t.Errorf("with a shorter time: %s", last)
	}
	write(to(address, ""))
	reload <- struct{}{}
	waittest.Until(t, "no circuit", func() bool { return statusOf(t, client, g.address) == "500" })
}
