package http1

import (
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
)

// parseResponse reads a response's head, which ends head with its empty line, into x.Response (RFC 9112 sections 4 and
// 6). method is the request's. The body's length goes into ContentLength; -1 with m.chunked false means until the
// connection closes. Unless strict is set, faults are read that can be understood in one way only; m.faulty tells that
// there was one, and the connection is not used again.
func parseResponse(head []byte, x *exchange.Exchange, method string, maxFields int, strict bool) (message, *refusal) {
	res := &x.Response
	res.Head = head
	var m message
	m.lenient = !strict
	i, err := parseStatusLine(head, res, &m)
	if err != nil {
		return m, err
	}
	if err := parseFields(head, i, &res.Header, maxFields, &m.framing); err != nil {
		return m, err
	}
	if m.nominated > maxNominated {
		return m, errNominated
	}
	if m.nominated > 0 {
		dropNominated(&res.Header)
	}
	switch {
	case m.hasTE && m.http10:
		return m, errTransferVersion
	case m.hasTE && m.length >= 0 && strict:
		return m, errBothLengths
	case m.hasTE && !m.chunked:
		return m, errTransferCoding
	case m.hasTE && m.length >= 0:
		m.faulty = true
		if res.Status != 101 {
			m.length = -1 // chunks go before a length (RFC 9112 section 6.3)
		}
	}
	if m.faulty {
		m.close = true
		oneLength(&res.Header, m.length)
	}
	switch {
	case res.Status < 200 || res.Status == 204 || res.Status == 304 || method == "HEAD":
		m.hollow = m.chunked || m.length > 0 || method == "HEAD" && m.length < 0
		m.chunked = false
		res.ContentLength = 0
	case m.chunked:
		res.ContentLength = -1
	case m.length >= 0:
		res.ContentLength = m.length
	default:
		res.ContentLength = -1
		m.close = true
	}
	return m, nil
}

// oneLength leaves of the fields that say a length one that says it once; none where it does not count. Responses
// without a body pass it on.
func oneLength(h *exchange.Header, length int64) {
	said, there := h.Known(exchange.ContentLength)
	switch {
	case !there:
	case length < 0:
		h.Del("Content-Length")
	default:
		for item := range listItems(said) {
			h.Set("Content-Length", item)
			break
		}
	}
}

func parseStatusLine(head []byte, res *exchange.Response, m *message) (int, *refusal) {
	// "HTTP/1.1 200\r\n", with the space after the code left out as many servers do where there is no reason.
	// A later minor version than 1.1 is read as that (RFC 9110 section 2.5).
	if len(head) < 14 || string(head[:7]) != "HTTP/1." || codec.Chars[head[7]]&codec.CharDigit == 0 || head[8] != ' ' {
		return 0, errStatusLine
	}
	a, b, c := head[9]-'0', head[10]-'0', head[11]-'0'
	if a < 1 || a > 9 || a > 5 && !m.lenient || b > 9 || c > 9 {
		return 0, errStatusLine
	}
	m.faulty = a > 5
	m.http10 = head[7] == '0'
	res.Status = int(a)*100 + int(b)*10 + int(c)
	i := 12
	if head[i] == ' ' {
		i++
		start := i
		i = endOfVisible(head, i)
		res.Reason = view(head[start:i])
	}
	switch {
	case i+1 < len(head) && head[i] == '\r' && head[i+1] == '\n':
		return i + 2, nil
	case m.lenient && i < len(head) && head[i] == '\n':
		m.faulty, m.bareLF = true, true
		return i + 1, nil
	}
	return 0, errStatusLine
}
