package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/http1/hostiletest"
	"gateway.internal/shared/waittest"
)

// canary is a service that writes down every request that reaches it, as it reads it, and whatever no gateway should
// send.
type canary struct {
	mu   sync.Mutex
	seen []string
	odd  []string
}

func newCanary(t *testing.T) (*canary, string) {
	c := &canary{}
	return c, scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		_ = conn.SetDeadline(waittest.Deadline())
		for c.request(conn, r) {
		}
	})
}

// request reads and answers one request.
func (c *canary) request(conn net.Conn, r *bufio.Reader) bool {
	head, ok := c.head(r)
	if !ok {
		return false
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		c.complain("a head that net/http refuses (%v): %q", err, head)
		return false
	}
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false
		}
	}
	entry := req.Method + " " + req.RequestURI
	var text []byte
	if len(req.TransferEncoding) > 0 {
		text, err = io.ReadAll(httputil.NewChunkedReader(r))
	} else {
		text = make([]byte, req.ContentLength)
		_, err = io.ReadFull(r, text)
	}
	if err != nil {
		return false // the gateway broke it off
	}
	if len(text) > 0 {
		entry += ` "` + string(text) + `"`
	}
	for len(req.TransferEncoding) > 0 {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == "\r\n" {
			break
		}
		entry += " " + strings.TrimSuffix(line, "\r\n")
	}
	c.mu.Lock()
	c.seen = append(c.seen, entry)
	c.mu.Unlock()
	answer := req.Method + " " + req.RequestURI
	answer = "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(answer)) + "\r\n\r\n" + answer
	if req.Method == "HEAD" {
		answer = answer[:strings.Index(answer, "\r\n\r\n")+4]
	}
	_, err = io.WriteString(conn, answer)
	return err == nil
}

// head reads to the first empty line and looks at every byte: nothing may be left in it that another reader could take
// for a line end.
func (c *canary) head(r *bufio.Reader) ([]byte, bool) {
	var head []byte
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if len(line)+len(head) > 0 {
				c.complain("half a head: %q", append(head, line...))
			}
			return nil, false
		}
		head = append(head, line...)
		if string(line) == "\r\n" {
			return head, true
		}
		text, whole := bytes.CutSuffix(line, []byte("\r\n"))
		name, _, _ := bytes.Cut(text, []byte(":"))
		if !whole || bytes.ContainsAny(text, "\r\x00\x0b\x0c") || len(text) > 0 && (text[0] == ' ' || text[0] == '\t') ||
			len(head) > len(line) && bytes.ContainsAny(name, " \t") {
			c.complain("a hostile line: %q", line)
		}
	}
}

func (c *canary) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.odd = append(c.odd, fmt.Sprintf(format, args...))
}

// take returns what came since the last call.
func (c *canary) take() (seen, odd []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, odd = c.seen, c.odd
	c.seen, c.odd = nil, nil
	return seen, odd
}

// TestHostileClients sends the corpus' requests through the gateway: in one piece, and in many. Besides the verdicts,
// the service must not see anything that was not accepted, and whoever comes next gets an answer to what was asked.
func TestHostileClients(t *testing.T) {
	cases, err := hostiletest.Client()
	if err != nil {
		t.Fatal(err)
	}
	c, address := newCanary(t)
	limits := codec.DefaultLimits()
	patient := startWith(t, limits, to(address, ""))
	limits.HeadTimeout, limits.BodyTimeout = 200*time.Millisecond, 200*time.Millisecond
	hasty := startWith(t, limits, to(address, ""))
	for _, k := range cases {
		t.Run(k.Name, func(t *testing.T) {
			if k.Has("slow") {
				(&hostileClient{t: t, k: &k, canary: c, gateway: hasty}).run(len(k.Message))
				return
			}
			h := &hostileClient{t: t, k: &k, canary: c, gateway: patient}
			h.run(len(k.Message))
			h.run(1 + len(k.Message)/2000)
		})
	}
}

