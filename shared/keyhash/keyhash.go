// Package keyhash makes numbers of what requests are told apart by. They are the same on all nodes, in all builds, and
// whoever knows them can make keys that have the same: they protect from nothing.
package keyhash

import (
	"encoding/binary"
	"net/netip"
)

// Text returns the hash of a text: FNV-1a with 64 bits, whose bits are then mixed.
func Text(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return Mix(h)
}

// Client returns the hash of a client's address. All of an IPv6 network of 64 bits are one client, which may change its
// address within that at any time (RFC 8981); an IPv4 address is the same when it is mapped.
func Client(a netip.Addr) uint64 {
	bytes := a.As16()
	if a.Unmap().Is4() {
		return Mix(binary.BigEndian.Uint64(bytes[8:]))
	}
	return Mix(binary.BigEndian.Uint64(bytes[:8]))
}

// Mix is the finaliser of SplitMix64: each bit of what it returns depends on all that it is given.
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
