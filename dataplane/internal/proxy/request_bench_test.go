package proxy

import (
	"bufio"
	"bytes"
	"net"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/pathnorm"
)

// BenchmarkRequest is a small GET through a node over connections that stay open, served in a goroutine and in a loop.
// Most of it are the system calls of client and service.
func BenchmarkRequest(b *testing.B) {
	for _, in := range []string{"goroutine", "loop"} {
		b.Run(in, func(b *testing.B) {
			before := looping
			looping = in == "loop"
			defer func() { looping = before }()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			go answerAlways(ln)
			config := to(ln.Addr().String(), "")
			g := startThrough(b, nil, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{}, config)
			c, err := net.Dial("tcp", g.address)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			request := []byte("GET /a HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nAccept: */*\r\n\r\n")
			buf := make([]byte, 4096)
			for range 100 {
				roundTrip(b, c, request, buf)
			}
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, c, request, buf)
			}
		})
	}
}

func roundTrip(b *testing.B, c net.Conn, request, buf []byte) {
	if _, err := c.Write(request); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Read(buf); err != nil {
		b.Fatal(err)
	}
}

// answerAlways answers whatever comes on connections as a request.
func answerAlways(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			response := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if bytes.Equal(line, []byte("\r\n")) {
					if _, err := c.Write(response); err != nil {
						return
					}
				}
			}
		}()
	}
}
