package upstream

import (
	"encoding/hex"
	"math/rand/v2"
	"unsafe"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/keyhash"
	"gateway.internal/shared/match"
)

// hashKey finds what exchanges are told apart by.
type hashKey struct{ config.HashKey }

// Locate looks for what tells an exchange apart from others, where the service's balancer asks for it. It has to be
// called before attempts at once begin, which share it; Pick does otherwise.
func (s *Service) Locate(x *exchange.Exchange) {
	if c := s.current.Load(); c.hash != nil {
		c.hash.of(x)
	}
}

// of returns the exchange's affinity, or that of the exchange which it is an attempt of: attempts lack what it is found
// by, such as the path's parameters.
func (k *hashKey) of(x *exchange.Exchange) *exchange.Affinity {
	x = x.Origin()
	a := x.Affinity()
	if !a.Known {
		k.find(x, a)
	}
	return a
}

// find looks for an exchange's key. Where it is a cookie that the client does not have, it makes one.
func (k *hashKey) find(x *exchange.Exchange, a *exchange.Affinity) {
	a.Known = true
	var value string
	switch k.Source {
	case config.HashHeader:
		value, a.Keyed = x.Request.Header.Lookup(k.Name)
	case config.HashPathParameter:
		value, a.Keyed = x.Params.Get(k.Name)
	case config.HashConsumer:
		value = x.Consumer()
		a.Keyed = value != ""
	case config.HashCookie:
		if value, a.Keyed = match.Cookie(&x.Request.Header, k.Cookie.Name); !a.Keyed || value == "" {
			value, a.Keyed = k.give(x, a), true
		}
	default:
		if a.Keyed = x.Client.IsValid(); a.Keyed {
			a.Hash = keyhash.Client(x.Client.Addr())
		}
		return
	}
	a.Hash = keyhash.Text(value)
}

// cookieBytes is the length of a cookie's value before it is written in hexadecimal.
const cookieBytes = 16

// give makes a cookie, and returns its value.
func (k *hashKey) give(x *exchange.Exchange, a *exchange.Affinity) string {
	var random [cookieBytes]byte
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	begin := len(x.Texts)
	x.Texts = append(append(x.Texts, k.Cookie.Name...), '=')
	value := len(x.Texts)
	x.Texts = hex.AppendEncode(x.Texts, random[:])
	end := len(x.Texts)
	x.Texts = k.Cookie.AppendAttributes(x.Texts, x.Scheme)
	text := x.Texts[begin:]
	a.SetCookie = unsafe.String(&text[0], len(text))
	return a.SetCookie[value-begin : end-begin]
}
