package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

const farewell = " bye"

// tunnelSpeech is a client that has two tunnels on its connection, each with a text that ends with a full stop.
func tunnelSpeech(name string) *conversation {
	s := begin(name)
	texts := map[uint32]string{1: "000001 hello world.", 3: "000002 good morning."}
	for _, stream := range []uint32{1, 3} {
		s.ask(stream, "CONNECT", int(stream), false, "", ":protocol", "websocket", "sec-websocket-version", "13")
		_ = s.WriteData(stream, false, []byte(texts[stream][:5]))
	}
	_ = s.WriteData(3, true, []byte(texts[3][5:]))
	_ = s.WriteDataPadded(1, true, []byte(texts[1][5:]), make([]byte, 3))
	s.streams[1], s.streams[3] = texts[1]+farewell, texts[3]+farewell
	return s.end()
}

// TestCutTunnelClients lets a client of HTTP/2 die at every byte of two tunnels, before a service of HTTP/1.1 and
// before one of HTTP/2. The service gets what was sent, in order, and can tell a cut from an end.
func TestCutTunnelClients(t *testing.T) {
	once(t)
	leavesNothing(t)
	var open atomic.Int64
	near, far := chain(t, func(c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		var text strings.Builder
		_, err := io.Copy(io.MultiWriter(&text, c), r)
		if whole := strings.HasSuffix(text.String(), "."); whole && err == nil {
			_, _ = io.WriteString(c, farewell)
		} else if err == nil && text.Len() > 0 { // empty: the client was gone before the tunnel was there
			t.Errorf("a tunnel that was cut after %q ended as if it were whole", text.String())
		}
	})
	for _, c := range []struct {
		name string
		g    *gateway
	}{{"to HTTP/1.1", near}, {"to HTTP/2", far}} { // whose connections the near one has open afterwards
		t.Run(c.name, func(t *testing.T) {
			g := c.g
			k := &clientCutter{t: t, g: g, lives: func() error { return tunnelLives(g.address) }}
			k.cutEverywhere(tunnelSpeech(c.name))
			waittest.Until(t, "the end of connections of clients", func() bool { return g.two.Active() == 0 && g.server.Active() == 0 })
			waittest.Until(t, "the end of tunnels", func() bool { return open.Load() == 0 && g.counters.Upgrades().Active() == 0 })
			t.Logf("%d connections were cut", k.cuts.Load())
		})
	}
}

// tunnelLives talks through a tunnel over HTTP/1.1 and returns what is wrong with what comes back.
func tunnelLives(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(waittest.Deadline())
	text := fmt.Sprintf("%06d I live.", number.Add(1)+500_000)
	_, _ = io.WriteString(c, "GET /x HTTP/1.1\r\nHost: a\r\n"+upgradeLines+"\r\n"+text)
	_ = c.(*net.TCPConn).CloseWrite()
	status, got, err := switched(c)
	if err != nil || status != 101 || got != text+farewell {
		return fmt.Errorf("a client that lives got %d %q, %w instead of %q", status, got, err, text)
	}
	return nil
}

// switched reads the response to an upgrade, and everything after it.
func switched(c io.Reader) (int, string, error) {
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, "", err
	}
	if res.StatusCode != 101 {
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		return res.StatusCode, string(text), err
	}
	text, err := io.ReadAll(r)
	return 101, string(text), err
}

// tunnelEnd is a service of HTTP/2 that takes one tunnel on each connection, and dies where the plan says.
type tunnelEnd struct {
	plan atomic.Pointer[cut]
	open atomic.Int64
}

// tunnelAnswer returns what it says.
func tunnelAnswer() *recorded {
	r := record()
	_ = r.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1})
	r.mark("settings")
	_ = r.WriteSettingsAck()
	_ = r.WriteGoAway(1, xhttp2.ErrCodeNo, nil) // the next request is not to go on this connection
	r.head(1, false, ":status", "200")
	r.mark("head")
	_ = r.WriteData(1, false, []byte("one "))
	r.mark("one ")
	_ = r.WriteData(1, false, []byte("two "))
	r.mark("one two ")
	_ = r.WriteData(1, true, []byte("three"))
	r.mark("one two three")
	return r
}

