package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zone is a name server: it answers by name and type, over UDP and TCP.
type zone struct {
	address string
	old     bool // it does not know EDNS
	mu      sync.Mutex
	records map[string][]string // by name and type, such as "a.test. A": records; "!NAME" answers with that code, "-" not at all
	asked   []string            // "udp a.test. A"
}

func newZone(t *testing.T, records map[string][]string) *zone {
	t.Helper()
	z := &zone{records: records}
	var packets net.PacketConn
	var stream net.Listener
	for range 20 { // until one port is free for both
		var err error
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if stream, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			break
		}
		_ = packets.Close()
	}
	if stream == nil {
		t.Fatal("no port is free for UDP and TCP")
	}
	z.address = packets.LocalAddr().String()
	var wg sync.WaitGroup
	for _, s := range []*dns.Server{
		{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { z.answer(w, m, "udp") })},
		{Listener: stream, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { z.answer(w, m, "tcp") })},
	} {
		begun := make(chan struct{})
		s.NotifyStartedFunc = func() { close(begun) }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-begun
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

func (z *zone) answer(w dns.ResponseWriter, m *dns.Msg, network string) {
	key := m.Question[0].Name + " " + dns.TypeToString[m.Question[0].Qtype]
	z.mu.Lock()
	z.asked = append(z.asked, network+" "+key)
	records, known := z.records[key]
	old := z.old
	z.mu.Unlock()
	r := new(dns.Msg)
	r.SetReply(m)
	if old && m.IsEdns0() != nil {
		r.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(r)
		return
	}
	if !known {
		r.Rcode = dns.RcodeNameError
	}
	for _, text := range records {
		if text == "-" {
			return
		}
		if code, is := strings.CutPrefix(text, "!"); is {
			r.Rcode = dns.StringToRcode[code]
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	if network == "udp" && r.Len() > 512 {
		r.Truncated, r.Answer = true, nil
	}
	_ = w.WriteMsg(r)
}

// asks returns how often a question has come.
func (z *zone) asks(question string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := 0
	for _, q := range z.asked {
		if q == question {
			n++
		}
	}
	return n
}

// clientOf makes a client of files with this content.
func clientOf(t *testing.T, resolvConf, hosts string, servers ...string) *client {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"resolv.conf": resolvConf, "hosts": hosts} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := newClient(Settings{Servers: servers, ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func many(n int) (records []string) {
	for i := range n {
		records = append(records, fmt.Sprintf("many.test. 60 IN A 127.0.1.%d", i+1))
	}
	return records
}

func TestLookup(t *testing.T) {
	z := newZone(t, map[string][]string{
		"two.test. A":              {"two.test. 30 IN A 127.0.0.2", "two.test. 20 IN A 127.0.0.3"},
		"two.test. AAAA":           {"two.test. 25 IN AAAA ::1"},
		"alias.test. A":            {"alias.test. 5 IN CNAME b.test.", "b.test. 60 IN CNAME c.test.", "c.test. 60 IN A 127.0.0.4", "other.test. 60 IN A 127.0.0.9"},
		"alias.test. AAAA":         {"alias.test. 5 IN CNAME b.test."},
		"many.test. A":             many(100),
		"many.test. AAAA":          {},
		"half.test. A":             {"half.test. 60 IN A 127.0.0.5"},
		"half.test. AAAA":          {"!SERVFAIL"},
		"broken.test. A":           {"!SERVFAIL"},
		"broken.test. AAAA":        {"!REFUSED"},
		"empty.test. A":            {},
		"empty.test. AAAA":         {},
		"short.search.test. A":     {"short.search.test. 60 IN A 127.0.0.6"},
		"a.b.search.test. A":       {"a.b.search.test. 60 IN A 127.0.0.7"},
		"a.b.search.test. AAAA":    {},
		"short.search.test. AAAA":  {},
		"dots.in.it.search.test. ": {},
	})
	host, port, _ := net.SplitHostPort(z.address)
	conf := fmt.Sprintf("nameserver %s\nsearch first.test search.test\noptions ndots:2 timeout:1 attempts:1\n", host)
	c := clientOf(t, conf, "127.0.0.8 Files.test files # words\n::1 files.test\nnonsense x\n", net.JoinHostPort(host, port))
	for name, want := range map[string]struct {
		addresses string
		ttl       time.Duration
		err       string
	}{
		"two.test.":           {"127.0.0.2 127.0.0.3 ::1", 20 * time.Second, ""},
		"alias.test.":         {"127.0.0.4", 5 * time.Second, ""},
		"half.test.":          {"127.0.0.5", 60 * time.Second, ""},
		"broken.test.":        {"", 0, "SERVFAIL"},
		"empty.test.":         {"", 0, "no address"},
		"none.test.":          {"", 0, "no address"},
		"short":               {"127.0.0.6", 60 * time.Second, ""},
		"a.b":                 {"127.0.0.7", 60 * time.Second, ""},
		"files.TEST":          {"127.0.0.8 ::1", hostsTTL, ""},
		"localhost":           {"127.0.0.1 ::1", hostsTTL, ""},
		"service.localhost.":  {"127.0.0.1 ::1", hostsTTL, ""},
		"broken.test":         {"", 0, "SERVFAIL"},
		"not.anywhere.at.all": {"", 0, "no address"},
	} {
		got, err := c.lookup(t.Context(), name)
		var addresses []string
		for _, a := range got.addresses {
			addresses = append(addresses, a.String())
		}
		slices.Sort(addresses)
		switch {
		case want.err != "":
			if err == nil || !strings.Contains(err.Error(), want.err) || errors.Is(err, ErrNotFound) != (want.err == "no address") {
				t.Errorf("%s: error %v, want one that says %s", name, err, want.err)
			}
		case err != nil || strings.Join(addresses, " ") != want.addresses || got.ttl != want.ttl:
			t.Errorf("%s: %v for %s, %v; want %s for %s", name, addresses, got.ttl, err, want.addresses, want.ttl)
		}
	}
	if got, err := c.lookup(t.Context(), "many.test."); err != nil || len(got.addresses) != 100 || z.asks("tcp many.test. A") != 1 {
		t.Errorf("%d of 100 addresses, %v; %d questions over TCP", len(got.addresses), err, z.asks("tcp many.test. A"))
	}
	if got, _ := c.lookup(t.Context(), "half.test."); got.missing == nil || !got.missing(netip.IPv6Loopback()) || got.missing(netip.IPv4Unspecified()) {
		t.Error("it is not said that the addresses of IPv6 could not be asked for")
	}
}

// TestSilenceAboutOneFamily has a server that never answers questions about IPv6: what it says of IPv4 is used soon,
// and of IPv6 it is not known.
func TestSilenceAboutOneFamily(t *testing.T) {
	z := newZone(t, map[string][]string{"a.test. A": {"a.test. 60 IN A 127.0.0.2"}, "a.test. AAAA": {"-"}})
	c := clientOf(t, "options attempts:10\n", "", z.address)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	got, err := c.lookup(ctx, "a.test.")
	if err != nil || ctx.Err() != nil || len(got.addresses) != 1 || got.missing == nil || !got.missing(netip.IPv6Loopback()) {
		t.Errorf("%v, %v, the limit of the test is over: %v", got.addresses, err, ctx.Err())
	}
}

// TestOrderOfManyAddresses has a server that turns the order of more addresses than are used.
func TestOrderOfManyAddresses(t *testing.T) {
	var records []string
	for i := range maxAddresses + 100 {
		records = append(records, fmt.Sprintf("many.test. 60 IN A 127.0.%d.%d", 1+i/250, 1+i%250))
	}
	z := newZone(t, map[string][]string{"many.test. A": records, "many.test. AAAA": {}})
	c := clientOf(t, "", "", z.address)
	first, err := c.lookup(t.Context(), "many.test.")
	if err != nil || len(first.addresses) != maxAddresses {
		t.Fatalf("%d addresses, %v", len(first.addresses), err)
	}
	z.mu.Lock()
	z.records["many.test. A"] = append(slices.Clone(records[200:]), records[:200]...)
	z.mu.Unlock()
	if next, err := c.lookup(t.Context(), "many.test."); err != nil || !slices.Equal(next.addresses, first.addresses) {
		t.Errorf("another order makes other addresses of it: %v, %v", next.addresses, err)
	}
}

// TestServerWithoutEDNS has one that takes questions with EDNS for malformed ones.
func TestServerWithoutEDNS(t *testing.T) {
	z := newZone(t, map[string][]string{"a.test. A": {"a.test. 60 IN A 127.0.0.2"}, "a.test. AAAA": {}})
	z.mu.Lock()
	z.old = true
	z.mu.Unlock()
	c := clientOf(t, "", "", z.address)
	if got, err := c.lookup(t.Context(), "a.test."); err != nil || len(got.addresses) != 1 {
		t.Errorf("%v, %v", got.addresses, err)
	}
}

// TestServersInTurn has one that is silent and one that refuses before the one that knows.
func TestServersInTurn(t *testing.T) {
	silent := newZone(t, map[string][]string{"a.test. A": {"-"}, "a.test. AAAA": {"-"}})
	refuses := newZone(t, map[string][]string{"a.test. A": {"!REFUSED"}, "a.test. AAAA": {"!REFUSED"}})
	knows := newZone(t, map[string][]string{"a.test. A": {"a.test. 60 IN A 127.0.0.2"}, "a.test. AAAA": {}})
	c := clientOf(t, "options timeout:1 attempts:1\n", "", silent.address, refuses.address, knows.address)
	got, err := c.lookup(t.Context(), "a.test.")
	if err != nil || len(got.addresses) != 1 {
		t.Errorf("%v, %v", got.addresses, err)
	}
}

// TestFilesAreReadAgain changes the file of hosts.
func TestFilesAreReadAgain(t *testing.T) {
	c := clientOf(t, "", "127.0.0.2 a.test\n")
	for _, address := range []string{"127.0.0.2", "127.0.0.33"} {
		if err := os.WriteFile(c.hosts.path, []byte(address+" a.test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.lookup(context.Background(), "a.test"); err != nil || len(got.addresses) != 1 || got.addresses[0].String() != address {
			t.Errorf("%v, %v; want %s", got.addresses, err, address)
		}
	}
}

func TestCheckServers(t *testing.T) {
	if err := CheckServers([]string{"192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:53", "[2001:db8::1]"}); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "dns.example", "192.0.2.1:0", "192.0.2.1:x", "192.0.2.1:53:53"} {
		if err := CheckServers([]string{s}); err == nil || !strings.Contains(err.Error(), "192.0.2.1:5353") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// FuzzRead takes answers of any kind apart.
func FuzzRead(f *testing.F) {
	question := new(dns.Msg)
	question.SetQuestion("a.test.", dns.TypeA)
	for _, records := range [][]string{{"a.test. 5 IN A 127.0.0.1"}, {"a.test. 5 IN CNAME a.test."}, {"a.test. 5 IN CNAME b.test.", "b.test. 5 IN CNAME a.test.", "b.test. 1 IN AAAA ::1"}} {
		r := new(dns.Msg)
		r.SetReply(question)
		for _, text := range records {
			rr, _ := dns.NewRR(text)
			r.Answer = append(r.Answer, rr)
		}
		wire, _ := r.Pack()
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := new(dns.Msg)
		if r.Unpack(wire) != nil {
			return
		}
		got, err := read(question, r, "192.0.2.1:53")
		if (err == nil) != (len(got.addresses) > 0) || len(got.addresses) > maxAddresses || got.ttl < 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// FuzzHosts reads files of any kind.
func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 ip6-localhost # loopback\nfe80::1%eth0 link")
	f.Fuzz(func(t *testing.T, text string) {
		known, err := parseHosts(text)
		if err != nil {
			t.Fatal(err)
		}
		for name, addresses := range known {
			if name != canonical(name) || len(addresses) == 0 {
				t.Errorf("%q: %v", name, addresses)
			}
		}
	})
}
