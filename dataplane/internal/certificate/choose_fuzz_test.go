package certificate

import (
	"crypto/tls"
	"strings"
	"testing"

	"gateway.internal/shared/hostname"
)

// FuzzChoose holds the choice of a host by the name that a client asks for over TLS against the rules, said anew, and
// against the choice by the host of a request: where these two differ, a client that has proved nothing reaches what
// asks for a certificate.
func FuzzChoose(f *testing.F) {
	for _, name := range []string{"", ".", "a.example", "A.Example.", "b.a.example", "x.b.example", "X.B.EXAMPLE", "y.x.b.example", "b.example", ".b.example", "c.example", "a.example..", "127.0.0.1", "*.b.example", "a.example\x00"} {
		f.Add(name, uint16(443), true)
	}
	f.Add("x.b.example.", uint16(0), false)
	f.Fuzz(func(t *testing.T, name string, port uint16, fallback bool) {
		made := func(id byte) *host {
			return &host{config: &tls.Config{}, policy: Policy{Required: id > 1, ID: [32]byte{id}}}
		}
		exact, wildcard, other := made(1), made(2), made(3)
		s := &Set{}
		for pattern, h := range map[string]*host{"a.example": exact, "b.example": exact, "*.b.example": wildcard} {
			p, _ := hostname.Parse(pattern)
			s.hosts.Put(p, h)
		}
		want := &host{config: nothing}
		if fallback {
			s.fallback, want = other, other
		}
		key := strings.ToLower(strings.TrimSuffix(name, "."))
		if strings.ContainsAny(name, ":[") || len(key) > hostname.MaxLength {
			return // the name of a host has none, and is not as long
		}
		below, under := strings.CutSuffix(key, ".b.example")
		switch {
		case key == "a.example" || key == "b.example":
			want = exact
		case under && below != "":
			want = wildcard
		}
		config, policy := s.Choose(&tls.ClientHelloInfo{ServerName: name})
		if config != want.config || policy != want.policy {
			t.Errorf("%q gets %+v, not %+v", name, policy, want.policy)
		}
		for _, authority := range []string{name, name + ":" + strings.Repeat("8", int(port%6))} {
			if got := s.Policy(authority); got != policy {
				t.Errorf("a request for %q meets %+v, the connection for %q %+v", authority, got, name, policy)
			}
		}
	})
}