func (s *tunnelEnd) serve(_ int, nc net.Conn, r *bufio.Reader) {
	s.open.Add(1)
	defer s.open.Add(-1)
	_ = nc.SetDeadline(waittest.Deadline())
	in, err := newRequests(r)
	if err != nil {
		return
	}
	plan, said := s.plan.Load(), tunnelAnswer()
	first := min(plan.offset, said.marks["settings"])
	_, _ = nc.Write(said.b.Bytes()[:first])
	if plan.offset > first {
		if !in.opened() {
			return
		}
		_, _ = nc.Write(said.b.Bytes()[first:plan.offset])
	}
	if !plan.reset {
		_ = nc.(*net.TCPConn).CloseWrite()
		for in.next() != nil {
		}
	}
	plan.die(nc)
}

// TestCutTunnelServices lets a service of HTTP/2 die at every byte of what it sends through a tunnel, before clients of
// HTTP/1.1 and of HTTP/2. They get what was sent, in order, and can tell a cut from an end.
func TestCutTunnelServices(t *testing.T) {
	leavesNothing(t)
	s := &tunnelEnd{}
	address := scripted(t, s.serve)
	g := startWith(t, codec.DefaultLimits(), speaking("h2c", address, ""))
	said := tunnelAnswer()
	for _, reset := range []bool{false, true} {
		for offset := range offsets(said.b.Len(), 1, reset) {
			if t.Failed() {
				return
			}
			at := cut{serviceSends, offset, reset}
			s.plan.Store(&at)
			for name, ask := range map[string]func(string) (int, string, error){"HTTP/1.1": tunnel1, "HTTP/2": tunnel2} {
				status, text, err := ask(g.address)
				if err := judge(said, at, status, text, err); err != nil {
					t.Errorf("%s, cut at %+v: %v", name, at, err)
				}
			}
		}
	}
	waittest.Until(t, "the end of connections of clients", func() bool { return g.two.Active() == 0 && g.server.Active() == 0 })
	waittest.Until(t, "the end of tunnels", func() bool { return g.counters.Upgrades().Active() == 0 })
	g.end()
	waittest.Until(t, "the end of connections to the service", func() bool { return s.open.Load() == 0 })
}

// judge returns what is wrong with what a client got of a tunnel.
func judge(said *recorded, at cut, status int, text string, err error) error {
	const all = "one two three"
	got := fmt.Errorf("got %d %q, %w", status, text, err)
	switch {
	case status == 502 && (at.offset < said.marks["head"] || at.reset):
		return nil
	case status != 200 && status != 101, !strings.HasPrefix(all, text):
		return got
	case at.offset >= said.marks[all]:
		// The end of the connection cuts the client's direction, which may overtake the last bytes of the other one.
		if err == nil && text != all {
			return got
		}
	case err == nil:
		return fmt.Errorf("a cut looks like an end: %w", got)
	case at.offset < said.marks["head"]:
		return got
	}
	return nil
}

// tunnel1 opens a tunnel over HTTP/1.1 and reads to its end.
func tunnel1(address string) (int, string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "GET /x HTTP/1.1\r\nHost: a\r\n"+upgradeLines+"\r\n")
	return switched(c)
}

// tunnel2 does the same over HTTP/2, and ends its own direction at once.
func tunnel2(address string) (int, string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(waittest.Deadline())
	s := begin("one tunnel")
	s.ask(1, "CONNECT", 1, false, "", ":protocol", "websocket", "sec-websocket-version", "13")
	_ = s.WriteData(1, true, nil)
	s.streams[1] = "one two three"
	_, _ = c.Write(s.end().said)
	h, err := s.hear(c)
	switch {
	case h.status[1] == "502":
		return 502, "", nil
	case h.status[1] != "200" || err != nil:
		return 0, h.status[1], err
	case h.broken[1]:
		return 200, string(h.bodies[1]), errors.New("the stream is reset")
	case !h.over[1]:
		return 0, string(h.bodies[1]), errors.New("the connection is over")
	}
	return 200, string(h.bodies[1]), nil
}
