// Package forwarded finds out by what trusted proxies say who the client of a request is, and decides what services are
// told of it: by X-Forwarded-For and its companions, and by Forwarded (RFC 7239). It does not know how the fields are
// sent.
package forwarded

import (
	"net/netip"
	"unsafe"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
)

// MaxProxies is how many trusted proxies are gone back through. Where there are more, the last of them counts for the
// client.
const MaxProxies = 32

// origin is where a request comes from, as far back as it can be told.
type origin struct {
	client netip.AddrPort
	// proxies are those between the client and this node, from the nearest; those without an address are left out.
	proxies [MaxProxies]netip.Addr
	n       int
	// scheme and host are what the last proxy that was asked says; empty: nothing that can be taken.
	scheme, host string
}

var directly = exchange.Forwarding{}

// Apply takes what a request says of its origin out of its header. Of a trusted proxy it is believed: the exchange's
// client and scheme become those that the proxy names. Services are told only of what is believed. It does not allocate
// once the exchange's memory has grown.
func Apply(x *exchange.Exchange) {
	settings, trusted := &directly, false
	if x.Peer != nil {
		trusted = x.Peer.Trusted
		if x.Peer.Forwarding != nil {
			settings = x.Peer.Forwarding
		}
	}
	claims := claimed(&x.Request.Header)
	x.ForwardedMemory = x.ForwardedMemory[:0]
	x.Forwarded.OmitXForwarded = !settings.Fields.X()
	if claims && trusted && settings.Fields != exchange.NoForwardedFields {
		believe(x, settings)
	}
	switch {
	case claims && trusted:
		x.Request.Header.Drop(renewed)
	case claims:
		x.Request.Header.Drop(exchange.Name.Claims)
	}
	if settings.Fields.Standard() && x.Forwarded.Standard == "" {
		var o origin
		o.client = x.Client
		tellStandard(x, &o)
	}
}

func claimed(h *exchange.Header) bool {
	fields := h.Fields()
	for i := range fields {
		if fields[i].Known.Claims() {
			return true
		}
	}
	return false
}

// renewed picks the claims of which the node makes its own.
func renewed(n exchange.Name) bool { return n.Claims() && n.Renewed() }

// believe makes the exchange that of the client that a trusted proxy names.
func believe(x *exchange.Exchange, settings *exchange.Forwarding) {
	var o origin
	if !o.find(x, settings) {
		return
	}
	if o.scheme != "" {
		x.Scheme = o.scheme
	}
	if o.host != "" {
		x.Forwarded.Host = o.host
		if settings.RouteByHost {
			x.Request.Host = o.host
		}
	}
	x.Client = o.client
	tellX(x, &o)
	if settings.Fields.Standard() {
		tellStandard(x, &o)
	}
}

// find goes back to where the request comes from. It returns false when the fields contradict each other.
func (o *origin) find(x *exchange.Exchange, settings *exchange.Forwarding) bool {
	if !settings.Fields.Standard() {
		o.byX(x, settings.Proxies)
		return true
	}
	_, standard := x.Request.Header.Known(exchange.Forwarded)
	if settings.Fields == exchange.ForwardedField {
		o.byStandard(x, settings.Proxies)
		return true
	}
	if !standard {
		o.byX(x, settings.Proxies)
		return true
	}
	o.byStandard(x, settings.Proxies)
	if !hasX(&x.Request.Header) {
		return true
	}
	var other origin
	other.byX(x, settings.Proxies)
	return o.agree(&other)
}

func hasX(h *exchange.Header) bool {
	for _, n := range [...]exchange.Name{exchange.XForwardedFor, exchange.XForwardedProto, exchange.XForwardedHost} {
		if _, there := h.Known(n); there {
			return true
		}
	}
	return false
}

// agree reports whether both say the same, where both say something, and takes over what only the other one says.
func (o *origin) agree(other *origin) bool {
	if o.client.Addr() != other.client.Addr() || o.n != other.n || o.proxies != other.proxies ||
		!agree(&o.scheme, other.scheme) || !agree(&o.host, other.host) {
		return false
	}
	if o.client.Port() == 0 {
		o.client = other.client
	}
	return true
}

func agree(a *string, b string) bool {
	if *a == "" {
		*a = b
	}
	return b == "" || exchange.EqualFold(*a, b)
}

