package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// recorded is what a service says on one connection, as bytes, with where the parts of it end.
type recorded struct {
	*xhttp2.Framer
	b     bytes.Buffer
	marks map[string]int
}

func record() *recorded {
	r := &recorded{marks: map[string]int{}}
	r.Framer = xhttp2.NewFramer(&r.b, nil)
	return r
}

// mark gives what has been said so far a name.
func (r *recorded) mark(name string) { r.marks[name] = r.b.Len() }

func (r *recorded) head(stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}

// request is one that has reached a service whole.
type request struct {
	stream uint32
	path   string
	body   string
}

// requests reads the requests of a connection.
type requests struct {
	*xhttp2.Framer
	open map[uint32]*request
}

func newRequests(r io.Reader) (*requests, error) {
	if _, err := io.ReadFull(r, make([]byte, len(xhttp2.ClientPreface))); err != nil {
		return nil, err
	}
	f := &requests{xhttp2.NewFramer(io.Discard, r), map[uint32]*request{}}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return f, nil
}

// next waits for a whole request; nil when the connection is over.
func (f *requests) next() *request {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return nil
		}
		stream, ended := frame.Header().StreamID, false
		switch frame := frame.(type) {
		case *xhttp2.MetaHeadersFrame:
			if f.open[stream] == nil {
				f.open[stream] = &request{stream: stream, path: frame.PseudoValue("path")}
			}
			ended = frame.StreamEnded()
		case *xhttp2.DataFrame:
			f.open[stream].body += string(frame.Data())
			ended = frame.StreamEnded()
		}
		if ended {
			whole := f.open[stream]
			delete(f.open, stream)
			return whole
		}
	}
}

// opened waits for the head of a request.
func (f *requests) opened() bool {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return false
		}
		if head, is := frame.(*xhttp2.MetaHeadersFrame); is {
			f.open[head.StreamID] = &request{stream: head.StreamID, path: head.PseudoValue("path")}
			return true
		}
	}
}

// The requests of a round. The first makes the connection one that has been used; the others are under way on it at
// once.
var others = []string{"get", "post", "early", "refused", "above"}

// dying is a service of HTTP/2 whose connections die in their rounds: where the first request of a round is the first
// of a connection, that is answered as far as the cut lets it. All other connections answer as they should.
type dying struct {
	plan  atomic.Pointer[cut]
	seen  sync.Map // path: a channel that is closed when the request arrives
	open  atomic.Int64
	begun atomic.Int64
}

// answers returns what the dying connection says to the first request, and to the others when they are all there.
func answers(first string, paths []string) (opening, rest *recorded) {
	opening, rest = record(), record()
	_ = opening.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 50})
	opening.head(1, false, ":status", "200", "content-length", fmt.Sprint(len(first)))
	opening.mark("head")
	_ = opening.WriteData(1, false, []byte(first[:3]))
	_ = opening.WriteData(1, true, []byte(first[3:]))
	opening.mark("end")
	_ = opening.WriteSettingsAck()
	get, post, early := paths[0], paths[1], paths[2]
	rest.head(3, false, ":status", "200", "content-length", fmt.Sprint(len(get)))
	rest.mark("get head")
	rest.head(5, false, ":status", "200")
	_ = rest.WriteData(3, false, []byte(get[:4]))
	_ = rest.WriteRSTStream(9, xhttp2.ErrCodeRefusedStream)
	rest.mark("refused")
	rest.head(7, false, ":status", "103", "link", "</a>")
	rest.mark("early head")
	_ = rest.WriteData(5, false, []byte(post[:2]))
	_ = rest.WriteGoAway(9, xhttp2.ErrCodeNo, []byte("maintenance"))
	rest.mark("above")
	rest.head(7, false, ":status", "200")
	_ = rest.WriteData(5, false, []byte(post[2:]))
	_ = rest.WriteData(3, true, []byte(get[4:]))
	rest.mark("get")
	_ = rest.WriteDataPadded(7, true, []byte(early), make([]byte, 9))
	rest.mark("early")
	_ = rest.WritePing(false, [8]byte{7})
	rest.head(5, true, "x-sum", "1")
	rest.mark("post")
	_ = rest.WriteWindowUpdate(0, 99)
	return opening, rest
}

