package iprestriction

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// prefixes are so many of IPv4 and of IPv6, in turn.
func prefixes(n int) []string {
	list := make([]string, n)
	for i := range list {
		if i%2 == 0 {
			list[i] = fmt.Sprintf("%d.%d.%d.0/24", 100+i>>16, i>>8&255, i&255)
		} else {
			list[i] = fmt.Sprintf("2001:db8:%x:%02x00::/56", 0x1000+i>>8, i&255)
		}
	}
	return list
}

// TestManyPrefixes has 100,000 prefixes, of which each address that is listed is refused and none beside.
func TestManyPrefixes(t *testing.T) {
	const n = 100_000
	s, err := New(&middlewarev1.IpRestriction{Deny: prefixes(n)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		client string
		passes bool
	}{
		{"100.0.0.7", false}, {"100.0.1.7", true}, {"101.134.158.255", false}, {"101.134.160.1", true}, {"99.0.0.1", true},
		{"2001:db8:1000:1100::7", false}, {"2001:db8:1000:1200::7", true}, {"::ffff:100.0.0.7", false},
	} {
		x := &exchange.Exchange{}
		x.Client = netip.AddrPortFrom(netip.MustParseAddr(c.client), 1)
		if got := s.Request(x) == exchange.Continue; got != c.passes {
			t.Errorf("%s passes: %t", c.client, got)
		}
	}
}

// BenchmarkPrefixes is of a request whose address no prefix has: its cost does not depend on how many there are.
func BenchmarkPrefixes(b *testing.B) {
	for _, n := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			list := prefixes(n)
			runtime.GC()
			runtime.ReadMemStats(&before)
			s, err := New(&middlewarev1.IpRestriction{Deny: list}, nil)
			if err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			x := &exchange.Exchange{}
			x.Client = netip.MustParseAddrPort("100.0.1.7:1")
			b.ReportAllocs()
			for b.Loop() {
				if s.Request(x) != exchange.Continue {
					b.Fatal("refused")
				}
			}
			b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(n), "B/prefix")
			runtime.KeepAlive(list)
		})
	}
}

// BenchmarkMake is what a node spends on a change of 100,000 prefixes.
func BenchmarkMake(b *testing.B) {
	m := &middlewarev1.IpRestriction{Deny: prefixes(100_000)}
	for b.Loop() {
		if _, err := New(m, nil); err != nil {
			b.Fatal(err)
		}
	}
}
