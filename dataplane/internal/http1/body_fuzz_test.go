package http1

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// readBody reads a body of a framing, and no more than most bytes, from a connection where text comes in two parts. It
// returns what came of it, what is left for the next message, and whether the body came to its end.
func readBody(t *testing.T, framed bodyFraming, length int64, most int64, text []byte, cut int) (got, rest []byte, whole bool) {
	near, far := net.Pipe()
	go func() {
		for _, part := range [][]byte{text[:cut], text[cut:]} {
			if len(part) > 0 { // a pipe would give an empty part to its reader
				_, _ = far.Write(part)
			}
		}
		_ = far.Close()
	}()
	c := socket.New(near)
	defer func() { _ = c.Close() }()
	var b body
	var trailer exchange.Header
	b.start(length, framed == byChunks, false)
	b.max = most
	for {
		part, err := b.next(c, &trailer, 10, 5*time.Second, time.Time{})
		got = append(got, part...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return got, nil, false
		}
	}
	for {
		rest = append(rest, c.Buffered()...)
		c.Consume(len(c.Buffered()))
		c.Rewind()
		c.ReadWithin(time.Now(), 5*time.Second)
		if c.Fill() != nil {
			return got, rest, true
		}
	}
}

// FuzzBody reads bodies of all three framings that come in two parts: the same is read as from one part, never more
// than may be, and nothing is lost or taken of what follows.
func FuzzBody(f *testing.F) {
	for _, s := range []string{"", "hello", "5\r\nhello\r\n0\r\n\r\nGET /", "1\r\na\r\n2;x=y\r\nbc\r\n0\r\nA: b\r\n\r\n", "5\r\nhel", "ffffffffffffffff\r\n"} {
		for framing := range 3 {
			f.Add([]byte(s), uint8(framing), uint16(4), uint16(100), uint16(2))
			f.Add([]byte(s), uint8(framing), uint16(9), uint16(3), uint16(7))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, framing uint8, length, most, at uint16) {
		framed := byLength + bodyFraming(framing%3)
		n := int64(length)
		if framed != byLength {
			n = -1
		} else if n == 0 {
			framed = byNothing
		}
		cut := min(int(at), len(text))
		got, rest, whole := readBody(t, framed, n, int64(most), text, len(text))
		got2, rest2, whole2 := readBody(t, framed, n, int64(most), text, cut)
		if whole != whole2 || whole && (!bytes.Equal(got, got2) || !bytes.Equal(rest, rest2)) {
			t.Fatalf("framing %d: %q, %q, %v in one part; %q, %q, %v cut at %d", framed, got, rest, whole, got2, rest2, whole2, cut)
		}
		if len(got) > int(most) || len(got2) > int(most) {
			t.Fatalf("%d and %d bytes, at most %d may be", len(got), len(got2), most)
		}
		switch framed {
		case byNothing, byLength:
			if fits := len(text) >= int(n) && n <= int64(most); whole != fits || whole && (string(got) != string(text[:n]) || string(rest) != string(text[n:])) {
				t.Fatalf("of %q, %d bytes: %q, then %q, %v", text, n, got, rest, whole)
			}
		case byClose:
			if whole != (len(text) <= int(most)) || whole && string(got) != string(text) {
				t.Fatalf("of %q until the end: %q, %v", text, got, whole)
			}
		case byChunks:
			want, _, done, err := decode(string(text))
			if whole != (done && err == nil && len(want) <= int(most)) || whole && string(got) != want {
				t.Fatalf("of %q in chunks: %q, %v; want %q, %v, %v", text, got, whole, want, done, err)
			}
		}
	})
}

// FuzzUpgrade holds that a request asks for another protocol only where every reader sees that: one Upgrade, which
// Connection names, in HTTP/1.1, and no body.
func FuzzUpgrade(f *testing.F) {
	for _, s := range []string{"websocket", "websocket\r\nUpgrade: h2c", "h2c, websocket", "websocket\r\nContent-Length: 3", "websocket\r\nTransfer-Encoding: chunked", ""} {
		f.Add(s, "Upgrade", true)
		f.Add(s, "keep-alive, upgrade", true)
		f.Add(s, "close", false)
	}
	f.Fuzz(func(t *testing.T, upgrade, connection string, later bool) {
		version := "HTTP/1.0"
		if later {
			version = "HTTP/1.1"
		}
		head := []byte("GET / " + version + "\r\nHost: a\r\nConnection: " + connection + "\r\nUpgrade: " + upgrade + "\r\n\r\n")
		x := &exchange.Exchange{}
		if headEnd(head, 0) != len(head) {
			return
		}
		m, refused := parseRequest(bytes.Clone(head), x, 100)
		if refused != nil || x.Request.Upgrade == "" {
			return
		}
		n := 0
		for range x.Request.Header.Values("Upgrade") {
			n++
		}
		named := false
		for v := range x.Request.Header.Values("Connection") {
			for name := range bytes.SplitSeq([]byte(v), []byte(",")) {
				named = named || exchange.EqualFold(string(bytes.Trim(name, " \t")), "Upgrade")
			}
		}
		if n != 1 || !named || !later || m.chunked || x.Request.ContentLength > 0 {
			t.Fatalf("%q asks for %q", head, x.Request.Upgrade)
		}
		x.ID, x.ClientText, x.Scheme, x.Forwarded.Via = "id", "1.2.3.4", "http", "1.1 gateway"
		again := &exchange.Exchange{}
		out := appendRequest(nil, x)
		if _, refused := parseRequest(out, again, 200); refused != nil || again.Request.Upgrade != x.Request.Upgrade {
			t.Fatalf("%q is passed on as %q: %v", head, out, refused)
		}
	})
}
