package listener

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// Whoever speaks HTTP to the port of TLS is told; whoever speaks something else is not.
func TestPlainHTTPToTheTLSPort(t *testing.T) {
	large := strings.Repeat("x", 40_000)
	for _, said := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n" + large,
		"", "SSH-2.0-x\r\n\r\n", "\x80\x2e\x01\x03\x01", "GE\r\nT /", " GET / HTTP/1.1\r\n", "\x15\x03\x01\x00\x02\x02\x28",
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				served <- err
				return
			}
			_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
			security := &Security{HandshakeTimeout: 10 * time.Second}
			_, _, err = security.handshake(context.Background(), nc, exchange.NewPeer(nc.RemoteAddr()))
			if err == nil {
				err = errors.New("the handshake succeeded")
			}
			_ = answerPlain(nc, err)
			_ = nc.Close()
			served <- nil
		}()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, said)
		method, _, isHTTP := strings.Cut(said, " ")
		isHTTP = isHTTP && method != "" && method == strings.ToUpper(method)
		if isHTTP = isHTTP && !strings.Contains(method, "\r") && !strings.Contains(method, "\x80"); !isHTTP {
			_ = c.(*net.TCPConn).CloseWrite() // it is not waited for more of it
		}
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
		switch {
		case !isHTTP && err == nil:
			t.Errorf("%q was answered %s", said, res.Status)
		case isHTTP && err != nil:
			t.Errorf("%.30q was not answered: %v", said, err)
		case isHTTP:
			text, err := io.ReadAll(res.Body)
			if res.StatusCode != 400 || !res.Close || err != nil || method != "HEAD" && !strings.Contains(string(text), "this port speaks TLS") {
				t.Errorf("%.30q: %s, %s, %v", said, res.Status, text, err)
			}
		}
		_ = c.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = ln.Close()
	}
}
