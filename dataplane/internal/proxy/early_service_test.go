package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// refusal is how a service answers before it has read a request's body.
type refusal struct {
	after    int    // bytes of the body that it reads before
	streamed bool   // the answer has no length and comes in parts
	end      string // what it does then: see the services
}

const refusalText = "no more than a KiB, please\n"

// text is the answer's body.
func (r refusal) text() string {
	if r.streamed {
		return strings.Repeat(refusalText, 300)
	}
	return refusalText
}

func (r refusal) query() string {
	return fmt.Sprintf("?after=%d&streamed=%v&end=%s", r.after, r.streamed, url.QueryEscape(r.end))
}

func refusalOf(u *url.URL) (r refusal) {
	q := u.Query()
	r.after, _ = strconv.Atoi(q.Get("after"))
	r.streamed, r.end = q.Get("streamed") == "true", q.Get("end")
	return r
}

// listening accepts connections, over TLS where that is asked for, until the test ends.
func listening(t *testing.T, secure *tls.Config, serve func(c net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.Map
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			running.Go(func() {
				defer conns.Delete(c)
				defer func() { _ = c.Close() }()
				if secure != nil {
					serve(tls.Server(c, secure))
				} else {
					serve(c)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Range(func(c, _ any) bool { return c.(net.Conn).Close() == nil || true })
		running.Wait()
	})
	return ln.Addr().String()
}

// beneathTLS returns the connection of the system's.
func beneathTLS(c net.Conn) *net.TCPConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*net.TCPConn)
}

// refusingHTTP1 answers uploads early, and others with what came. Its ends are
//
//	keep: it reads what is left of the body, and the next request
//	linger: it shuts its side down, reads what is left, and closes
//	close: it closes at once, with what it has not read
//	reset: it resets the connection at once
func refusingHTTP1(t *testing.T, secure *tls.Config) (address string) {
	return listening(t, secure, func(c net.Conn) {
		r := bufio.NewReaderSize(c, 4<<10)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			how := refusalOf(req.URL)
			if (how.after > 0 || how.end == "") && req.Header.Get("Expect") != "" {
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			if how.end == "" {
				got, err := io.ReadAll(req.Body)
				if err == nil {
					_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got), got)
				}
				if err != nil {
					return
				}
				continue
			}
			_, _ = io.CopyN(io.Discard, req.Body, int64(how.after))
			head := "HTTP/1.1 413 Too Large\r\nX-Early: yes\r\n"
			if how.end != "keep" {
				head += "Connection: close\r\n"
			}
			text := how.text()
			if how.streamed {
				half := len(text) / 2
				_, _ = fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", head, half, text[:half])
				_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n0\r\n\r\n", len(text)-half, text[half:])
			} else {
				_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(text), text)
			}
			switch how.end {
			case "keep":
				if _, err := io.Copy(io.Discard, req.Body); err != nil {
					return
				}
				continue
			case "linger":
				if cw, ok := c.(interface{ CloseWrite() error }); ok {
					_ = cw.CloseWrite()
				}
				_, _ = io.Copy(io.Discard, r)
			case "close":
				if c != net.Conn(beneathTLS(c)) {
					_ = c.(*tls.Conn).CloseWrite()
				}
				_ = beneathTLS(c).Close()
			case "reset":
				_ = beneathTLS(c).SetLinger(0)
				_ = beneathTLS(c).Close()
			}
			return
		}
	})
}

// refusingHTTP2 does the same over HTTP/2. Its ends are
//
//	no error, cancel, internal: it resets the stream with this code
//	keep: it lets the client send what is left
//	starve: it lets the client send nothing more
//	away: it says GOAWAY before the last part of the answer, and closes the connection after it, with what it has not read
type refusingHTTP2 struct {
	*xhttp2.Framer
	conn    net.Conn
	streams map[uint32]*refused
}

// refused is a stream of such a service.
type refused struct {
	refusal
	echoes bool
	got    bytes.Buffer // of an echo
	read   int
	done   bool
}

