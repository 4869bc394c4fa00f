package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/shared/certtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) tls.Certificate {
	t.Helper()
	template := x509.Certificate{DNSNames: []string{"a"}, NotAfter: time.Now().Add(1000 * time.Hour)}
	return certtest.New(t, nil, template).TLS()
}

// resumes does a handshake and reports whether it took a session up again.
func resumes(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s, err := ln.Accept(); err == nil {
			_, _ = s.Write([]byte("x")) // the client reads the ticket before it
			_ = s.Close()
		}
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	<-done
	return c.ConnectionState().DidResume
}

func TestTicketsOfNodes(t *testing.T) {
	cert := pair(t)
	server := func(tickets *Tickets, p Policy) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{cert}}
		tickets.bind(c, p)
		return c
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	one, two, stranger := NewTickets(secret), NewTickets(secret), NewTickets(nil)
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "a", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	plain, strict := Policy{}, Policy{Required: true, ID: [32]byte{1}}
	now := time.Now()
	for _, step := range []struct {
		name   string
		after  time.Duration
		server *tls.Config
		want   bool
	}{
		{"first", 0, server(one, plain), false},
		{"same node", 0, server(one, plain), true},
		{"other node, same secret", 0, server(two, plain), true},
		{"next period", TicketPeriod, server(two, plain), true},
		{"two periods later", 2 * TicketPeriod, server(one, plain), false},
		{"another policy", 0, server(one, strict), false},
		{"that policy again", 0, server(two, strict), true},
		{"another secret", 0, server(stranger, strict), false},
	} {
		now = now.Add(step.after)
		one.rotate(now)
		two.rotate(now)
		if got := resumes(t, step.server, client); got != step.want {
			t.Errorf("%s: resumed %v", step.name, got)
		}
	}
}
