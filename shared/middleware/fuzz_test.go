package middleware

import (
	"net/netip"
	"testing"
)

// FuzzParsePrefix reads any address or prefix. What is taken has no bits beyond its length, is read the same when it is
// written out, and says of an address, in either form that IPv4 has, the same as the standard library.
func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"192.0.2.7", "192.0.2.0/24", "192.0.2.1/24", "::ffff:192.0.2.0/120", "::ffff:1.2.3.4", "fe80::1%eth0", "::/0", "0.0.0.0/0", "::ffff:0:0/95", "1.2.3.4/33", "01.2.3.4"} {
		f.Add(s, "192.0.2.7")
		f.Add(s, "::ffff:192.0.2.7")
	}
	f.Fuzz(func(t *testing.T, text, address string) {
		p, err := ParsePrefix(text)
		if err != nil {
			return
		}
		if !p.IsValid() || p.Masked() != p || p.Addr().Zone() != "" || p.Addr().Is4In6() && p.Bits() >= 96 {
			t.Fatalf("%q is taken as %v", text, p)
		}
		if again, err := ParsePrefix(p.String()); err != nil || again != p {
			t.Fatalf("%q is %v, which is read as %v, %v", text, p, again, err)
		}
		a, err := netip.ParseAddr(address)
		if err != nil || a.Zone() != "" {
			return
		}
		whole, err := netip.ParsePrefix(text)
		if err != nil {
			one := netip.MustParseAddr(text)
			whole = netip.PrefixFrom(one, one.BitLen())
		}
		if whole.Addr().Is4In6() && whole.Bits() >= 96 {
			whole = netip.PrefixFrom(whole.Addr().Unmap(), whole.Bits()-96)
		}
		if got := p.Contains(a.Unmap()); got != whole.Contains(a.Unmap()) {
			t.Errorf("%q has %v: %v", text, a, got)
		}
	})
}
