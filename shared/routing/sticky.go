package routing

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
)

// Sticky leads the requests of one client to the same share. It is immutable.
type Sticky struct {
	// cookie and header are the names of what tells clients apart; empty: it is something else.
	cookie, header     string
	address, consumer  bool
	before, after, tls string // what stands around the value in Set-Cookie, and what comes after that over https
}

// Client is what is known of whom a request comes from. The zero value: nothing.
type Client struct {
	// Address is the client's.
	Address netip.Addr
	// Consumer is the name of the client application, and Groups are its groups.
	Consumer string
	Groups   []string
}

// ClientID is the value of a cookie that tells clients apart; 0: there is none to set.
type ClientID uint64

// newClientID makes one of random numbers.
func newClientID(random func(n uint32) uint32) ClientID {
	return ClientID(uint64(random(math.MaxUint32))<<32 | uint64(random(math.MaxUint32)) | 1)
}

// appendText appends the value as the cookie has it: 16 hexadecimal digits.
func (id ClientID) appendText(b []byte) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[id>>shift&15])
	}
	return b
}

func newSticky(m *configv1.Sticky) *Sticky {
	if m == nil {
		return nil
	}
	s := &Sticky{header: m.GetHeader(), address: m.GetClientIp(), consumer: m.GetConsumer()}
	if c := m.GetCookie(); c != nil {
		s.cookie, s.before = c.GetName(), c.GetName()+"="
		path, site := c.GetPath(), c.GetSameSite()
		if path == "" {
			path = "/"
		}
		if site == "" {
			site = "lax"
		}
		s.after = "; Path=" + path
		if c.GetDomain() != "" {
			s.after += "; Domain=" + c.GetDomain()
		}
		if d, err := config.ParseDuration(c.GetTtl()); err == nil && c.GetTtl() != "" {
			s.after += "; Max-Age=" + strconv.FormatInt(int64(d/time.Second), 10)
		}
		s.after += "; HttpOnly; SameSite=" + strings.ToUpper(site[:1]) + site[1:]
		if s.tls = "; Secure"; site == "none" {
			s.after, s.tls = s.after+s.tls, ""
		}
	}
	return s
}

// AppendCookie appends the value of a field Set-Cookie that gives a client its id.
func (s *Sticky) AppendCookie(b []byte, id ClientID, scheme string) []byte {
	b = append(b, s.before...)
	b = id.appendText(b)
	b = append(b, s.after...)
	if scheme == "https" {
		b = append(b, s.tls...)
	}
	return b
}

// key returns what the share follows from; ok is false where the request does not have it.
func (s *Sticky) key(q *match.Request, c *Client) (key uint64, ok bool) {
	text := ""
	switch {
	case s.cookie != "":
		text, _ = match.Cookie(q.Header, s.cookie)
	case s.header != "":
		if q.Header != nil {
			text, _ = q.Header.Lookup(s.header)
		}
	case s.consumer:
		text = c.Consumer
	case s.address && c.Address.IsValid():
		a := c.Address.As16() // that of IPv4 is mapped
		if key = binary.BigEndian.Uint64(a[:8]); c.Address.Unmap().Is4() {
			key = binary.BigEndian.Uint64(a[8:])
		}
		return mix(key), true
	}
	return hash(text), text != ""
}

// hash is FNV-1a with 64 bits, whose bits are then mixed: it is the same in all builds.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64: each bit of what it returns depends on all that it is given.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// of returns the share of a key, by its index: weighted rendezvous hashing. Each share draws an exponential time whose
// rate is its weight, from the key and its service's name alone, and the first one has the key. So a share wins keys
// from all others when its weight grows, loses to all of them when it shrinks, and nothing else moves.
func (s *Split) of(key uint64) int {
	best, first := 0, math.Inf(1)
	for i := range s.Shares {
		share := &s.Shares[i]
		if share.Weight == 0 {
			continue
		}
		u := (float64(mix(key^share.seed)>>11) + 0.5) / (1 << 53) // above 0 and below 1
		if t := -math.Log(u) / float64(share.Weight); t < first {
			best, first = i, t
		}
	}
	return best
}
