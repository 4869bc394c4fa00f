package http1

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// TestChunksThatCameTogetherAreOnePart keeps a peer that sends a byte in each chunk from costing a system call for
// each.
func TestChunksThatCameTogetherAreOnePart(t *testing.T) {
	near, far := net.Pipe()
	text := strings.Repeat("1\r\nx\r\n2;a=b\r\nyz\r\n", 100)
	go func() {
		_, _ = io.WriteString(far, text+"0\r\nX-Sum: 1\r\n\r\nnext")
		_ = far.Close()
	}()
	c := socket.New(near)
	defer func() { _ = c.Close() }()
	c.ReadWithin(time.Now(), 5*time.Second)
	if err := c.Fill(); err != nil {
		t.Fatal(err)
	}
	var b body
	var trailer exchange.Header
	b.start(-1, true, false)
	part, err := b.take(c, &trailer, 10)
	if err != nil || string(part) != strings.Repeat("xyz", 100) || !b.over || trailer.Get("X-Sum") != "1" || string(c.Buffered()) != "next" {
		t.Errorf("got %q, %v, over %v, then %q", part, err, b.over, c.Buffered())
	}
}
