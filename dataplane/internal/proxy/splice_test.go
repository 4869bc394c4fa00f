//go:build linux && !gateway_plain_sockets

package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestLargeResponses has bodies go through that are moved inside the kernel, whole and broken off on either side.
func TestLargeResponses(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	want := sha256.Sum256(big)
	gone := make(chan error, 1)
	config := to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(big))
			switch req.URL.Path {
			case "/breaks":
				_, _ = c.Write(big[:3<<20])
				return
			case "/stalls":
				_, _ = c.Write(big[:3<<20])
				_, _ = r.ReadByte()
				return
			case "/more":
				_, _ = c.Write(append(big[:len(big):len(big)], "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"...))
			default:
				_, err := c.Write(big)
				if req.URL.Path == "/leaves" {
					gone <- err
				}
			}
		}
	}), "")
	g := start(t, config)
	hasty := start(t, respondingWithin("300ms", config))
	ask := func(g *gateway, path string) (*http.Response, net.Conn) {
		t.Helper()
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(waittest.Deadline())
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %v", path, res, err)
		}
		return res, c
	}
	whole := func(path string) {
		t.Helper()
		res, _ := ask(g, path)
		h := sha256.New()
		if n, err := io.Copy(h, res.Body); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
			t.Errorf("%s: %d bytes, %v", path, n, err)
		}
	}
	for range 3 {
		whole("/")
		whole("/more")
		for path, g := range map[string]*gateway{"/breaks": g, "/stalls": hasty} {
			res, _ := ask(g, path)
			if n, err := io.Copy(io.Discard, res.Body); err == nil || n > 3<<20 {
				t.Errorf("%s: %d bytes, %v", path, n, err)
			}
		}
		_, c := ask(g, "/leaves")
		_ = c.Close()
		if err := <-gone; err == nil {
			t.Log("the whole body fitted into buffers")
		}
	}
	whole("/")
}
