package http1

import (
	"bytes"
	"math"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// refusal is why a message is refused: a constant text, without any of the message's bytes.
type refusal = fault.Error

func bad(reason string) *refusal { return &refusal{Code: fault.BadRequest, Reason: reason} }

// The refusals, made once so that an attack costs no allocation.
var (
	errRequestLine     = bad("the request line is not METHOD SP TARGET SP HTTP/1.x CRLF")
	errVersion         = &refusal{Code: fault.VersionNotSupported, Reason: "the HTTP version is not 1.0, 1.1 or another 1.x"}
	errStatusLine      = bad("the status line is not HTTP/1.x SP STATUS SP REASON CRLF")
	errFieldName       = bad("a field name is not a token, or is not followed by a colon at once")
	errFieldValue      = bad("a field value has control characters, or a line ends without CRLF")
	errObsFold         = bad("a field line is folded")
	errTooManyFields   = &refusal{Code: fault.HeadersTooLarge, Reason: "there are too many header fields"}
	errContentLength   = bad("Content-Length is not one decimal number")
	errBothLengths     = bad("both Content-Length and Transfer-Encoding are there")
	errTransferCoding  = &refusal{Code: fault.NotImplemented, Reason: "Transfer-Encoding is not just chunked"}
	errTransferFraming = bad("Transfer-Encoding does not end with chunked, or has it twice")
	errTransferRepeat  = bad("Transfer-Encoding is repeated")
	errTransferVersion = bad("Transfer-Encoding is in an HTTP/1.0 message")
	errHostRepeat      = bad("Host is repeated")
	errHostMismatch    = bad("Host contradicts the request target")
	errExpect          = &refusal{Code: fault.ExpectationFailed, Reason: "Expect is not 100-continue"}
	errNominated       = bad("Connection names too many fields")
)

// headEnd returns the length of the head that starts b, its empty line included, or 0 when it is not complete.
// from says how much of b was looked at before.
func headEnd(b []byte, from int) int {
	for i := max(0, from-3); ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return 0
		}
		i += j + 1
		switch {
		case i < len(b) && b[i] == '\n': // a bare LF is refused by the parser, but it must see the end
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// peek looks for the end of a head that has not been parsed, and for its body's length. simple is false when only the
// parser can tell: the head is not complete, or there is a length that is odd or comes in another way.
func peek(b []byte) (head, length int, simple bool) {
	if b[0] == 'C' && bytes.HasPrefix(b, octets(connectStart)) {
		return 0, 0, false // as with Upgrade below
	}
	i := bytes.IndexByte(b, '\n') + 1
	if i == 0 {
		return 0, 0, false
	}
	for {
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			return 0, 0, false
		}
		field := b[i : i+end]
		i += end + 1
		if end == 0 || end == 1 && field[0] == '\r' {
			return i, length, true
		}
		if end < 10 {
			continue
		}
		switch field[0] | 0x20 {
		case 'u':
			if exchange.EqualFold(view(field[:8]), "upgrade:") {
				return 0, 0, false // what follows may be more than a request and its response
			}
		case 'c':
			if end > 16 && exchange.EqualFold(view(field[:15]), "content-length:") {
				n, ok := parseLength(trimOWS(view(field[15 : end-1])))
				if !ok || n > math.MaxInt32 {
					return 0, 0, false
				}
				length = int(n)
			}
		case 't':
			if end > 18 && exchange.EqualFold(view(field[:18]), "transfer-encoding:") {
				return 0, 0, false
			}
		}
	}
}

// framing is what the fields say about a message's body and connection.
type framing struct {
	// lenient reads faults of services that can be understood in one way only. faulty tells that there was one.
	lenient, faulty bool
	// bareLF tells that the status line ends with LF alone: all lines of the head have to then (RFC 9112 section 2.2).
	// Where only some do, a value with something from elsewhere in it is more likely.
	bareLF bool

	length    int64 // -1: no Content-Length
	chunked   bool
	hasTE     bool
	close     bool
	keepAlive bool
	// upgrade tells that Connection names Upgrade.
	upgrade bool
	// nominated are the options of Connection that are neither close nor keep-alive: names of fields to drop.
	nominated int
}

// parseFields reads field lines from head[i:] up to and with the empty line (RFC 9112 section 5).
func parseFields(head []byte, i int, h *exchange.Header, maxFields int, fr *framing) *refusal {
	fr.length = -1
	for {
		if head[i] == '\r' && i+1 < len(head) && head[i+1] == '\n' && !fr.bareLF {
			return nil
		}
		if h.Len() >= maxFields {
			return errTooManyFields
		}
		start := i
		if c := head[i]; c == ' ' || c == '\t' {
			return errObsFold
		}
		for codec.Chars[head[i]]&codec.CharPlain != 0 {
			i++ // the head ends with LF, which is no token character
		}
		odd := codec.Chars[head[i]]&codec.CharToken != 0
		for odd && codec.Chars[head[i]]&codec.CharToken != 0 {
			i++
		}
		nameEnd := i
		if i == start || head[i] != ':' {
			switch {
			case !fr.lenient:
				return errFieldName
			case i == start && head[i] == '\n' && fr.bareLF:
				return nil
			}
			for i > start && (head[i] == ' ' || head[i] == '\t') {
				i++
			}
			// RFC 9112 section 5.1 has the blanks removed. Names that frame the message are none with blanks to others.
			if fr.faulty = true; i == start || head[i] != ':' || exchange.KnownName(view(head[start:nameEnd])).Frames() {
				return errFieldName
			}
		}
		name := view(head[start:nameEnd])
		i++
		plain := head[i] == ' '
		for head[i] == ' ' || head[i] == '\t' {
			i++
		}
		valueStart := i
		i = endOfVisible(head, i)
		valueEnd := i
		switch {
		case i+1 < len(head) && head[i] == '\r' && head[i+1] == '\n' && !fr.bareLF:
			i += 2
		case fr.bareLF && i < len(head) && head[i] == '\n':
			i++
			plain = false
		default:
			return errFieldValue
		}
		lineEnd := i
		for valueEnd > valueStart && (head[valueEnd-1] == ' ' || head[valueEnd-1] == '\t') {
			valueEnd--
		}
		known := exchange.KnownName(name)
		f := h.Next()
		f.Name, f.Value, f.Known, f.Odd = name, view(head[valueStart:valueEnd]), known, odd
		if plain && valueEnd == lineEnd-2 && valueStart == start+len(name)+2 {
			f.LineStart, f.LineEnd = uint32(start), uint32(i)
		}
		switch known {
		case exchange.ContentLength, exchange.TransferEncoding, exchange.Connection:
			if err := fr.see(f); err != nil {
				return err
			}
		}
	}
}

// see takes a framing field in.
func (fr *framing) see(f *exchange.Field) *refusal {
	switch f.Known {
	case exchange.ContentLength:
		n, ok := parseLength(f.Value)
		if !ok && fr.lenient {
			n, ok = parseSameLength(f.Value)
			fr.faulty = true
		}
		if repeated := fr.length >= 0; !ok || repeated && (!fr.lenient || n != fr.length) {
			return errContentLength
		} else if repeated {
			fr.faulty = true
		}
		fr.length = n
	case exchange.TransferEncoding:
		switch {
		case fr.hasTE && !fr.lenient:
			return errTransferRepeat
		case fr.hasTE:
			fr.faulty = true
			fr.chunked = fr.chunked && allChunked(f.Value)
		case exchange.EqualFold(f.Value, "chunked"):
			fr.chunked = true
		case fr.lenient:
			fr.faulty = true
			fr.chunked = allChunked(f.Value)
		}
		fr.hasTE = true
	case exchange.Connection:
		for option := range listItems(f.Value) {
			switch {
			case exchange.EqualFold(option, "close"):
				fr.close = true
			case exchange.EqualFold(option, "keep-alive"):
				fr.keepAlive = true
			default:
				fr.upgrade = fr.upgrade || exchange.EqualFold(option, "upgrade")
				fr.nominated++
			}
		}
	}
	return nil
}

// parseLength reads 1*DIGIT without sign, space or overflow (RFC 9110 section 8.6).
func parseLength(s string) (int64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return int64(n), n <= math.MaxInt64
}

// parseSameLength reads a list of lengths that are all the same (RFC 9110 section 8.6).
func parseSameLength(s string) (int64, bool) {
	length := int64(-1)
	for item := range listItems(s) {
		n, ok := parseLength(item)
		if !ok || length >= 0 && n != length {
			return 0, false
		}
		length = n
	}
	return length, length >= 0
}

// allChunked reports whether a Transfer-Encoding says nothing but chunked, however often: whoever says it twice has
// applied it once, since no body is framed in two ways at once.
func allChunked(s string) bool {
	for item := range listItems(s) {
		if !exchange.EqualFold(item, "chunked") {
			return false
		}
	}
	return trimOWS(s) != ""
}

// listItems yields the items of a comma-separated list without the white space around them (RFC 9110 section 5.6.1).
func listItems(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			item := s
			if i := indexByte(s, ','); i >= 0 {
				item, s = s[:i], s[i+1:]
			} else {
				s = ""
			}
			if item = trimOWS(item); item != "" && !yield(item) {
				return
			}
		}
	}
}

func indexByte(s string, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return -1
}

func trimOWS(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// maxNominated is how many fields Connection may name. Each is looked for among all fields.
const maxNominated = 16

// dropNominated takes the fields that Connection names out of h (RFC 9110 section 7.6.1). Fields that frame or route
// the message stay, whatever Connection says: dropping them by a client's word is a known way to smuggle.
func dropNominated(h *exchange.Header) {
	for {
		name := nominatedField(h)
		if name == "" {
			return
		}
		h.Del(name)
	}
}

func nominatedField(h *exchange.Header) string {
	for _, c := range h.Fields() {
		if c.Known != exchange.Connection {
			continue
		}
		for option := range listItems(c.Value) {
			switch known := exchange.KnownName(option); known {
			case exchange.Unknown:
			case exchange.Connection, exchange.ContentLength, exchange.TransferEncoding, exchange.Host,
				exchange.TE, exchange.Upgrade, exchange.KeepAlive, exchange.Trailer,
				exchange.Via:
				continue
			default:
				if known.Claims() {
					continue
				}
			}
			if exchange.EqualFold(option, "close") {
				continue
			}
			if _, there := h.Lookup(option); there {
				return option
			}
		}
	}
	return ""
}
