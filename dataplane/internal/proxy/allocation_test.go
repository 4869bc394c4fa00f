//go:build !race

package proxy

import (
	"bufio"
	"bytes"
	"net"
	"testing"
)

// Under the race detector pools drop buffers on purpose, so this is tested without it.
func TestNoAllocationPerRequest(t *testing.T) {
	for name, policy := range map[string]string{
		"": "", "with retries": ", timeout: 20s, deadline_header: X-Time, retry: {per_try_timeout: 10s}",
		"with rate limits": `, rate_limits: [
			{name: a, limit: 1000000, key: [client_ip, "header:Accept", route]},
			{name: b, algorithm: fixed_window, limit: 1000000},
			{name: c, algorithm: concurrency, limit: 1000000}]`,
	} {
		t.Run(name, func(t *testing.T) { noAllocation(t, policy) })
	}
}

func noAllocation(t *testing.T, policy string) {
	g := start(t, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		response := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		line := make([]byte, 4096)
		for {
			n, err := c.Read(line)
			if err != nil {
				return
			}
			if bytes.HasSuffix(line[:n], []byte("\r\n\r\n")) {
				_, _ = c.Write(response)
			}
		}
	}), policy))
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := []byte("GET /a HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nAccept: */*\r\n\r\n")
	buf := make([]byte, 4096)
	once := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		once()
	}
	if n := testing.AllocsPerRun(2000, once); n >= 1 {
		t.Errorf("%v allocations per request", n)
	}
}
