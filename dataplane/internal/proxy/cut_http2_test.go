package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// conversation is what a client of HTTP/2 says on one connection, as bytes, with what it expects of each stream.
type conversation struct {
	name    string
	said    []byte
	streams map[uint32]string // the body that the stream's response has to have
	shut    int               // of each body no more than this comes, since the client's windows do not let it; 0: all of it
	step    int               // looks at every step-th byte only
}

// speech writes a conversation's frames.
type speech struct {
	*xhttp2.Framer
	conversation
	b     bytes.Buffer
	block bytes.Buffer
	codec *hpack.Encoder
}

func begin(name string, settings ...xhttp2.Setting) *speech {
	s := &speech{conversation: conversation{name: name, streams: map[uint32]string{}, step: 1}}
	s.b.WriteString(xhttp2.ClientPreface)
	s.Framer, s.codec = xhttp2.NewFramer(&s.b, nil), hpack.NewEncoder(&s.block)
	_ = s.WriteSettings(settings...)
	return s
}

// fields encodes a header list, with the table that a connection has.
func (s *speech) fields(fields ...string) []byte {
	s.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = s.codec.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(s.block.Bytes())
}

// ask opens a stream whose request, and response, has the number n. The response is to have the body want after the
// number.
func (s *speech) ask(stream uint32, method string, n int, end bool, want string, more ...string) {
	fields := append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", fmt.Sprintf("/%06d", n)}, more...)
	_ = s.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: s.fields(fields...), EndHeaders: true, EndStream: end})
	s.streams[stream] = fmt.Sprintf("%06d %s", n, want)
}

func (s *speech) end() *conversation {
	s.said = bytes.Clone(s.b.Bytes())
	return &s.conversation
}

// conversations returns one of each kind, with requests from the number n on.
func conversations(n int) []*conversation {
	one := begin("streams among each other")
	one.ask(1, "GET", n+1, true, "")
	one.ask(3, "POST", n+2, false, "hello world", "content-length", "11")
	one.ask(5, "POST", n+3, false, "some more", "te", "trailers")
	_ = one.WriteData(3, false, []byte("hello "))
	_ = one.WriteData(5, false, []byte("some "))
	_ = one.WritePing(false, [8]byte{1})
	_ = one.WriteDataPadded(3, true, []byte("world"), make([]byte, 7))
	list := one.fields(":method", "GET", ":scheme", "http", ":authority", "a", ":path", fmt.Sprintf("/%06d", n+4))
	_ = one.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 7, BlockFragment: list[:5], EndStream: true})
	_ = one.WriteContinuation(7, true, list[5:])
	one.streams[7] = fmt.Sprintf("%06d ", n+4)
	_ = one.WriteData(5, false, []byte("more"))
	one.ask(9, "POST", n+5, false, "never")
	_ = one.WriteData(9, false, []byte("nev"))
	_ = one.WriteRSTStream(9, xhttp2.ErrCodeCancel)
	delete(one.streams, 9)
	_ = one.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 5, BlockFragment: one.fields("x-sum", "9"), EndHeaders: true, EndStream: true})
	_ = one.WriteWindowUpdate(0, 1000)

	large := strings.Repeat("0123456789", 20_000)
	two := begin("large bodies", xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
	_ = two.WriteWindowUpdate(0, 1<<20)
	for stream := uint32(1); stream < 6; stream += 2 {
		two.ask(stream, "POST", n+int(stream), false, large)
	}
	for rest := large; len(rest) > 0; rest = rest[10_000:] {
		for stream := uint32(1); stream < 6; stream += 2 {
			_ = two.WriteData(stream, len(rest) == 10_000, []byte(rest[:10_000]))
		}
	}
	two.step = 20_011

	three := begin("windows that stay shut", xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 9})
	three.shut = 9
	for stream := uint32(1); stream < 10; stream += 2 {
		three.ask(stream, "POST", n+int(stream), false, large[:1000])
		_ = three.WriteData(stream, true, []byte(large[:1000]))
	}
	three.step = 97
	return []*conversation{one.end(), two.end(), three.end()}
}