// hostileClient runs one case.
type hostileClient struct {
	t       *testing.T
	k       *hostiletest.Case
	canary  *canary
	gateway *gateway
	want    []string // what the service is to see
	conn    net.Conn
	r       *bufio.Reader
}

// run sends the message in pieces of a size and goes through the verdicts.
func (h *hostileClient) run(piece int) {
	h.t.Helper()
	var err error
	if h.conn, err = net.Dial("tcp", h.gateway.address); err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = h.conn.Close() }()
	_ = h.conn.SetDeadline(waittest.Deadline())
	for text := h.k.Message; len(text) > 0; {
		n := min(piece, len(text))
		if _, err := h.conn.Write(text[:n]); err != nil {
			break // refused before its end
		}
		text = text[n:]
	}
	h.r, h.want = bufio.NewReader(h.conn), nil
	for _, v := range h.k.Verdicts {
		if !h.verdict(v) {
			h.t.Errorf("that was with pieces of %d bytes", piece)
			return
		}
	}
	res := h.gateway.raw("GET /innocent HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
	if got := body(h.t, res); got != "GET /innocent" {
		h.t.Errorf("somebody else was answered %d %s", res.StatusCode, got)
	}
	h.want = append(h.want, "GET /innocent")
	seen, odd := h.canary.take()
	if strings.Join(seen, "\n") != strings.Join(h.want, "\n") || len(odd) > 0 {
		h.t.Errorf("with pieces of %d bytes the service saw\n%q\nwant\n%q\nand was sent\n%s", piece, seen, h.want, strings.Join(odd, "\n"))
	}
}

func (h *hostileClient) verdict(v string) bool {
	h.t.Helper()
	local, isLocal := strings.CutPrefix(v, "local ")
	status, err := strconv.Atoi(local)
	switch {
	case err == nil:
		res, text := h.answer("GET")
		if res == nil {
			return false
		}
		if res.StatusCode != status || strings.Contains(text, `{"success":false,`) != (status >= 400) || res.Close == isLocal {
			h.t.Errorf("got %s, close %v, %s; want %s", res.Status, res.Close, text, v)
			return false
		}
		return isLocal || h.over(nil)
	case v == "kept":
		if _, err := io.WriteString(h.conn, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			h.t.Errorf("the connection takes nothing more: %v", err)
			return false
		}
		return h.accepted("GET /next")
	case v == "closed":
		return h.over(syscall.ECONNRESET) // who said that it was over and goes on gets no better
	}
	return h.accepted(v)
}

// accepted expects the service's answer to a request.
func (h *hostileClient) accepted(v string) bool {
	h.t.Helper()
	h.want = append(h.want, v)
	method, rest, _ := strings.Cut(v, " ")
	target, _, _ := strings.Cut(rest, " ")
	want := method + " " + target
	if method == "HEAD" {
		want = ""
	}
	res, text := h.answer(method)
	if res == nil {
		return false
	}
	if res.StatusCode != 200 || text != want {
		h.t.Errorf("got %s %q, want %q", res.Status, text, want)
		return false
	}
	return true
}

// answer reads the next final response.
func (h *hostileClient) answer(method string) (*http.Response, string) {
	h.t.Helper()
	for {
		res, err := http.ReadResponse(h.r, &http.Request{Method: method})
		if err != nil {
			h.t.Errorf("no answer: %v", err)
			return nil, ""
		}
		text, err := io.ReadAll(res.Body)
		if err != nil {
			h.t.Errorf("half an answer: %v", err)
			return nil, ""
		}
		if res.StatusCode >= 200 {
			return res, string(text)
		}
	}
}

// over expects the end of the connection, or the given error.
func (h *hostileClient) over(or error) bool {
	h.t.Helper()
	if rest, err := io.ReadAll(h.r); err != nil && !errors.Is(err, or) || len(rest) > 0 {
		h.t.Errorf("the connection goes on: %q, %v", rest, err)
		return false
	}
	return true
}
