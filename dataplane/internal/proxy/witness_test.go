package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/shared/waittest"
)

// witness is a service that keeps the text of every request that reaches it, as it was sent.
type witness struct {
	address string

	mu     sync.Mutex
	seen   []string
	answer string // to every request, as it is sent; what follows "|" is sent when the body has come
	closes bool   // behind the answer
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func newWitness(t *testing.T) *witness {
	w := &witness{answer: plainAnswer}
	w.address = scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_ = c.SetDeadline(waittest.Deadline())
		for w.serve(c, r) {
		}
	})
	return w
}

// serve takes one request and answers it.
func (w *witness) serve(c net.Conn, r *bufio.Reader) bool {
	var head bytes.Buffer
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if head.WriteString(line); line == "\r\n" {
			break
		}
	}
	var text bytes.Buffer
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head.Bytes()), io.TeeReader(unbuffered{r}, &text))))
	w.mu.Lock()
	answer, closes := w.answer, w.closes
	w.mu.Unlock()
	early, late, _ := strings.Cut(answer, "|")
	if late == "" {
		early, late = "", early
	}
	if _, err := io.WriteString(c, early); err != nil {
		return false
	}
	if err == nil && req.Method != "CONNECT" {
		_, err = io.Copy(io.Discard, req.Body)
	}
	said := head.String() + text.String()
	if err != nil {
		said += "!" + err.Error()
	}
	w.mu.Lock()
	w.seen = append(w.seen, said)
	w.mu.Unlock()
	_, err = io.WriteString(c, late)
	return err == nil && !closes
}

// unbuffered gives a byte at a time: no more is taken of a connection than what belongs to a request.
type unbuffered struct{ r io.Reader }

func (u unbuffered) Read(b []byte) (int, error) {
	if len(b) > 1 {
		b = b[:1]
	}
	return u.r.Read(b)
}

// answers sets what requests are answered with from now on.
func (w *witness) answers(text string, closes bool) {
	w.mu.Lock()
	w.answer, w.closes = text, closes
	w.mu.Unlock()
}

// take returns what came since the last call.
func (w *witness) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := strings.Join(w.seen, "")
	w.seen = nil
	return seen
}

// target returns the target of the last request; empty: none came.
func (w *witness) target() string {
	_, rest, _ := strings.Cut(w.take(), " ")
	target, _, _ := strings.Cut(rest, " HTTP/")
	return target
}

// heard is a response over HTTP/2.
type heardH2 struct {
	status string // empty: the stream was reset
	fields []hpack.HeaderField
	body   string
}

// field returns a field's value.
func (h *heardH2) field(name string) string {
	for _, f := range h.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// ask sends one request over HTTP/2, without TLS, with the given fields, names and values in turn.
func (g *gateway) ask(fields ...string) *heardH2 {
	g.t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	s := begin("")
	_ = s.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: s.fields(fields...), EndHeaders: true, EndStream: true})
	if _, err := c.Write(s.b.Bytes()); err != nil {
		g.t.Fatal(err)
	}
	f := xhttp2.NewFramer(io.Discard, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	heard := &heardH2{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			g.t.Fatalf("%q: %v", fields, err)
		}
		if frame.Header().StreamID != 1 {
			continue
		}
		switch frame := frame.(type) {
		case *xhttp2.MetaHeadersFrame:
			if status := frame.PseudoValue("status"); status != "" && status[0] != '1' {
				heard.status, heard.fields = status, frame.RegularFields()
			}
		case *xhttp2.DataFrame:
			heard.body += string(frame.Data())
		case *xhttp2.RSTStreamFrame:
			return heard
		}
		if frame.Header().Flags.Has(xhttp2.FlagDataEndStream) { // the same bit in frames of both types
			return heard
		}
	}
}