// hearing reads what comes on a client's connection of HTTP/2.
type hearing struct {
	c      *conversation
	status map[uint32]string
	bodies map[uint32][]byte
	over   map[uint32]bool // ended as they should
	broken map[uint32]bool
}

// hear reads until every stream has come to its end, as far as the windows let it, or until r ends. It returns what is
// wrong.
func (c *conversation) hear(r io.Reader) (*hearing, error) {
	h := &hearing{c: c, status: map[uint32]string{}, bodies: map[uint32][]byte{}, over: map[uint32]bool{}, broken: map[uint32]bool{}}
	f := xhttp2.NewFramer(io.Discard, r)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for !h.complete() {
		frame, err := f.ReadFrame()
		if err != nil {
			return h, nil
		}
		if err := h.take(frame); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (h *hearing) take(frame xhttp2.Frame) error {
	stream := frame.Header().StreamID
	want, ours := h.c.streams[stream]
	switch frame := frame.(type) {
	case *xhttp2.MetaHeadersFrame:
		if !ours {
			return nil // was reset by the client
		}
		if h.status[stream] == "" {
			h.status[stream] = frame.PseudoValue("status")
		}
		if h.status[stream] != "200" {
			return fmt.Errorf("stream %d has the status %s", stream, h.status[stream])
		}
		h.over[stream] = frame.StreamEnded()
	case *xhttp2.DataFrame:
		if !ours {
			return nil
		}
		h.bodies[stream] = append(h.bodies[stream], frame.Data()...)
		h.over[stream] = frame.StreamEnded()
		if got := string(h.bodies[stream]); !strings.HasPrefix(want, got) {
			return fmt.Errorf("stream %d wants %.100q and gets %.100q", stream, want, got)
		}
	case *xhttp2.RSTStreamFrame:
		h.broken[stream] = ours
	case *xhttp2.GoAwayFrame:
		return fmt.Errorf("the connection is over: %v", frame)
	}
	if got := string(h.bodies[stream]); h.over[stream] && got != want {
		return fmt.Errorf("stream %d wants %.100q and gets %.100q for the whole", stream, want, got)
	}
	return nil
}

func (h *hearing) complete() bool {
	for stream := range h.c.streams {
		shut := h.c.shut > 0 && len(h.bodies[stream]) == h.c.shut
		if !h.over[stream] && !h.broken[stream] && !shut {
			return false
		}
	}
	return true
}

// service is one that counts its connections.
type service struct {
	*httptest.Server
	open atomic.Int64
}

// newNumbered starts a service that answers with the number in the path and the body of the request.
func newNumbered(t *testing.T, protocol string) *service {
	return newService(t, protocol, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return // broken off: nobody reads it
		}
		w.Header().Set("Trailer", "X-Sum")
		_, _ = fmt.Fprintf(w, "%s %s", strings.TrimPrefix(r.URL.Path, "/"), text)
		w.Header().Set("X-Sum", fmt.Sprint(len(text)))
	}))
}

