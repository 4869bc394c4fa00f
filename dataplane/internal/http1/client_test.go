package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// TestAnswerIsDueOnceTheRequestIsSent sends a body for longer than the service may take to answer, in virtual time.
func TestAnswerIsDueOnceTheRequestIsSent(t *testing.T) {
	for name, answers := range map[string]bool{"in time": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				c := NewClientConn(near, false)
				defer c.Close()
				received := make(chan string)
				go func() {
					b, text := make([]byte, 1000), ""
					for {
						n, err := far.Read(b)
						text += string(b[:n])
						if err != nil {
							received <- text
							return
						}
						if answers && text[len(text)-1] == '.' {
							_, _ = io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
						}
					}
				}()
				x := &exchange.Exchange{}
				x.Start = time.Now()
				x.Request = exchange.Request{Method: "POST", Path: "/", ContentLength: 10}
				const timeout = 100 * time.Millisecond
				if _, _, err := c.Send(x, []byte("x"), false, timeout); err != nil {
					t.Fatal(err)
				}
				go func() {
					for i := range 9 {
						time.Sleep(timeout / 2)
						part := []byte("x")
						if i == 8 {
							part = []byte(".")
						}
						if err := c.SendBody(x, part, false, timeout); err != nil {
							t.Error(err)
						}
					}
					if err := c.SendBody(x, nil, true, timeout); err != nil {
						t.Error(err)
					}
				}()
				_, err := c.Answer(x, timeout)
				took := time.Since(x.Start)
				switch sent := 9 * timeout / 2; {
				case answers && (err != nil || x.Response.Status != 200 || took != sent):
					t.Errorf("got %d, %v after %s", x.Response.Status, err, took)
				case !answers && (!errors.Is(err, os.ErrDeadlineExceeded) || took < sent+timeout || took > sent+2*timeout):
					t.Errorf("got %v after %s", err, took)
				}
				c.Close()
				<-received
			})
		})
	}
}

// The time for an answer begins when the request has been sent also where an interim response came before, to which the
// client begins to send its body.
func TestAnswerIsDueAfterAnInterimResponse(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for name, answers := range map[string]bool{"in time": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				c := NewClientConn(near, false)
				defer c.Close()
				served := make(chan struct{})
				go func() {
					defer close(served)
					b, text := make([]byte, 1000), ""
					for {
						n, err := far.Read(b)
						if text += string(b[:n]); err != nil {
							return
						}
						switch {
						case strings.HasSuffix(text, "\r\n\r\n"):
							_, _ = io.WriteString(far, "HTTP/1.1 100 Continue\r\n\r\n")
						case answers && strings.HasSuffix(text, "."):
							_, _ = io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
						}
					}
				}()
				told := make(chan struct{})
				x := &exchange.Exchange{}
				x.Start = time.Now()
				x.Down = &continued{told: told}
				x.Request = exchange.Request{Method: "POST", Path: "/", ContentLength: 10, Expects100: true}
				if _, _, err := c.Send(x, nil, false, timeout); err != nil {
					t.Fatal(err)
				}
				go func() {
					<-told
					for _, part := range "123456789." {
						time.Sleep(timeout / 2)
						if err := c.SendBody(x, []byte(string(part)), part == '.', timeout); err != nil {
							t.Error(err)
						}
					}
				}()
				_, err := c.Answer(x, timeout)
				took := time.Since(x.Start)
				switch sent := 10 * timeout / 2; {
				case answers && (err != nil || x.Response.Status != 200 || took != sent):
					t.Errorf("got %d, %v after %s", x.Response.Status, err, took)
				case !answers && (!errors.Is(err, os.ErrDeadlineExceeded) || took < sent+timeout || took > sent+2*timeout):
					t.Errorf("got %v after %s", err, took)
				}
				c.Close()
				<-served
			})
		})
	}
}

// continued is a client that is told to go on.
type continued struct {
	exchange.Downstream
	told chan struct{}
}

func (d *continued) WriteInterim(int, *exchange.Header, []byte) error {
	close(d.told)
	return nil
}
