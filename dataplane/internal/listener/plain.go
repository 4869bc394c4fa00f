package listener

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// How long, and how much, is read of a request that was answered without TLS. What is not would have the answer taken
// away from the client by a reset (RFC 9112 section 9.6).
const (
	plainLinger = time.Second
	plainBytes  = 64 << 10
)

// answerPlain answers a client whose handshake has failed since it speaks HTTP without TLS, so that whoever has
// mistaken the port is told. It reports whether that was so; otherwise nothing has been sent.
func answerPlain(nc net.Conn, handshake error) bool {
	var first tls.RecordHeaderError
	if !errors.As(handshake, &first) || first.Conn == nil || !looksLikeHTTP(first.RecordHeader) {
		return false
	}
	var x exchange.Exchange
	x.Fail(fault.BadRequest, "this port speaks TLS: use https")
	b := append([]byte(nil), "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(x.Response.Body)), 10)
	b = append(b, "\r\n\r\n"...)
	if string(first.RecordHeader[:]) != "HEAD " {
		b = append(b, x.Response.Body...)
	}
	if nc.SetDeadline(time.Now().Add(plainLinger)) != nil {
		return true
	}
	if _, err := nc.Write(b); err != nil {
		return true
	}
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, nc, plainBytes)
	}
	return true
}

// looksLikeHTTP reports whether a connection begins as a request line does: with a method of capital letters, as much
// as there is of it, and a space where it ends. No record of TLS begins with a letter.
func looksLikeHTTP(start [5]byte) bool {
	for i, c := range start {
		switch {
		case c >= 'A' && c <= 'Z' || c == '-' && i > 0:
		case c == ' ':
			return i >= 3
		default:
			return false
		}
	}
	return true
}
