package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/shared/waittest"
)

// A request is sent again only where the service has not processed it: where it says so, or where nobody can tell and
// the method allows it. Each row counts how often a service sees a request that it lets die on a connection that has
// carried another one before.
func TestRequestsAreNotRepeated(t *testing.T) {
	const once, twice = 1, 2
	seenOverHTTP1 := func(deaths func(c net.Conn)) func(t *testing.T) (string, *atomic.Int64) {
		return func(t *testing.T) (string, *atomic.Int64) {
			seen := &atomic.Int64{}
			return scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if req.URL.Path == "/dies" && seen.Add(1) == 1 {
						deaths(c)
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}), seen
		}
	}
	seenOverHTTP2 := func(deaths func(f *framed, stream uint32) (over bool)) func(t *testing.T) (string, *atomic.Int64) {
		return func(t *testing.T) (string, *atomic.Int64) {
			seen := &atomic.Int64{}
			return newFramed(t, func(_ int, f *framed) {
				dies := map[uint32]bool{}
				for {
					frame, err := f.ReadFrame()
					if err != nil {
						return
					}
					ended := false
					switch fr := frame.(type) {
					case *xhttp2.MetaHeadersFrame:
						dies[fr.StreamID], ended = fr.PseudoValue("path") == "/dies", fr.StreamEnded()
					case *xhttp2.DataFrame:
						ended = fr.StreamEnded()
					}
					id := frame.Header().StreamID
					switch {
					case !ended:
					case dies[id] && seen.Add(1) == 1:
						if deaths(f, id) {
							return
						}
					default:
						f.head(id, true, ":status", "200")
					}
				}
			}), seen
		}
	}
	reset := func(why xhttp2.ErrCode) func(f *framed, stream uint32) bool {
		return func(f *framed, stream uint32) bool { return f.WriteRSTStream(stream, why) != nil }
	}
	type row struct {
		name, protocol string
		service        func(t *testing.T) (string, *atomic.Int64)
		safe, others   int64 // how often the service sees requests of methods that are idempotent, and of others
	}
	rows := []row{
		{"closes without a byte", "http", seenOverHTTP1(func(net.Conn) {}), twice, once},
		{"resets without a byte", "http", seenOverHTTP1(func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), twice, once},
		{"closes within a head", "http", seenOverHTTP1(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 2") }), once, once},
		{"closes after an interim response", "http", seenOverHTTP1(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		}), once, once},
		{"closes within a body", "http", seenOverHTTP1(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		}), once, once},
		{"says what is no response", "http", seenOverHTTP1(func(c net.Conn) { _, _ = io.WriteString(c, "nonsense\r\n\r\n") }), once, once},
		{"refuses the stream", "h2c", seenOverHTTP2(reset(xhttp2.ErrCodeRefusedStream)), twice, twice},
		{"goes away before the stream", "h2c", seenOverHTTP2(func(f *framed, stream uint32) bool {
			_ = f.WriteGoAway(stream-2, xhttp2.ErrCodeNo, nil)
			return true
		}), twice, twice},
		{"goes away with the stream", "h2c", seenOverHTTP2(func(f *framed, stream uint32) bool {
			_ = f.WriteGoAway(stream, xhttp2.ErrCodeNo, nil)
			return true
		}), once, once},
		{"closes the connection", "h2c", seenOverHTTP2(func(*framed, uint32) bool { return true }), once, once},
		{"resets the connection", "h2c", seenOverHTTP2(func(f *framed, _ uint32) bool { return f.conn.(*net.TCPConn).SetLinger(0) == nil }), once, once},
		{"refuses the stream after a head", "h2c", seenOverHTTP2(func(f *framed, stream uint32) bool {
			f.head(stream, false, ":status", "200")
			return f.WriteRSTStream(stream, xhttp2.ErrCodeRefusedStream) != nil
		}), once, once},
	}
	for code := xhttp2.ErrCodeNo; code <= xhttp2.ErrCodeHTTP11Required; code++ {
		if code != xhttp2.ErrCodeRefusedStream {
			rows = append(rows, row{"resets the stream with " + code.String(), "h2c", seenOverHTTP2(reset(code)), once, once})
		}
	}
	for _, r := range rows {
		t.Run(r.protocol+" "+r.name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH", "QUERY"} {
				address, seen := r.service(t)
				g := start(t, strings.ReplaceAll(speaking(r.protocol, address, ", max_connections: 1"), ": 2s", ": 30s"))
				ask := func(path string) (int, error) {
					c, err := net.Dial("tcp", g.address)
					if err != nil {
						return 0, err
					}
					defer func() { _ = c.Close() }()
					_ = c.SetDeadline(time.Now().Add(waittest.Limit))
					_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", method, path)
					status, _, err := readOne(c, method)
					return status, err
				}
				if status, err := ask("/first"); status != 200 || err != nil { // the connection has then carried a request
					t.Fatalf("%s: the first request got %d, %v", method, status, err)
				}
				status, err := ask("/dies")
				waittest.Until(t, "the end of the first exchange, which makes place for another", func() bool {
					if busy := err == nil && status == 503; busy && seen.Load() == 0 {
						status, err = ask("/dies")
						return false
					}
					return true
				})
				want := r.others
				switch method {
				case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
					want = r.safe
				}
				if got := seen.Load(); got != want || want == twice && (status != 200 || err != nil) {
					t.Errorf("%s: the service saw it %d times, not %d; the client got %d, %v", method, got, want, status, err)
				}
			}
		})
	}
}
