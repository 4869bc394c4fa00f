package exchange

// Name identifies a field name that the engine itself has to know. It is found once, by the parser, so that
// later steps compare a byte instead of a string.
type Name uint8

// The known field names; Unknown is every other name.
const (
	Unknown Name = iota
	ClientCert
	ClientCertChain
	Connection
	ContentLength
	ContentType
	Date
	Expect
	Forwarded
	Host
	KeepAlive
	Origin
	ProxyAuthenticate
	ProxyAuthorization
	ProxyConnection
	Server
	TE
	Trailer
	TransferEncoding
	Upgrade
	Via
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedPrefix
	XForwardedProto
	XForwardedServer
	XForwardedSSL
	XRealIP
	XRequestID
)

// KnownName finds a field name without regard to case.
func KnownName(s string) Name {
	switch len(s) {
	case 2:
		if EqualFold(s, "te") {
			return TE
		}
	case 3:
		if EqualFold(s, "via") {
			return Via
		}
	case 4:
		switch s[0] | 0x20 {
		case 'h':
			if EqualFold(s, "host") {
				return Host
			}
		case 'd':
			if EqualFold(s, "date") {
				return Date
			}
		}
	case 6:
		switch s[0] | 0x20 {
		case 'e':
			if EqualFold(s, "expect") {
				return Expect
			}
		case 'o':
			if EqualFold(s, "origin") {
				return Origin
			}
		case 's':
			if EqualFold(s, "server") {
				return Server
			}
		}
	case 7:
		switch s[0] | 0x20 {
		case 't':
			if EqualFold(s, "trailer") {
				return Trailer
			}
		case 'u':
			if EqualFold(s, "upgrade") {
				return Upgrade
			}
		}
	case 9:
		switch s[0] | 0x20 {
		case 'f':
			if EqualFold(s, "forwarded") {
				return Forwarded
			}
		case 'x':
			if EqualFold(s, "x-real-ip") {
				return XRealIP
			}
		}
	case 10:
		switch s[0] | 0x20 {
		case 'c':
			if EqualFold(s, "connection") {
				return Connection
			}
		case 'k':
			if EqualFold(s, "keep-alive") {
				return KeepAlive
			}
		}
	case 11:
		if EqualFold(s, "client-cert") {
			return ClientCert
		}
	case 12:
		switch s[0] | 0x20 {
		case 'c':
			if EqualFold(s, "content-type") {
				return ContentType
			}
		case 'x':
			if EqualFold(s, "x-request-id") {
				return XRequestID
			}
		}
	case 14:
		if EqualFold(s, "content-length") {
			return ContentLength
		}
	case 15:
		switch s[14] | 0x20 {
		case 'r':
			if EqualFold(s, "x-forwarded-for") {
				return XForwardedFor
			}
		case 'l':
			if EqualFold(s, "x-forwarded-ssl") {
				return XForwardedSSL
			}
		}
	case 16:
		switch s[0] | 0x20 {
		case 'p':
			if EqualFold(s, "proxy-connection") {
				return ProxyConnection
			}
		case 'x':
			if EqualFold(s, "x-forwarded-host") {
				return XForwardedHost
			}
			if EqualFold(s, "x-forwarded-port") {
				return XForwardedPort
			}
		}
	case 17:
		switch s[0] | 0x20 {
		case 'c':
			if EqualFold(s, "client-cert-chain") {
				return ClientCertChain
			}
		case 't':
			if EqualFold(s, "transfer-encoding") {
				return TransferEncoding
			}
		case 'x':
			if EqualFold(s, "x-forwarded-proto") {
				return XForwardedProto
			}
		}
	case 18:
		switch s[17] | 0x20 {
		case 'e':
			if EqualFold(s, "proxy-authenticate") {
				return ProxyAuthenticate
			}
		case 'r':
			if EqualFold(s, "x-forwarded-server") {
				return XForwardedServer
			}
		case 'x':
			if EqualFold(s, "x-forwarded-prefix") {
				return XForwardedPrefix
			}
		}
	case 19:
		if EqualFold(s, "proxy-authorization") {
			return ProxyAuthorization
		}
	}
	return Unknown
}

// HopByHop reports whether a field of this name is meant for one connection only and is never forwarded
// (RFC 9110 section 7.6.1). Content-Length and Host are not among them, but the codecs write their own.
func (n Name) HopByHop() bool {
	switch n {
	case Connection, KeepAlive, ProxyConnection, ProxyAuthenticate, ProxyAuthorization, TE, Trailer, TransferEncoding, Upgrade:
		return true
	}
	return false
}

// Frames reports whether fields of this name say where a message, or what it is said on, ends.
func (n Name) Frames() bool { return n == ContentLength || n == TransferEncoding || n == Connection }

// Renewed reports whether a request that is forwarded does not carry a field of this name on as it came: it belongs to
// one connection, or the codec writes it from what the exchange says.
func (n Name) Renewed() bool {
	switch n {
	case Unknown, ContentType, Date, Origin, Server, XForwardedPort, XForwardedPrefix, XForwardedServer, XForwardedSSL, XRealIP:
		return false
	case ClientCert, ClientCertChain, ContentLength, Host, Expect, Forwarded, Via, XForwardedFor, XForwardedHost, XForwardedProto, XRequestID:
		return true
	default:
		return n.HopByHop()
	}
}

// Answered reports whether a response does not carry a field of this name on as it came: it belongs to one connection,
// or the codec writes it from what the exchange says.
func (n Name) Answered() bool {
	switch n {
	case Unknown, ContentType, Date, Server, Via:
		return false
	case ContentLength, XRequestID:
		return true
	default:
		return n.HopByHop()
	}
}

// Claims reports whether a field of this name says where a request comes from, which only proxies have to say.
func (n Name) Claims() bool {
	switch n {
	case Forwarded, XForwardedFor, XForwardedHost, XForwardedPort, XForwardedPrefix, XForwardedProto, XForwardedServer, XForwardedSSL, XRealIP:
		return true
	}
	return false
}

// InTrailers reports whether a field may stand in the trailers: those that frame, route or authenticate a message, or
// say where it comes from, may not (RFC 9110 section 6.5.1).
func (f *Field) InTrailers() bool {
	switch f.Known {
	case Unknown:
		for _, name := range [...]string{"authorization", "cookie", "set-cookie", "cache-control", "content-encoding", "content-range"} {
			if EqualFold(f.Name, name) {
				return false
			}
		}
		return true
	case ClientCert, ClientCertChain, ContentLength, ContentType, Date, Expect, Host, Via, XRequestID:
		return false
	}
	return !f.Known.HopByHop() && !f.Known.Claims()
}

// Field is one header or trailer field. Name and Value are views into a buffer that is reused when the
// exchange ends: strings.Clone what has to live longer.
type Field struct {
	Name  string
	Value string
	Known Name
	// Odd is set when the name has other characters than letters, digits and "-"; see NameRule.
	Odd bool

	// Where the whole line, CRLF included, stands in the head that the codec read, when it stands there just as it
	// would be written: the writer then copies runs of such lines at once. LineEnd 0: it has to be written anew.
	LineStart, LineEnd uint32
}

// EqualFold reports whether two strings are the same when ASCII letters are compared without case, as
// field names, schemes and hosts are (RFC 9110 section 5.1).
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
