package iprestriction

import (
	"net/netip"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func TestLists(t *testing.T) {
	for _, c := range []struct {
		allow, deny []string
		client      string
		passes      bool
	}{
		{[]string{"10.0.0.0/8"}, nil, "10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, nil, "::ffff:10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, nil, "11.1.2.3", false},
		{[]string{"10.0.0.0/8"}, []string{"10.1.2.3"}, "10.1.2.3", false},
		{nil, []string{"2001:db8::/32"}, "2001:db8::1", false},
		{nil, []string{"2001:db8::/32"}, "2001:db9::1", true},
		{[]string{"fe80::/10"}, nil, "fe80::1%eth0", true},
		{[]string{"10.0.0.0/8"}, nil, "", false},
	} {
		s, err := New(&middlewarev1.IpRestriction{Allow: c.allow, Deny: c.deny, Status: 451}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var x exchange.Exchange
		if c.client != "" {
			x.Client = netip.AddrPortFrom(netip.MustParseAddr(c.client), 1)
		}
		if got := s.Request(&x) == exchange.Continue; got != c.passes {
			t.Errorf("allow %v, deny %v, client %s: passes %v", c.allow, c.deny, c.client, got)
		}
		if !c.passes && x.Response.Status != 451 {
			t.Errorf("status %d", x.Response.Status)
		}
	}
}
