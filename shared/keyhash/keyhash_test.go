package keyhash

import (
	"net/netip"
	"testing"
)

// TestHashesStay: nodes of several builds lead a key to the same place.
func TestHashesStay(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0xc3817c016ba4ff30, "a": 0x5f29c2aadd9b8527, "3f0c5d11a2b49e07": 0xe26cee385ee9073d,
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: %#x, want %#x", text, got, want)
		}
	}
}

// TestClients: an IPv6 network of 64 bits is one client, and an IPv4 address one however it is written.
func TestClients(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
	} {
		if same := Client(netip.MustParseAddr(c.a)) == Client(netip.MustParseAddr(c.b)); same != c.same {
			t.Errorf("%s and %s: %t", c.a, c.b, same)
		}
	}
}
