package exchange

// Forwarding says how the node learns from proxies before it who the client is, and how it tells the services behind
// it. It is immutable and shared. Nil and the zero value believe nobody, and tell services by X-Forwarded-For and its
// companions.
type Forwarding struct {
	// Proxies are those whose word is believed.
	Proxies *Proxies
	// Fields are the fields that are read and written.
	Fields ForwardedFields
	// RouteByHost makes the host that a proxy was asked for the request's own: routes and certificates go by it, and
	// services get it as Host.
	RouteByHost bool
}

// ForwardedFields are the fields that tell of clients. What is not among them is neither read nor forwarded, whoever
// sent it.
type ForwardedFields uint8

// The choices; the zero value is XForwardedFields.
const (
	// XForwardedFields are X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
	XForwardedFields ForwardedFields = iota
	// ForwardedField is Forwarded (RFC 7239).
	ForwardedField
	// BothForwardedFields are all of them. Where a request has both they have to agree, or neither is believed.
	BothForwardedFields
	// NoForwardedFields are none.
	NoForwardedFields
)

// X reports whether X-Forwarded-For and its companions are among them.
func (f ForwardedFields) X() bool { return f == XForwardedFields || f == BothForwardedFields }

// Standard reports whether Forwarded is among them.
func (f ForwardedFields) Standard() bool { return f == ForwardedField || f == BothForwardedFields }

// ForwardedValues are what services are told of where a request comes from. The zero value tells them of a client
// without proxies before this node.
type ForwardedValues struct {
	// OmitXForwarded leaves X-Forwarded-For and its companions out.
	OmitXForwarded bool
	// For is the value of X-Forwarded-For; empty: the client's address alone.
	For string
	// Host is the value of X-Forwarded-Host; empty: the request's host.
	Host string
	// Standard is the value of Forwarded (RFC 7239); empty: none.
	Standard string
	// Via is what the node adds to Via, such as "1.1 gateway".
	Via string
}

// ForwardedFor returns the value of X-Forwarded-For.
func (x *Exchange) ForwardedFor() string {
	if x.Forwarded.For != "" {
		return x.Forwarded.For
	}
	return x.ClientText
}

// ForwardedHost returns the value of X-Forwarded-Host.
func (x *Exchange) ForwardedHost() string {
	if x.Forwarded.Host != "" {
		return x.Forwarded.Host
	}
	return x.Request.Host
}
