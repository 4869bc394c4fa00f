package http2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// fieldOverhead is what a field counts for besides its octets in the size of a header list (RFC 9113 section 6.5.2).
const fieldOverhead = 32

// listKind is what a header list belongs to.
type listKind uint8

const (
	ofRequest listKind = iota
	ofResponse
	ofTrailers
)

// list takes a decoded header list in. All of it is decoded, even when it is refused, since the
// table the connection's lists are compressed with changes with every one.
type list struct {
	maxBytes, maxFields int
	header              *exchange.Header
	kind                listKind
	// strict refuses a :status that is of no class of RFC 9110, above 599.
	strict bool

	method, scheme, path, authority     string
	protocol                            string // that the stream is to carry (RFC 8441)
	hasProtocol                         bool
	hasMethod, hasScheme, hasPath, hasA bool
	status                              int   // of a response; 0: not said
	length                              int64 // -1: not said
	bytes, fields                       int
	regular                             bool // a field that is no pseudo-header field has come
	expects, acceptsTrailers, hasVia    bool
	hasCookie                           bool
	cookie                              string          // the first crumb of it
	crumbs                              strings.Builder // all of them, where there are several
	tooLarge                            bool
	malformed                           string       // why; empty: it is not
	refused                             *fault.Error // why the request is answered with an error; nil: it is not
}

// begin makes the list ready for fields.
func (l *list) begin(h *exchange.Header, of listKind) {
	*l = list{maxBytes: l.maxBytes, maxFields: l.maxFields, strict: l.strict, header: h, kind: of, length: -1}
}

func (l *list) refuse(reason string) {
	if l.malformed == "" {
		l.malformed = reason
	}
}

// add takes a field in.
func (l *list) add(f hpack.HeaderField) {
	crumb := f.Name == "cookie" && l.kind == ofRequest
	switch {
	case crumb && l.hasCookie: // it counts as what it adds to the one field
		l.bytes += len(f.Value) + len(crumbSeparator)
	case len(f.Name) > 0 && f.Name[0] == ':' && f.Name != ":authority": // that one is Host
		l.bytes += len(f.Name) + len(f.Value) + fieldOverhead
	default:
		l.bytes += len(f.Name) + len(f.Value) + fieldOverhead
		l.fields++
	}
	if l.bytes > l.maxBytes || l.fields > l.maxFields {
		l.tooLarge = true
		return
	}
	if !validValue(f.Value) {
		l.refuse("a field value has characters that it may not have")
		return
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		l.pseudo(f)
		return
	}
	l.regular = true
	if crumb {
		l.crumb(f.Value)
		return
	}
	valid, odd := validName(f.Name)
	if !valid {
		l.refuse("a field name is no token in lower case")
		return
	}
	known := exchange.KnownName(f.Name)
	switch known {
	case exchange.Unknown:
		if l.kind == ofRequest && odd && exchange.Lookalike(f.Name) {
			l.refused = exchange.ErrLookalike
		} else if l.kind == ofTrailers && odd && exchange.Lookalike(f.Name) {
			l.refuse(exchange.ErrLookalike.Reason)
		}
	case exchange.Connection, exchange.KeepAlive, exchange.ProxyConnection, exchange.TransferEncoding, exchange.Upgrade:
		l.refuse("a field is there that belongs to HTTP/1 connections") // RFC 9113 section 8.2.2
		return
	case exchange.TE:
		if l.kind == ofRequest && f.Value != "trailers" {
			l.refuse("TE is not just trailers")
			return
		}
		l.acceptsTrailers = true
	case exchange.ContentLength:
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || l.length >= 0 || f.Value[0] == '+' {
			l.refuse("Content-Length is not one decimal number")
			return
		}
		l.length = int64(n)
	case exchange.Host:
		if l.kind == ofResponse {
			break
		}
		if l.kind == ofTrailers {
			l.refuse("Host is in the trailers")
			return
		}
		if l.hasA && !exchange.EqualFold(l.authority, f.Value) {
			l.refuse("Host contradicts :authority")
			return
		}
		if !l.hasA && l.method == "CONNECT" {
			l.refuse("CONNECT has no :authority") // RFC 9113 section 8.5
			return
		}
		l.hasA, l.authority = true, f.Value
	case exchange.Expect:
		if l.kind == ofRequest && !exchange.EqualFold(f.Value, "100-continue") {
			l.refuse("Expect is not 100-continue")
			return
		}
		l.expects = true
	case exchange.Via:
		l.hasVia = true
	default:
	}
	l.header.Append(exchange.Field{Name: f.Name, Value: f.Value, Known: known, Odd: odd})
}

// crumbSeparator is between the cookies of one field.
const crumbSeparator = "; "

// crumb makes one field of the crumbs that a client may send cookies in (RFC 9113 section 8.2.3), in the place of the
// first.
func (l *list) crumb(value string) {
	switch {
	case !l.hasCookie:
		l.hasCookie, l.cookie = true, value
		l.header.Append(exchange.Field{Name: "cookie", Value: value})
		return
	case l.crumbs.Len() == 0:
		l.crumbs.WriteString(l.cookie)
	}
	l.crumbs.WriteString(crumbSeparator)
	l.crumbs.WriteString(value)
}

// pseudo takes a pseudo-header field in (RFC 9113 section 8.3).
func (l *list) pseudo(f hpack.HeaderField) {
	if l.regular || l.kind == ofTrailers {
		l.refuse("a pseudo-header field is not at the start of the message")
		return
	}
	if l.kind == ofResponse {
		n, err := strconv.ParseUint(f.Value, 10, 16)
		if f.Name != ":status" || l.status != 0 || err != nil || len(f.Value) != 3 || n < 100 || l.strict && n > 599 {
			l.refuse("there is not one :status from 100 to 999")
			return
		}
		l.status = int(n)
		return
	}
	var to *string
	var seen *bool
	switch f.Name {
	case ":method":
		to, seen = &l.method, &l.hasMethod
	case ":scheme":
		to, seen = &l.scheme, &l.hasScheme
	case ":path":
		to, seen = &l.path, &l.hasPath
	case ":authority":
		to, seen = &l.authority, &l.hasA
	case ":protocol":
		to, seen = &l.protocol, &l.hasProtocol
	default:
		l.refuse("a pseudo-header field is not one of requests")
		return
	}
	if *seen {
		l.refuse("a pseudo-header field is repeated")
		return
	}
	*to, *seen = f.Value, true
}