func (d *dying) serve(_ int, nc net.Conn, r *bufio.Reader) {
	d.open.Add(1)
	defer d.open.Add(-1)
	d.begun.Add(1)
	_ = nc.SetDeadline(waittest.Deadline())
	in, err := newRequests(r)
	if err != nil {
		return
	}
	f := xhttp2.NewFramer(nc, nil)
	for n := 0; ; n++ {
		req := in.next()
		switch {
		case req == nil:
			return
		case strings.HasSuffix(req.path, "first") && n == 0:
			d.die(nc, in, req)
			return
		case strings.HasSuffix(req.path, "first"):
			_ = f.WriteGoAway(req.stream-2, xhttp2.ErrCodeNo, nil) // on another connection, please
			return
		case n == 0:
			_ = f.WriteSettings()
		}
		d.arrives(req)
		out := record()
		out.head(req.stream, false, ":status", "200")
		_ = out.WriteData(req.stream, true, []byte(req.path))
		if _, err := nc.Write(out.b.Bytes()); err != nil {
			return
		}
	}
}

func (d *dying) arrives(req *request) {
	if c, waited := d.seen.LoadAndDelete(req.path); waited {
		close(c.(chan struct{}))
	}
}

func (d *dying) die(nc net.Conn, in *requests, first *request) {
	plan, paths := d.plan.Load(), make([]string, len(others))
	opening, _ := answers(first.path, pathsAfter(first.path))
	at := min(plan.offset, opening.b.Len())
	_, _ = nc.Write(opening.b.Bytes()[:at])
	if plan.offset > opening.b.Len() {
		for i := range paths {
			req := in.next()
			if req == nil {
				return
			}
			paths[i] = req.path
			d.arrives(req)
		}
		_, rest := answers(first.path, paths)
		_, _ = nc.Write(rest.b.Bytes()[:plan.offset-at])
	}
	if !plan.reset {
		_ = nc.(*net.TCPConn).CloseWrite() // a connection that is closed with something unread is reset
		for in.next() != nil {
		}
	}
	plan.die(nc)
}

// pathsAfter returns the paths of a round's other requests.
func pathsAfter(first string) []string {
	var all []string
	for i, name := range others {
		all = append(all, fmt.Sprintf("%s%d/%s", strings.TrimSuffix(first, "first"), i, name))
	}
	return all
}

// got is what a client has got.
type got struct {
	status int
	body   string
	err    error
}

// right reports whether the whole of the response came that the request has to have.
func (g got) right() bool { return g.err == nil && g.status == 200 }

func (g got) String() string { return fmt.Sprintf("%d %.200q, %v", g.status, g.body, g.err) }

// TestCutHTTP2Upstreams lets a service of HTTP/2 die at every byte of what it answers on a connection that the requests
// of several clients share, in both ways that connections end. What the service has answered whole arrives whole; what
// it has not looked at, or may be asked twice and has not begun to answer, is asked again elsewhere; everything else is
// an error, and never is it another one's answer.
func TestCutHTTP2Upstreams(t *testing.T) {
	leavesNothing(t)
	for name, reset := range map[string]bool{"ended": false, "reset": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &dying{}
			address := scripted(t, d.serve)
			t.Cleanup(func() {
				waittest.Until(t, "the end of connections to the service", func() bool { return d.open.Load() == 0 })
			})
			k := &upstreamCutter{t: t, service: d, survivor: survivor(t)}
			k.g = startWith(t, codec.DefaultLimits(), speaking("h2c", address, ", max_connections: 2"))
			opening, rest := answers("/000000/first", pathsAfter("/000000/first"))
			total := opening.b.Len() + rest.b.Len()
			for offset := range offsets(total, 1, reset) {
				if t.Failed() {
					return
				}
				k.round(cut{serviceSends, offset, reset})
			}
			k.survivor.CloseIdleConnections()
			waittest.Until(t, "the end of connections of clients", func() bool { return k.g.server.Active() == 0 && k.g.two.Active() == 0 })
			t.Logf("%d connections of the service were opened", d.begun.Load())
		})
	}
}

