package routing

import (
	"math"
	"net/netip"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/keyhash"
	"gateway.internal/shared/match"
)

// Sticky leads the requests of one client to the same share. It is immutable.
type Sticky struct {
	// cookie and header are what tells clients apart; without a name it is something else.
	cookie            config.Cookie
	header            string
	address, consumer bool
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
	return &Sticky{
		cookie: config.CookieOf(m.GetCookie()), header: m.GetHeader(), address: m.GetClientIp(), consumer: m.GetConsumer(),
	}
}

// AppendCookie appends the value of a field Set-Cookie that gives a client its id.
func (s *Sticky) AppendCookie(b []byte, id ClientID, scheme string) []byte {
	b = append(append(b, s.cookie.Name...), '=')
	return s.cookie.AppendAttributes(id.appendText(b), scheme)
}

// key returns what the share follows from; ok is false where the request does not have it.
func (s *Sticky) key(q *match.Request, c *Client) (key uint64, ok bool) {
	text := ""
	switch {
	case s.cookie.Name != "":
		text, _ = match.Cookie(q.Header, s.cookie.Name)
	case s.header != "":
		if q.Header != nil {
			text, _ = q.Header.Lookup(s.header)
		}
	case s.consumer:
		text = c.Consumer
	case s.address && c.Address.IsValid():
		return keyhash.Client(c.Address), true
	}
	return keyhash.Text(text), text != ""
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
		u := (float64(keyhash.Mix(key^share.seed)>>11) + 0.5) / (1 << 53) // above 0 and below 1
		if t := -math.Log(u) / float64(share.Weight); t < first {
			best, first = i, t
		}
	}
	return best
}
