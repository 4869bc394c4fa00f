package listener

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// teller is a protocol in which the server says who the client is and what it said, when the client has ended its side
// or said a line.
type teller struct {
	mu    sync.Mutex
	conns map[*socket.Conn]bool
}

func (s *teller) Serve(sock *socket.Conn, peer *exchange.Peer, ended func()) {
	defer ended()
	s.mu.Lock()
	s.conns[sock] = true
	s.mu.Unlock()
	for err := error(nil); err == nil && !bytes.Contains(sock.Buffered(), []byte("\n")); {
		sock.ReadWithin(time.Now(), time.Minute)
		err = sock.Fill()
	}
	sock.WriteWithin(time.Now(), time.Minute)
	_ = sock.Write(fmt.Appendf(nil, "%s %s %q", peer.ClientText, peer.Scheme, sock.Buffered()), nil)
	s.mu.Lock()
	delete(s.conns, sock)
	s.mu.Unlock()
	_ = sock.Close()
}

func (s *teller) Leave() {}

func (s *teller) Drain() {}

func (s *teller) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Abort()
	}
}

// running is a listener with its surroundings.
type running struct {
	*Listener
	t        *testing.T
	counters *telemetry.Registry
	log      *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func run(t *testing.T, address string, set Settings) *running {
	t.Helper()
	r := &running{t: t, counters: telemetry.New(1), log: &lockedBuffer{}}
	set.Log, set.Counters = slog.New(slog.NewTextHandler(r.log, nil)), r.counters
	if set.Servers.HTTP1 == nil {
		set.Servers.HTTP1 = &teller{conns: map[*socket.Conn]bool{}}
	}
	ln, err := Listen(address, set)
	if err != nil {
		t.Fatal(err)
	}
	r.Listener = ln
	go ln.Serve()
	t.Cleanup(func() {
		now := make(chan struct{})
		close(now)
		Drain(now, ln)
	})
	return r
}

// dial connects from an address of this machine, or any. A connection that is refused may fail here or later.
func (r *running) dial(ip string) (net.Conn, error) {
	d := net.Dialer{Timeout: waittest.Limit}
	if ip != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(ip)}
	}
	c, err := d.Dial(r.Addr().Network(), r.Addr().String())
	if err == nil {
		r.t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(waittest.Deadline())
	}
	return c, err
}

// from connects where that can't fail.
func (r *running) from(ip string) net.Conn {
	r.t.Helper()
	c, err := r.dial(ip)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// ask connects from an address, sends something and returns everything that comes back.
func (r *running) ask(ip, text string) (string, error) {
	r.t.Helper()
	c, err := r.dial(ip)
	if err != nil {
		return "", err
	}
	return say(r.t, c, text)
}

// say sends something and returns everything that comes back.
func say(t *testing.T, c net.Conn, text string) (string, error) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// metric returns the value of a counter.
func (r *running) metric(name, label string) float64 {
	r.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.counters)
	all, err := registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
