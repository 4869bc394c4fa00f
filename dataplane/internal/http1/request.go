package http1

import (
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
)

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
	return name != "" && codec.AllOf(name, codec.CharToken)
}

// overlong tells what is wrong with a request line that goes on for longer than it may: its method, where that is none
// or takes more than a method may have, or else its target.
func overlong(line []byte, maxBytes int) *refusal {
	i := 0
	for i < len(line) && codec.Chars[line[i]]&codec.CharToken != 0 {
		if i++; i > codec.MaxMethodLength {
			return codec.ErrMethodLength
		}
	}
	if i < len(line) && line[i] != ' ' {
		return codec.ErrMethod
	}
	return codec.TargetTooLong(maxBytes)
}

func parseRequestLine(head []byte, req *exchange.Request, m *message) (int, *refusal) {
	i := 0
	for codec.Chars[head[i]]&codec.CharToken != 0 {
		i++
	}
	if i > codec.MaxMethodLength {
		return 0, codec.ErrMethodLength
	}
	if head[i] != ' ' {
		if i == 0 || head[i] == '\r' || head[i] == '\n' {
			return 0, errRequestLine
		}
		return 0, codec.ErrMethod
	}
	if i == 0 {
		return 0, errRequestLine
	}
	req.Method = view(head[:i])
	i++
	start := i
	for codec.Chars[head[i]]&codec.CharTarget != 0 {
		i++
	}
	if head[i] != ' ' {
		if head[i] == '\r' || head[i] == '\n' {
			return 0, errRequestLine
		}
		return 0, codec.ErrTarget
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
	if v[1] != '.' || v[3] != '\r' || v[4] != '\n' || codec.Chars[v[0]]&codec.Chars[v[2]]&codec.CharDigit == 0 {
		return 0, errRequestLine
	}
	if v[0] != '1' {
		return 0, errVersion
	}
	m.http10 = v[2] == '0' // a later minor version is served as 1.1 (RFC 9110 section 2.5)
	if m.http10 {
		req.Version = exchange.HTTP10
	}
	return i + 10, codec.ParseTarget(view(target), req)
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
			if f.Value == "" || !codec.ValidHost(f.Value) {
				return codec.ErrHost
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
		return codec.ErrNoHost
	}
	return nil
}
