package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// tunnels returns the configuration of a service that clients may tunnel to and send requests to, with settings of the
// service and of the policy.
func tunnels(address, service, policy string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`services: [{name: s, endpoints: [{host: %s, port: %s}]%s}]
routes: [{name: tunnels, path: /*, methods: [CONNECT], hosts: [db.example], service_id: s, policy_id: t}, {name: all, path: /*, service_id: s}]
policies: [{name: t, upgrades: [connect]%s}]
`, host, port, service, policy)
}

// nowhere is what clients ask for a tunnel to: a name that leads nowhere.
const nowhere = "db.example:5432"

// dug is a client's end of what a CONNECT was answered with.
type dug struct {
	io.Writer
	io.Reader
	res *http.Response
	end func() // sends nothing more
	cut func()
}

// versions are those of HTTP in which tests CONNECT, on a connection of their own each time.
var versions = map[string]func(t *testing.T, address, target string) *dug{"HTTP/1.1": digHTTP1, "HTTP/2": digHTTP2}

func digHTTP1(t *testing.T, address, target string) *dug {
	t.Helper()
	return digBy(t, address, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
}

func digBy(t *testing.T, address, text string) *dug {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := nc.(*net.TCPConn)
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"})
	if err != nil {
		t.Fatal(err)
	}
	d := &dug{Writer: c, Reader: r, res: res, end: func() { _ = c.CloseWrite() }, cut: func() { _ = c.SetLinger(0); _ = c.Close() }}
	if res.StatusCode != 200 {
		d.Reader = res.Body
	}
	return d
}

func digHTTP2(t *testing.T, address, target string) *dug {
	t.Helper()
	transport := &xhttp2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	t.Cleanup(cancel)
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	req, err := http.NewRequestWithContext(ctx, "CONNECT", "http://"+target, r)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return &dug{Writer: w, Reader: res.Body, res: res, end: func() { _ = w.Close() }, cut: func() { _ = w.CloseWithError(errors.New("the client breaks off")) }}
}

// refused returns the status of a refusal with the gateway's code, which is checked to be one.
func (d *dug) refused(t *testing.T) string {
	t.Helper()
	text, err := io.ReadAll(d.Reader)
	_, code, there := strings.Cut(string(text), `{"success":false,"error":{"code":"`)
	if err != nil || !there {
		t.Errorf("%d %s, %v", d.res.StatusCode, text, err)
		return ""
	}
	code, _, _ = strings.Cut(code, `"`)
	return fmt.Sprint(d.res.StatusCode, " ", code)
}

// sendBack sends back what comes, and a last word when the client is through.
func sendBack(_ int, c net.Conn, r *bufio.Reader) {
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.Copy(c, r)
	_, _ = io.WriteString(c, "last")
}

// The bytes go to the route's service, whatever the client has named, and both ways at once; the client's end is passed
// on.
func TestConnect(t *testing.T) {
	buffers := socket.InUse.Load()
	_, certificate := withCertificate(t)
	for protocol, service := range map[string]string{"http": "", "h2c": "", "https": ", tls: {insecure_skip_verify: true}"} {
		address := scripted(t, func(n int, c net.Conn, r *bufio.Reader) {
			if protocol == "https" {
				secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"mine"}})
				defer func() { _ = secure.Close() }()
				c, r = secure, bufio.NewReader(secure)
			}
			sendBack(n, c, r)
		})
		g := startWith(t, codec.DefaultLimits(),
			tunnels(address, ", protocol: "+protocol+service, ", timeout: 2s, max_request_bytes: 1"))
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		for version, dig := range versions {
			t.Run(version+" to "+protocol, func(t *testing.T) {
				d := dig(t, g.address, nowhere)
				if d.res.StatusCode != 200 || d.res.Header.Get("Date") == "" || d.res.Header.Get("X-Request-Id") == "" || len(d.res.Header) != 2 || len(d.res.TransferEncoding) > 0 {
					t.Fatalf("%d %v", d.res.StatusCode, d.res.Header)
				}
				go func() {
					_, _ = d.Write(payload)
					d.end()
				}()
				if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, append(bytes.Clone(payload), "last"...)) {
					t.Errorf("%d bytes came back of %d, %v", len(got), len(payload), err)
				}
			})
		}
		g.none(1 << 20)
		g.logs(`"method":"CONNECT","host":"db.example:5432"`)
		g.logs(`"status":200`)
		g.logs(fmt.Sprintf(`"bytes_received":%d`, len(payload)))
	}
	waittest.Until(t, "the end of buffers", func() bool { return socket.InUse.Load() <= buffers+waiting })
}

