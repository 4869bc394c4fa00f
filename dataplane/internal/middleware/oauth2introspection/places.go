package oauth2introspection

import (
	"net/netip"

	"gateway.internal/shared/fair"
)

const (
	// maxStrangers is how many tokens that nothing good is known of are asked about at a time: made-up ones are not to
	// become a load that the server can't bear. Clients share these places.
	maxStrangers = 256
	// maxFriends is how many tokens that were active when they were last asked about are asked about besides. Who makes
	// tokens up can't take these places.
	maxFriends = 256
)

// asker is whom a token is asked about for.
type asker struct {
	friend bool         // the token was active when it was last asked about
	client netip.Prefix // where the request comes from: one address, and of IPv6 its /64
}

func askerOf(client netip.Addr, friend bool) asker {
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	p, _ := client.WithZone("").Prefix(bits) // the zero one where the address is not known
	return asker{friend, p}
}

// places are those of questions that are under way. They are not safe for concurrent use.
type places struct {
	friends   int
	strangers *fair.Share[netip.Prefix]
}

func newPlaces() places { return places{strangers: fair.New[netip.Prefix](maxStrangers)} }

// take takes a place; false: there is none.
func (p *places) take(a asker) bool {
	if !a.friend {
		return p.strangers.Take(a.client)
	}
	if p.friends >= maxFriends {
		return false
	}
	p.friends++
	return true
}

// leave gives back what take has taken.
func (p *places) leave(a asker) {
	if a.friend {
		p.friends--
		return
	}
	p.strangers.Give(a.client)
}
