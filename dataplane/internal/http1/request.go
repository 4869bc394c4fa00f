package http1

import (
	"bytes"
	"strconv"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// maxMethodLength is the longest method that is accepted, in bytes.
const maxMethodLength = 32

// message is what the codec has to remember of a head that was parsed.
type message struct {
	framing
	http10  bool
	connect bool // a request for a tunnel
	hollow  bool // a response that can't have a body, but looks as if it had one
}

// persistent reports whether the connection may carry another message after this one (RFC 9112 section 9.3).
func (m *message) persistent() bool {
	return !m.close && (!m.http10 || m.keepAlive)
}

// parseRequest reads a request's head, which ends head with its empty line, into x.Request (RFC 9112 sections 3 and 5).
// The strings in x are views of head. Anything that two readers could understand differently is refused.
func parseRequest(head []byte, x *exchange.Exchange, maxFields int) (message, *refusal) {
	req := &x.Request
	req.Head = head
	var m message
	i, err := parseRequestLine(head, req, &m)
	if err != nil {
		return m, err
	}
	if err := parseFields(head, i, &req.Header, maxFields, &m.framing); err != nil {
		return m, err
	}
	if m.nominated > 0 {
		if m.nominated > maxNominated {
			return m, errNominated
		}
		dropNominated(&req.Header)
	}
	if err := parseHostAndExpect(req, m.http10); err != nil {
		return m, err
	}
	switch {
	case m.hasTE && m.http10:
		return m, errTransferVersion
	case m.hasTE && m.length >= 0:
		return m, errBothLengths
	case m.hasTE && !m.chunked:
		return m, refuseCoding(&req.Header)
	case m.chunked:
		req.ContentLength = -1
	default:
		req.ContentLength = max(m.length, 0)
	}
	switch {
	case req.Method == "CONNECT":
		err := m.connects()
		return m, err
	case m.upgrade:
		parseUpgrade(req, &m)
	}
	return m, nil
}

// refuseCoding tells what is wrong with a Transfer-Encoding that is not chunked alone. Where chunked is not the last
// coding, or is there twice, nobody knows where the body ends (RFC 9112 section 6.3); otherwise it is one that is not
// spoken (section 6.1).
func refuseCoding(h *exchange.Header) *refusal {
	value, _ := h.Known(exchange.TransferEncoding)
	last := ""
	for coding := range listItems(value) {
		if exchange.EqualFold(last, "chunked") || !validCoding(coding) {
			return errTransferFraming
		}
		last = coding
	}
	if !exchange.EqualFold(last, "chunked") || trimOWS(value)[0] == ',' || value[len(value)-1] == ',' {
		return errTransferFraming
	}
	return errTransferCoding
}

// validCoding reports whether s is a token, perhaps with parameters, which chunked never has (RFC 9112 section 7.1).
func validCoding(s string) bool {
	name := s
	if i := indexByte(s, ';'); i >= 0 {
		name = trimOWS(s[:i])
		if exchange.EqualFold(name, "chunked") {
			return false
		}
	}
	return name != "" && allOf(octets(name), classToken)
}

// overlong tells what is wrong with a request line that goes on for longer than it may: its method, where that is none
// or takes more than a method may have, or else its target.
func overlong(line []byte, maxBytes int) *refusal {
	i := 0
	for i < len(line) && classes[line[i]]&classToken != 0 {
		if i++; i > maxMethodLength {
			return errMethodLength
		}
	}
	if i < len(line) && line[i] != ' ' {
		return errMethod
	}
	return tooLong(maxBytes)
}

// tooLong refuses a target for its length.
func tooLong(maxBytes int) *refusal {
	return &refusal{Code: fault.URITooLong, Reason: "the request target is longer than " + strconv.Itoa(maxBytes) + " bytes"}
}

func parseRequestLine(head []byte, req *exchange.Request, m *message) (int, *refusal) {
	i := 0
	for classes[head[i]]&classToken != 0 {
		i++
	}
	if i > maxMethodLength {
		return 0, errMethodLength
	}
	if head[i] != ' ' {
		if i == 0 || head[i] == '\r' || head[i] == '\n' {
			return 0, errRequestLine
		}
		return 0, errMethod
	}
	if i == 0 {
		return 0, errRequestLine
	}
	req.Method = view(head[:i])
	i++
	start := i
	for classes[head[i]]&classTarget != 0 {
		i++
	}
	if head[i] != ' ' {
		if head[i] == '\r' || head[i] == '\n' {
			return 0, errRequestLine
		}
		return 0, errTarget
	}
	if i == start {
		return 0, errRequestLine
	}
	target := head[start:i]
	i++
	// "HTTP/1.1\r\n"
	if len(head)-i < 10 || string(head[i:i+5]) != "HTTP/" {
		return 0, errRequestLine
	}
	v := head[i+5 : i+10]
	if v[1] != '.' || v[3] != '\r' || v[4] != '\n' || classes[v[0]]&classes[v[2]]&classDigit == 0 {
		return 0, errRequestLine
	}
	if v[0] != '1' {
		return 0, errVersion
	}
	m.http10 = v[2] == '0' // a later minor version is served as 1.1 (RFC 9110 section 2.5)
	if m.http10 {
		req.Version = exchange.HTTP10
	}
	return i + 10, parseTarget(target, req)
}

// parseTarget takes the target apart (RFC 9112 section 3.2).
func parseTarget(target []byte, req *exchange.Request) *refusal {
	switch req.Method {
	case "CONNECT":
		return parseConnect(target, req)
	case "TRACE":
		return errTrace // it would show the client what the gateway adds for services only
	}
	switch {
	case target[0] == '/':
	case len(target) == 1 && target[0] == '*':
		if req.Method != "OPTIONS" {
			return errTargetForm
		}
		req.Path = "*"
		return nil
	default:
		rest, err := parseAbsolute(target, req)
		if err != nil {
			return err
		}
		if len(rest) == 0 || rest[0] == '?' {
			req.Path = "/"
			if len(rest) > 0 {
				req.RawQuery, req.HasQuery = view(rest[1:]), true
			} else if req.Method == "OPTIONS" {
				req.Path = "*"
			}
			return nil
		}
		target = rest
	}
	if q := bytes.IndexByte(target, '?'); q >= 0 {
		req.RawQuery, req.HasQuery = view(target[q+1:]), true
		target = target[:q]
	}
	req.Path = view(target)
	return nil
}

// parseAbsolute reads "http://authority" off an absolute-form target and returns what follows.
func parseAbsolute(target []byte, req *exchange.Request) ([]byte, *refusal) {
	i := bytes.Index(target, []byte("://"))
	if i < 0 {
		return nil, errTargetForm
	}
	if s := view(target[:i]); !exchange.EqualFold(s, "http") && !exchange.EqualFold(s, "https") {
		return nil, errTargetForm
	}
	rest := target[i+3:]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if bytes.IndexByte(rest[:end], '@') >= 0 {
		return nil, errUserinfo
	}
	if !validHost(rest[:end]) {
		return nil, errHost
	}
	req.Host = view(rest[:end])
	return rest[end:], nil
}

// parseHostAndExpect takes Host out of the fields and looks at Expect and TE.
func parseHostAndExpect(req *exchange.Request, http10 bool) *refusal {
	fields := req.Header.Fields()
	hosts := 0
	for i := range fields {
		f := &fields[i]
		switch f.Known {
		case exchange.Host:
			hosts++
			if hosts > 1 {
				return errHostRepeat
			}
			if req.Host != "" && !exchange.EqualFold(req.Host, f.Value) {
				return errHostMismatch
			}
			if f.Value == "" || !validHost([]byte(f.Value)) {
				return errHost
			}
			req.Host = f.Value
		case exchange.Expect:
			if http10 {
				continue // RFC 9110 section 10.1.1: ignored in HTTP/1.0
			}
			if !exchange.EqualFold(f.Value, "100-continue") || req.Expects100 {
				return errExpect
			}
			req.Expects100 = true
		case exchange.TE:
			for item := range listItems(f.Value) {
				if exchange.EqualFold(item, "trailers") {
					req.AcceptsTrailers = true
				}
			}
		case exchange.Via:
			req.HasVia = true
		case exchange.Unknown:
			if f.Odd && exchange.Lookalike(f.Name) {
				return exchange.ErrLookalike
			}
		default:
		}
	}
	if hosts == 0 && !http10 {
		return errNoHost
	}
	return nil
}

// maxHostLength is the longest host with its port, in bytes.
const maxHostLength = 255 + len(":65535")

// ValidHost reports whether s is what the field Host may say, which is validHost's rule.
func ValidHost(s string) bool { return validHost(octets(s)) }

// validHost reports whether b is host [":" port] (RFC 3986 section 3.2.2). Names are compared, not resolved, so any
// reg-name may stand there; brackets have to pair and a port has to be a number.
func validHost(b []byte) bool {
	if len(b) == 0 || len(b) > maxHostLength {
		return false
	}
	host := b
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 2 {
			return false
		}
		for _, c := range b[1:end] {
			if classes[c]&classHex == 0 && c != ':' && c != '.' {
				return false
			}
		}
		host = b[end+1:]
		if len(host) == 0 {
			return true
		}
		return host[0] == ':' && validPort(host[1:])
	}
	if i := bytes.IndexByte(b, ':'); i >= 0 {
		if i == 0 || !validPort(b[i+1:]) {
			return false
		}
		host = b[:i]
	}
	for _, c := range host {
		if classes[c]&classHost == 0 || c == '[' || c == ']' {
			return false
		}
	}
	return true
}

