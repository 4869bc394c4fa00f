package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// refusing answers without a look at the body.
type refusing struct{}

func (refusing) Serve(x *exchange.Exchange) {
	x.Answer(413, "text/plain", []byte("no"))
	_ = x.Down.WriteHead(x, x.Response.Body, true)
}

// refusedUpload returns a connection whose upload has been answered, and which lingers.
func refusedUpload(t *testing.T, s *Server) net.Conn {
	near, far := net.Pipe()
	go s.Serve(socket.New(far), &exchange.Peer{}, func() {})
	if _, err := io.WriteString(near, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(near, 16), nil)
	if err != nil || res.StatusCode != 413 || !res.Close {
		t.Fatalf("got %v, %v", res, err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return near
}

// A connection lingers as long as its client sends, within bounds.
func TestLingeringIsBounded(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration // between the bytes that the client sends; 0: it sends none
		least time.Duration
		most  time.Duration
	}{
		{"a client that sends nothing", 0, lingerIdle, lingerIdle + time.Second},
		{"a client that goes on sending", time.Second, lingerTime, lingerTime + time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := refusedUpload(t, NewServer(codec.DefaultLimits(), refusing{}))
				begun := time.Now()
				for c.pause > 0 && time.Since(begun) < 2*c.most {
					if _, err := client.Write([]byte("x")); err != nil {
						break
					}
					time.Sleep(c.pause)
				}
				if _, err := client.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begun); took < c.least || took > c.most+c.pause {
					t.Errorf("it lingered for %s", took)
				}
			})
		})
	}
	t.Run("one connection too many", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := NewServer(codec.DefaultLimits(), refusing{})
			s.lingering.most = 2
			begun := time.Now()
			first, second, third := refusedUpload(t, s), refusedUpload(t, s), refusedUpload(t, s)
			if _, err := first.Read(make([]byte, 1)); err != io.EOF || time.Since(begun) != 0 {
				t.Errorf("the one that lingers for the longest: %v after %s", err, time.Since(begun))
			}
			for _, other := range []net.Conn{second, third} {
				if _, err := other.Write([]byte("x")); err != nil {
					t.Errorf("the others: %v", err)
				}
				_ = other.Close()
			}
		})
	})
}