func withCertificate(t *testing.T) (*authority, tls.Certificate) {
	ca := newAuthority(t)
	_, _, pair := ca.issue("127.0.0.1")
	return ca, pair
}

// What the client sends together with its request is for the service, and the service may speak, and end, first.
func TestConnectServiceEndsFirst(t *testing.T) {
	got := make(chan string, 1)
	address := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, "hello")
		_ = c.(*net.TCPConn).CloseWrite()
		all, err := io.ReadAll(r)
		got <- fmt.Sprintf("%s, %v", all, err)
	})
	g := startWith(t, codec.DefaultLimits(), tunnels(address, "", ""))
	early := func(t *testing.T, address, target string) *dug {
		return digBy(t, address, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\nearly ")
	}
	for version, dig := range map[string]func(t *testing.T, address, target string) *dug{"HTTP/1.1": early, "HTTP/2": digHTTP2} {
		d := dig(t, g.address, nowhere)
		if all, err := io.ReadAll(d); string(all) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", version, all, err)
		}
		_, _ = io.WriteString(d, "and goodbye")
		d.end()
		want := "and goodbye, <nil>"
		if version == "HTTP/1.1" {
			want = "early " + want
		}
		if s := <-got; s != want {
			t.Errorf("%s: the service got %q", version, s)
		}
	}
	g.none(1 << 20)
}

// A tunnel in which nothing moves is cut; one end that breaks off cuts the other one.
func TestConnectIsCut(t *testing.T) {
	ended := make(chan error, 1)
	address := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		line, err := r.ReadString('\n')
		if line == "die\n" {
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		}
		if err == nil {
			_, _ = io.WriteString(c, line)
			_, err = r.ReadByte()
		}
		ended <- err
	})
	idle := startWith(t, codec.DefaultLimits(), tunnels(address, "", ", stream_idle_timeout: 150ms"))
	long := startWith(t, codec.DefaultLimits(), tunnels(address, "", ""))
	for version, dig := range versions {
		t.Run(version, func(t *testing.T) {
			d := dig(t, idle.address, nowhere)
			if all, err := io.ReadAll(d); len(all) > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("nothing moves: %q, %v", all, err)
			}
			if err := <-ended; err == nil || err == io.EOF {
				t.Errorf("nothing moves, and the service sees %v", err)
			}
			idle.logs(`"code":"UPSTREAM_TIMEOUT"`)
			d = dig(t, long.address, nowhere)
			_, _ = io.WriteString(d, "die\n")
			if all, err := io.ReadAll(d); err == nil {
				t.Errorf("the service dies: %q", all)
			}
			d = dig(t, long.address, nowhere)
			_, _ = io.WriteString(d, "hello\n")
			if line, err := bufio.NewReader(d).ReadString('\n'); line != "hello\n" {
				t.Errorf("%q, %v", line, err)
			}
			d.cut()
			if err := <-ended; err == nil || err == io.EOF {
				t.Errorf("the client breaks off, and the service sees %v", err)
			}
		})
	}
	idle.none(1 << 20)
	long.none(1 << 20)
}