func validPort(b []byte) bool {
	return len(b) <= 5 && allOf(b, classDigit)
}

// A target may have any visible ASCII character but "#". RFC 3986 has some of them escaped, but the URL standard of the
// WHATWG, by which browsers go, lets them stand: { } ^ ` | \ in queries, ^ and | in paths; others send more of them.
// Queries are passed on as they are, since nothing here goes by what they mean. What may stand in paths is for package
// target to say.

// ReadTarget sets what a request's method and target say, for versions of HTTP that send them by themselves. Host is
// set, and checked, before where the version sends it apart.
func ReadTarget(req *exchange.Request, method, target string, maxBytes int) *fault.Error {
	switch {
	case len(target) > maxBytes:
		return tooLong(maxBytes)
	case method == "" || !allOf(octets(method), classToken):
		return errMethod
	case len(method) > maxMethodLength:
		return errMethodLength
	case method == "CONNECT":
		req.Method = method
		return parseConnect(octets(req.Host), req)
	case target == "" || !allOf(octets(target), classTarget):
		return errTarget
	case target[0] != '/' && target != "*":
		return errTargetForm
	case req.Host == "":
		return errNoHost
	case !validHost(octets(req.Host)):
		return errHost
	}
	req.Method = method
	return parseTarget(octets(target), req)
}