func newRefusingHTTP2(t *testing.T, secure *tls.Config) (address string) {
	return listening(t, secure, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface))); err != nil {
			return
		}
		s := &refusingHTTP2{xhttp2.NewFramer(c, c), c, map[uint32]*refused{}}
		s.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		// What is written in many small pieces may not have left when the connection is closed.
		_ = s.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 256 << 10})
		_ = s.WriteWindowUpdate(0, 1<<30)
		for s.take() == nil {
		}
	})
}

var errServiceOver = errors.New("the service has closed the connection")

func (s *refusingHTTP2) take() error {
	frame, err := s.ReadFrame()
	if err != nil {
		return err
	}
	switch f := frame.(type) {
	case *xhttp2.SettingsFrame:
		if !f.IsAck() {
			return s.WriteSettingsAck()
		}
	case *xhttp2.PingFrame:
		if !f.IsAck() {
			return s.WritePing(true, f.Data)
		}
	case *xhttp2.RSTStreamFrame:
		delete(s.streams, f.StreamID)
	case *xhttp2.MetaHeadersFrame:
		if s.streams[f.StreamID] != nil { // trailers
			return s.came(f.StreamID, 0, f.StreamEnded())
		}
		u, err := url.Parse(f.PseudoValue("path"))
		if err != nil {
			return err
		}
		how := refusalOf(u)
		s.streams[f.StreamID] = &refused{refusal: how, echoes: how.end == ""}
		if (how.after > 0 || how.end == "") && slices.ContainsFunc(f.RegularFields(), func(h hpack.HeaderField) bool { return h.Name == "expect" }) {
			if err := s.head(f.StreamID, ":status", "100"); err != nil {
				return err
			}
		}
		return s.came(f.StreamID, 0, f.StreamEnded())
	case *xhttp2.DataFrame:
		st := s.streams[f.StreamID]
		if st == nil {
			return nil
		}
		if st.echoes {
			st.got.Write(f.Data())
		}
		return s.came(f.StreamID, int(f.Length), f.StreamEnded())
	}
	return nil
}

// came takes in that bytes of a stream's body, or its end, have come.
func (s *refusingHTTP2) came(id uint32, n int, end bool) error {
	st := s.streams[id]
	st.read += n
	if n > 0 && !end && (st.end == "keep" || st.echoes) {
		if err := s.WriteWindowUpdate(id, uint32(n)); err != nil {
			return err
		}
	}
	switch {
	case st.echoes && end:
		delete(s.streams, id)
		if err := s.head(id, ":status", "200"); err != nil {
			return err
		}
		for b := st.got.Bytes(); ; b = b[16<<10:] { // tests echo less than the windows
			if len(b) <= 16<<10 {
				return s.WriteData(id, true, b)
			}
			if err := s.WriteData(id, false, b[:16<<10]); err != nil {
				return err
			}
		}
	case !st.echoes && !st.done && (st.read >= st.after || end):
		st.done = true
		return s.refuse(id, st)
	}
	return nil
}

func (s *refusingHTTP2) head(id uint32, fields ...string) error {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return s.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
}

func (s *refusingHTTP2) refuse(id uint32, st *refused) (err error) {
	text := st.text()
	fields := []string{":status", "413", "x-early", "yes"}
	if !st.streamed {
		fields = append(fields, "content-length", strconv.Itoa(len(text)))
	}
	err = s.head(id, fields...)
	if st.streamed && err == nil {
		err = s.WriteData(id, false, []byte(text[:len(text)/2]))
		text = text[len(text)/2:]
	}
	if err == nil && st.end == "away" {
		err = s.WriteGoAway(id, xhttp2.ErrCodeNo, nil)
	}
	if err == nil {
		err = s.WriteData(id, true, []byte(text))
	}
	if err != nil {
		return err
	}
	switch st.end {
	case "no error":
		return s.WriteRSTStream(id, xhttp2.ErrCodeNo)
	case "cancel":
		return s.WriteRSTStream(id, xhttp2.ErrCodeCancel)
	case "internal":
		return s.WriteRSTStream(id, xhttp2.ErrCodeInternal)
	case "away":
		if t, ok := s.conn.(*tls.Conn); ok {
			_ = t.SetWriteDeadline(time.Now().Add(time.Second))
			_ = t.CloseWrite()
		}
		_ = beneathTLS(s.conn).Close()
		return errServiceOver
	}
	return nil
}