// Who is not let through hears so before there is a tunnel, and nothing that follows on the connection is a request.
func TestConnectRefused(t *testing.T) {
	address := scripted(t, sendBack)
	const all = "routes: [{name: r, path: /*, methods: [CONNECT], %s}]\npolicies: [{name: p, upgrades: [connect]}, {name: w, upgrades: [websocket]}]\n"
	service := func(text string) string {
		return fmt.Sprintf(all, "service_id: s, policy_id: p") + "services: [{name: s, " + text + "}]\n"
	}
	for name, c := range map[string]struct{ config, want string }{
		"nothing said":           {to(address, ""), "501 NOT_IMPLEMENTED"},
		"allowed, but not named": {to(address, ", upgrades: [connect]"), "501 NOT_IMPLEMENTED"},
		"named, but not allowed": {strings.Replace(to(address, ""), "path: /*,", "path: /*, methods: [CONNECT],", 1), "501 NOT_IMPLEMENTED"},
		"another protocol":       {strings.Replace(service("endpoints: []"), "policy_id: p", "policy_id: w", 1), "501 NOT_IMPLEMENTED"},
		"another host":           {strings.Replace(tunnels(address, "", ""), "db.example", "other.example", 1), "501 NOT_IMPLEMENTED"},
		"no routes":              {"routes: []\n", "501 NOT_IMPLEMENTED"},
		"no endpoints":           {service("endpoints: []"), "503 NO_HEALTHY_ENDPOINTS"},
		"a dead endpoint":        {service("endpoints: [{host: 127.0.0.1, port: 1}]"), "502 UPSTREAM_UNAVAILABLE"},
		"a 200 of its own":       {fmt.Sprintf(all, "direct_response: {status: 200}, policy_id: p"), "501 NOT_IMPLEMENTED"},
	} {
		t.Run(name, func(t *testing.T) {
			g := startWith(t, codec.DefaultLimits(), c.config)
			for version, dig := range versions {
				if got := dig(t, g.address, nowhere).refused(t); got != c.want {
					t.Errorf("%s: %s", version, got)
				}
			}
			d := digBy(t, g.address, "CONNECT "+nowhere+" HTTP/1.1\r\nHost: "+nowhere+"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
			if got := d.refused(t); got != c.want || !d.res.Close {
				t.Errorf("with what follows: %s, %v", got, d.res.Header)
			}
			if _, err := d.Writer.(net.Conn).Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("what follows is answered, or the answer lost: %v", err)
			}
			// What is still on its way for the other end of a tunnel does not take the answer away.
			d = digHTTP1(t, g.address, nowhere)
			_ = d.refused(t)
			for range 10 {
				if _, err := io.WriteString(d, "x"); err != nil {
					t.Errorf("the client is reset: %v", err)
				}
			}
			d.end()
			g.none(1 << 20)
		})
	}
	g := startWith(t, codec.DefaultLimits(), fmt.Sprintf(all, "direct_response: {status: 403, body: no}, policy_id: p"))
	for version, dig := range versions {
		d := dig(t, g.address, nowhere)
		if text, err := io.ReadAll(d); d.res.StatusCode != 403 || string(text) != "no" || err != nil {
			t.Errorf("%s: %d %q, %v", version, d.res.StatusCode, text, err)
		}
	}
}

// The word that stands for CONNECT is no protocol that anybody can go over to.
func TestConnectIsNoProtocol(t *testing.T) {
	g := start(t, to(echo(t), ", upgrades: [connect, websocket]"))
	res := g.raw("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: connect\r\n\r\n", "GET")[0]
	if text := body(t, res); res.StatusCode != 200 || text != "GET /a" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if s := extended(t, g.address, "connect"); s.res.StatusCode != 501 {
		t.Errorf("extended CONNECT: %d", s.res.StatusCode)
	}
}