// newService starts a service of HTTP/1.1, or of HTTP/2 without TLS.
func newService(t *testing.T, protocol string, handler http.Handler) *service {
	s := &service{Server: httptest.NewUnstartedServer(handler)}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if protocol == "h2c" {
		s.Config.Protocols = &http.Protocols{}
		s.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.open.Add(-1)
		default:
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// TestCutHTTP2Clients lets a client of HTTP/2 die at every byte that it sends, and at every byte that it receives, in
// both ways that connections end, while another client has requests under way. The services speak HTTP/1.1, and HTTP/2,
// where all share connections.
func TestCutHTTP2Clients(t *testing.T) {
	once(t)
	for _, protocol := range []string{"http", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			leavesNothing(t)
			service := newNumbered(t, protocol)
			t.Cleanup(func() {
				waittest.Until(t, "the end of connections to the service", func() bool { return service.open.Load() == 0 })
			})
			g := startWith(t, codec.DefaultLimits(), speaking(protocol, service.Listener.Addr().String(), ""))
			client := survivor(t)
			k := &clientCutter{t: t, g: g, lives: func() error { return lives(client, g.address) }}
			for _, c := range conversations(0) {
				if protocol != "http" && c.step == 1 {
					c.step = 2 // what they do has been seen
				}
				k.cutEverywhere(c)
			}
			waittest.Until(t, "one connection of clients, of the one that lives", func() bool { return g.two.Active() == 1 })
			client.CloseIdleConnections()
			waittest.Until(t, "the end of connections of the client that lives", func() bool { return g.two.Active() == 0 && g.server.Active() == 0 })
			t.Logf("%d connections were cut", k.cuts.Load())
		})
	}
}

// survivor is a client of HTTP/2 that nobody cuts.
func survivor(t *testing.T) *http.Client {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: p}, Timeout: waittest.Limit}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

type clientCutter struct {
	t     *testing.T
	g     *gateway
	lives func() error // an exchange of another client
	cuts  atomic.Int64
}

func (k *clientCutter) cutEverywhere(c *conversation) {
	nc := k.dial()
	conn := &counting{Conn: nc}
	_, _ = nc.Write(c.said)
	h, err := c.hear(conn)
	if err != nil || !h.complete() || len(h.broken) > 0 {
		k.t.Fatalf("%s, that nobody cuts: %v, over %v, broken %v", c.name, err, h.over, h.broken)
	}
	_ = nc.Close()
	var wg sync.WaitGroup
	for _, reset := range []bool{false, true} {
		wg.Go(func() {
			for offset := range offsets(len(c.said), c.step, reset) {
				k.cut(c, cut{clientSends, offset, reset})
			}
			for offset := range offsets(int(conn.n), c.step, reset) {
				k.cut(c, cut{clientReceives, offset, reset})
			}
		})
	}
	wg.Wait()
}

func (k *clientCutter) dial() net.Conn {
	c, err := net.Dial("tcp", k.g.address)
	if err != nil {
		k.t.Error(err)
		return nil
	}
	_ = c.SetDeadline(waittest.Deadline())
	return c
}

// cut lets a client die while the other one waits for a response.
func (k *clientCutter) cut(c *conversation, at cut) {
	if k.t.Failed() {
		return
	}
	k.cuts.Add(1)
	nc := k.dial()
	if nc == nil {
		return
	}
	said := c.said
	if at.when == clientSends {
		said = said[:at.offset]
	}
	half := len(said) / 2
	_, _ = nc.Write(said[:half])
	answered := make(chan error, 1)
	go func() { answered <- k.lives() }()
	var err error
	_, _ = nc.Write(said[half:])
	if at.when == clientReceives {
		_, err = c.hear(io.LimitReader(nc, int64(at.offset)))
	}
	at.die(nc)
	if err = errors.Join(err, <-answered); err != nil {
		k.t.Errorf("%s, cut at %+v: %v", c.name, at, err)
	}
}

// number counts the requests of clients that live.
var number atomic.Int64

// lives sends a request with a number of its own and returns what is wrong with the response.
func lives(client *http.Client, address string) error {
	n := number.Add(1) + 500_000
	sent := strings.Repeat("x", int(n%50))
	res, err := client.Post(fmt.Sprintf("http://%s/%06d", address, n), "text/plain", strings.NewReader(sent))
	if err != nil {
		return fmt.Errorf("a client that lives: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if want := fmt.Sprintf("%06d %s", n, sent); err != nil || res.StatusCode != 200 || string(text) != want {
		return fmt.Errorf("a client that lives got %d %.100q, %w instead of %q", res.StatusCode, text, err, want)
	}
	return nil
}