type upstreamCutter struct {
	t        *testing.T
	g        *gateway
	service  *dying
	survivor *http.Client
	n        int
}

func (k *upstreamCutter) round(at cut) {
	k.service.plan.Store(&at)
	k.n++
	first := fmt.Sprintf("/%06d/first", k.n)
	paths := pathsAfter(first)
	opening, rest := answers(first, paths)
	results := map[string]got{"first": k.ask("GET", first)}
	answered := make(map[string]chan got)
	for i, name := range others {
		method := "POST"
		if name == "get" || name == "early" {
			method = "GET"
		}
		arrived, done := make(chan struct{}), make(chan got, 1)
		k.service.seen.Store(paths[i], arrived)
		answered[name] = done
		go func() {
			if name == "post" {
				done <- k.askHTTP2(paths[i])
			} else {
				done <- k.ask(method, paths[i])
			}
		}()
		select { // so that all of them come in this order
		case <-arrived:
		case res := <-done:
			done <- res
		}
	}
	for name, done := range answered {
		results[name] = <-done
	}
	for name, res := range results {
		if want := expect(name, at, opening, rest); want != nil && *want != res.right() {
			k.t.Errorf("cut at %+v of %d and %d: %s got %s", at, opening.b.Len(), rest.b.Len(), name, res)
		}
		if res.err == nil && res.status != 200 && (res.status != 502 || !strings.Contains(res.body, "UPSTREAM_UNAVAILABLE")) {
			k.t.Errorf("cut at %+v: %s got %s", at, name, res)
		}
	}
}

// expect tells whether a request has to get its answer; nil: it may.
func expect(name string, at cut, opening, rest *recorded) *bool {
	yes, no := true, false
	offset := at.offset - opening.b.Len()
	switch {
	case name == "first" && at.offset < opening.marks["end"]:
		return &no
	case name == "first" && !at.reset:
		return &yes
	case name == "first":
		return nil // what came before a reset may be lost
	case at.offset < opening.marks["end"]:
		return &yes // on another connection
	case offset <= 0:
		return nil // the node may not know yet that the connection is over
	case offset < rest.marks[name]:
		return &no
	case name == "refused" && offset < rest.marks["above"]:
		return nil // it may be asked again on the same connection, which has not yet said that it is over
	case !at.reset:
		return &yes
	}
	return nil
}

// ask sends a request on a connection of its own, over HTTP/1.1, and all of it at once.
func (k *upstreamCutter) ask(method, path string) got {
	c, err := net.Dial("tcp", k.g.address)
	if err != nil {
		return got{err: err}
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(waittest.Deadline())
	text := method + " " + path + " HTTP/1.1\r\nHost: a\r\n"
	if method == "POST" {
		text += "Content-Length: 5\r\n\r\nhello"
	} else {
		text += "\r\n"
	}
	if _, err := io.WriteString(c, text); err != nil {
		return got{err: err}
	}
	status, body, err := readOne(c, method)
	return k.checked(path, got{status, body, err})
}

func (k *upstreamCutter) askHTTP2(path string) got {
	res, err := k.survivor.Post("http://"+k.g.address+path, "text/plain", io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo")))
	if err != nil {
		return got{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return k.checked(path, got{res.StatusCode, string(text), err})
}

func (k *upstreamCutter) checked(path string, g got) got {
	if g.right() && g.body != path {
		k.t.Errorf("%s got another's answer: %s", path, g)
	}
	return g
}