// Tunnels count among an endpoint's connections for as long as they last; a request's idle connection makes room for
// one. They are balanced, and an endpoint that can't be reached is passed over.
func TestConnectLimits(t *testing.T) {
	address := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if first, _ := r.Peek(3); string(first) == "GET" {
			for readRequest(r) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			return
		}
		sendBack(0, c, r)
	})
	g := startWith(t, codec.DefaultLimits(),
		tunnels(address, ", connection_pool: {max_connections: 1, max_pending: 0}", ""))
	if res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; res.StatusCode != 200 {
		t.Fatalf("a request: %d", res.StatusCode)
	}
	for version, dig := range versions {
		first := dig(t, g.address, nowhere)
		waittest.Until(t, "the only connection to be given back by the exchange before", func() bool {
			if first.res.StatusCode != 200 {
				first = dig(t, g.address, nowhere)
			}
			return first.res.StatusCode == 200
		})
		if got := dig(t, g.address, nowhere).refused(t); got != "503 UPSTREAM_OVERLOADED" {
			t.Errorf("%s: one too many: %s", version, got)
		}
		first.end()
		if all, err := io.ReadAll(first); string(all) != "last" || err != nil {
			t.Errorf("%s: %q, %v", version, all, err)
		}
		g.none(1 << 20)
	}
	dead := startWith(t, codec.DefaultLimits(),
		tunnels("127.0.0.1:1", ", connection_pool: {max_connections: 1, max_pending: 0}", ""))
	for range 2 { // what could not be opened does not count
		if got := digHTTP1(t, dead.address, nowhere).refused(t); got != "502 UPSTREAM_UNAVAILABLE" {
			t.Errorf("a dead endpoint: %s", got)
		}
	}
	names := func(name string) string {
		return scripted(t, func(_ int, c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, name) })
	}
	a, b := names("a"), names("b")
	_, portA, _ := net.SplitHostPort(a)
	_, portB, _ := net.SplitHostPort(b)
	g = startWith(t, codec.DefaultLimits(),
		strings.Replace(tunnels(a, "", ""), "endpoints: [{host: 127.0.0.1, port: "+portA+"}]",
			"endpoints: [{host: 127.0.0.1, port: "+portA+"}, {host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: "+portB+"}]", 1))
	seen := map[string]int{}
	for range 6 {
		d := digHTTP1(t, g.address, nowhere)
		all, err := io.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(all)]++
		d.end()
	}
	if seen["a"] == 0 || seen["b"] == 0 || seen["a"]+seen["b"] != 6 {
		t.Errorf("the endpoints had %v", seen)
	}
}

// Tunnels go on while the node drains, until it is out of patience.
func TestConnectDrain(t *testing.T) {
	for version, dig := range versions {
		t.Run(version, func(t *testing.T) {
			g := startWith(t, codec.DefaultLimits(), tunnels(scripted(t, sendBack), "", ""))
			d := dig(t, g.address, nowhere)
			waittest.Until(t, "the connection was upgraded", func() bool { return g.counters.Upgrades().Active() == 1 })
			cut, drained := g.drain()
			g.apply("routes: []\n")
			part := make([]byte, 10)
			_, _ = io.WriteString(d, "still here")
			if _, err := io.ReadFull(d, part); err != nil || string(part) != "still here" {
				t.Errorf("%q, %v", part, err)
			}
			cut()
			if _, err := d.Read(part); err == nil {
				t.Error("it goes on for ever")
			}
			waittest.Receive(t, "the node is drained", drained)
			g.none(1 << 20)
		})
	}
}

// A tunnel may lead to a Unix socket.
func TestConnectToUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		served.Wait()
	})
	served.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer func() { _ = c.Close() }()
				sendBack(0, c, bufio.NewReader(c))
			})
		}
	})
	g := start(t, strings.Replace(tunnels("HOST:1", "", ""), "{host: HOST, port: 1}", "{host: \"unix:"+path+"\"}", 1))
	for version, dig := range versions {
		t.Run(version, func(t *testing.T) {
			d := dig(t, g.address, nowhere)
			if d.res.StatusCode != 200 {
				t.Fatal(d.refused(t))
			}
			if _, err := io.WriteString(d, "first"); err != nil {
				t.Fatal(err)
			}
			d.end()
			if got, err := io.ReadAll(d); err != nil || string(got) != "firstlast" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Over HTTP/2 a client may end its side together with the CONNECT: the service gets that end, and the client what the
// service has to say.
func TestConnectEndsAtOnce(t *testing.T) {
	g := start(t, tunnels(scripted(t, sendBack), "", ""))
	transport := &xhttp2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, g.address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	for range 2 { // the connection goes on after the first
		req, err := http.NewRequestWithContext(ctx, "CONNECT", "http://"+nowhere, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != 200 || string(got) != "last" {
			t.Errorf("%d %q, %v", res.StatusCode, got, err)
		}
	}
}
