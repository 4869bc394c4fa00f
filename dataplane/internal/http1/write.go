package http1

import (
	"net/http"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// appendFields appends the fields that skip lets through. Lines that stand side by side in head just as they would be
// written are copied together: a head of twenty fields takes two or three copies instead of eighty.
func appendFields(b, head []byte, h *exchange.Header, skip func(f *exchange.Field) bool) []byte {
	fields := h.Fields()
	var from, to uint32
	for i := range fields {
		f := &fields[i]
		if skip(f) {
			continue
		}
		if f.LineEnd != 0 {
			if f.LineStart == to && to != 0 {
				to = f.LineEnd
				continue
			}
			b = append(b, head[from:to]...)
			from, to = f.LineStart, f.LineEnd
			continue
		}
		b = append(b, head[from:to]...)
		from, to = 0, 0
		b = appendField(b, f.Name, f.Value)
	}
	return append(b, head[from:to]...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// skipResponse drops what belongs to one connection, and what the codec writes itself.
func skipResponse(f *exchange.Field) bool { return f.Known.Answered() }

// skipRequest also drops what every forwarded request gets anew.
func skipRequest(f *exchange.Field) bool { return f.Known.Renewed() }

// appendRequest appends the head that the service gets (RFC 9110 section 7.6). chunked says how a body of unknown
// length is framed.
func appendRequest(b []byte, x *exchange.Exchange) []byte {
	req := &x.Request
	b = append(b, req.Method...)
	b = append(b, ' ')
	if x.Forward.Path != "" {
		b = append(b, x.Forward.Path...)
	} else {
		b = append(b, req.Path...)
	}
	if req.HasQuery {
		b = append(b, '?')
		b = append(b, req.RawQuery...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if x.Forward.Host != "" {
		b = append(b, x.Forward.Host...)
	} else {
		b = append(b, req.Host...)
	}
	b = append(b, "\r\n"...)
	b = appendFields(b, req.Head, &req.Header, skipRequest)
	if !x.Forwarded.OmitXForwarded {
		b = append(b, "X-Forwarded-For: "...)
		b = append(b, x.ForwardedFor()...)
		b = append(b, "\r\nX-Forwarded-Proto: "...)
		b = append(b, x.Scheme...)
		b = append(b, "\r\nX-Forwarded-Host: "...)
		b = append(b, x.ForwardedHost()...)
		b = append(b, "\r\n"...)
	}
	if x.Forwarded.Standard != "" {
		b = appendField(b, "Forwarded", x.Forwarded.Standard)
	}
	b = append(b, "X-Request-Id: "...)
	b = append(b, x.ID...)
	b = append(b, "\r\nVia: "...)
	b = appendEarlier(b, &req.Header, exchange.Via)
	b = append(b, x.Forwarded.Via...)
	b = append(b, "\r\n"...)
	if x.TLS != nil && x.TLS.ClientCert != "" {
		b = appendField(b, "Client-Cert", x.TLS.ClientCert)
	}
	switch {
	case req.ContentLength < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case req.ContentLength > 0 || needsLength(req.Method):
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, req.ContentLength, 10)
		b = append(b, "\r\n"...)
	}
	if req.Expects100 {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case req.Upgrade != "":
		b = appendUpgrade(b, req.Upgrade)
	case req.AcceptsTrailers:
		b = append(b, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	return append(b, "\r\n"...)
}

// needsLength reports whether a method anticipates a body, so that "none" has to be said (RFC 9110 section 8.6).
func needsLength(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// appendEarlier appends the values that came with the request, each followed by ", ".
func appendEarlier(b []byte, h *exchange.Header, name exchange.Name) []byte {
	fields := h.Fields()
	for i := range fields {
		if fields[i].Known == name && fields[i].Value != "" {
			b = append(b, fields[i].Value...)
			b = append(b, ", "...)
		}
	}
	return b
}

// appendStatusLine appends "HTTP/1.1 200 OK" CRLF.
func appendStatusLine(b []byte, status int, reason string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(b, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
	if reason == "" {
		reason = reasonOf(status)
	}
	b = append(b, reason...)
	return append(b, "\r\n"...)
}

// reasonOf returns the reason phrase of a status: the one of RFC 9110 section 15 where net/http has an older one.
func reasonOf(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "Content Too Large"
	case http.StatusRequestURITooLong:
		return "URI Too Long"
	case http.StatusUnprocessableEntity:
		return "Unprocessable Content"
	}
	return http.StatusText(status)
}

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// appendDate appends a Date field (RFC 9110 section 6.6.1).
func appendDate(b []byte) []byte {
	b = append(b, "Date: "...)
	b = time.Now().UTC().AppendFormat(b, dateFormat)
	return append(b, "\r\n"...)
}

// appendTrailers appends the trailer section's fields.
func appendTrailers(b []byte, h *exchange.Header) []byte {
	for name, value := range h.All() {
		b = appendField(b, name, value)
	}
	return b
}