// back goes one step back: from the client that is known so far, which is a trusted proxy, to the one that it names. It
// returns false where that is as far as anybody can be believed.
func (o *origin) back(to netip.AddrPort, proxies *exchange.Proxies) bool {
	if a := o.client.Addr(); a.IsValid() {
		o.proxies[o.n] = a
		o.n++
	}
	o.client = to
	return proxies.Trust(to.Addr()) && o.n < MaxProxies
}

// byX goes back through X-Forwarded-For, which has no standard: a list of addresses to which every proxy adds the one
// that has asked it.
func (o *origin) byX(x *exchange.Exchange, proxies *exchange.Proxies) {
	o.client = x.Peer.Client
	asked := 0
	list := fromRight(&x.Request.Header, exchange.XForwardedFor)
	for {
		text, more := list.previous()
		if !more {
			break
		}
		asked++
		a, ok := parseNode(text, true)
		if !ok || !o.back(a, proxies) {
			break
		}
	}
	asked = max(asked, 1)
	o.scheme = schemeOf(nth(&x.Request.Header, exchange.XForwardedProto, asked))
	if host := nth(&x.Request.Header, exchange.XForwardedHost, asked); codec.ValidHost(host) {
		o.host = host
	}
}

// byStandard goes back through Forwarded (RFC 7239 section 4).
func (o *origin) byStandard(x *exchange.Exchange, proxies *exchange.Proxies) {
	o.client = x.Peer.Client
	var last elements
	fields := x.Request.Header.Fields()
	for i := len(fields) - 1; i >= 0; i-- {
		if fields[i].Known != exchange.Forwarded {
			continue
		}
		n, ok := last.parse(fields[i].Value)
		if !ok {
			return
		}
		for j := n - 1; j >= max(n-len(last), 0); j-- {
			e := &last[j%len(last)]
			o.scheme, o.host = schemeOf(e.proto), ""
			if codec.ValidHost(e.host) {
				o.host = e.host
			}
			a, ok := parseNode(e.node, false)
			if !ok || !o.back(a, proxies) {
				return
			}
		}
		if n > len(last) {
			return
		}
	}
}

// schemeOf returns the scheme that a proxy means; some name WebSocket's. Empty: none that there is.
func schemeOf(text string) string {
	switch {
	case exchange.EqualFold(text, "https"), exchange.EqualFold(text, "wss"):
		return "https"
	case exchange.EqualFold(text, "http"), exchange.EqualFold(text, "ws"):
		return "http"
	}
	return ""
}

// tellX puts X-Forwarded-For together: the client and the proxies after it, each of which is known to have asked the
// next one.
func tellX(x *exchange.Exchange, o *origin) {
	start := len(x.ForwardedMemory)
	b := appendAddr(x.ForwardedMemory, o.client.Addr())
	client := len(b)
	for i := o.n - 1; i >= 0; i-- {
		b = append(b, ", "...)
		b = o.proxies[i].AppendTo(b)
	}
	x.ForwardedMemory = b
	x.Forwarded.For = view(b[start:])
	x.ClientText = x.Forwarded.For[:client-start]
}

// tellStandard puts Forwarded together (RFC 7239 sections 4 and 6).
func tellStandard(x *exchange.Exchange, o *origin) {
	start := len(x.ForwardedMemory)
	b := appendNode(x.ForwardedMemory, o.client.Addr())
	if host := x.ForwardedHost(); host != "" {
		b = append(b, `;host="`...) // a host has neither quotes nor backslashes
		b = append(b, host...)
		b = append(b, '"')
	}
	b = append(b, ";proto="...)
	b = append(b, x.Scheme...)
	for i := o.n - 1; i >= 0; i-- {
		b = append(b, ", "...)
		b = appendNode(b, o.proxies[i])
	}
	x.ForwardedMemory = b
	x.Forwarded.Standard = view(b[start:])
}

// appendAddr appends an address; "unknown" for that of a client that has none.
func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, "unknown"...)
	}
	return a.AppendTo(b)
}

func appendNode(b []byte, a netip.Addr) []byte {
	if !a.Is6() {
		return appendAddr(append(b, "for="...), a)
	}
	b = append(b, `for="[`...)
	b = a.AppendTo(b)
	return append(b, `]"`...)
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
