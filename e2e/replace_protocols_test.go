package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gateway.internal/shared/certtest"
	"gateway.internal/shared/waittest"
)

// managed is a node that is started as a service manager does it, at addresses of all kinds.
type managed struct {
	*process
	plain, secure, local, abstract, localSecure, status string // addresses
	pid                                                 int    // of the process that serves
	says                                                chan string
	roots                                               *x509.CertPool
}

func manage(t *testing.T) *managed {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &managed{
		plain: address(t), secure: address(t), local: filepath.Join(dir, "http"), localSecure: filepath.Join(dir, "https"), status: filepath.Join(dir, "status"),
		says: make(chan string, 16), roots: x509.NewCertPool(),
	}
	m.abstract = "@gateway-test-" + filepath.Base(dir)
	own := certtest.For(t, "localhost")
	m.roots.AddCert(own.Certificate)
	config, err := json.Marshal(map[string]any{
		"services": []any{
			map[string]any{"name": "one", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": service(t, "one")}}},
			map[string]any{"name": "echo", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": echoUpgraded(t)}}},
		},
		"routes":       []any{map[string]any{"name": "main", "path": "/main", "service_id": "one"}, map[string]any{"name": "ws", "path": "/ws", "service_id": "echo"}},
		"certificates": []any{certificateOf(own, "localhost", true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config", "gateway.json"), string(config))
	notify := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	go func() {
		for b := make([]byte, 1000); ; {
			n, err := manager.Read(b)
			if err != nil {
				return
			}
			m.says <- string(b[:n])
		}
	}()
	m.process = launch(t, bin(t, "dataplane"), []string{"NOTIFY_SOCKET=" + notify}, "--config", filepath.Join(dir, "config"),
		"--http-addr", m.plain+",unix:"+m.local+",unix:"+m.abstract, "--https-addr", m.secure+",unix:"+m.localSecure, "--status-addr", "unix:"+m.status,
		"--data-dir", filepath.Join(dir, "data"), "--drain-timeout", "1m")
	m.pid = m.cmd.Process.Pid
	m.tells("READY=1")
	return m
}

// tells waits for the next message to the service manager and returns what the expression catches in it.
func (m *managed) tells(what string) string {
	m.t.Helper()
	select {
	case got := <-m.says:
		if match := regexp.MustCompile("^" + what + "$").FindStringSubmatch(got); match != nil {
			return match[len(match)-1]
		}
		m.t.Fatalf("the service manager is told %q, not %q", got, what)
	case <-time.After(30 * time.Second):
		m.t.Fatalf("the service manager is not told %q", what)
	}
	return ""
}

// reload replaces the process that serves, as the service manager does.
func (m *managed) reload() {
	m.t.Helper()
	if err := syscall.Kill(m.pid, syscall.SIGUSR2); err != nil {
		m.t.Fatal(err)
	}
	m.tells(`RELOADING=1\nMONOTONIC_USEC=[1-9]\d*`)
	before := m.pid
	m.pid, _ = strconv.Atoi(m.tells(`MAINPID=(\d+)\nREADY=1`))
	m.tells("READY=1")
	waittest.UntilNil(m.t, "a line of the log", func() error {
		if !strings.Contains(m.logs(), fmt.Sprintf(`"the node is replaced by this process" process_before=%d `, before)) {
			return fmt.Errorf("%d was not replaced", before)
		}
		return nil
	})
}

// transport connects to an address, whatever is asked for; "/" and "@" begin those of Unix sockets.
func (m *managed) transport(address string, h2, kept bool) *http.Transport {
	network := "tcp"
	if address[0] == '/' || address[0] == '@' {
		network = "unix"
	}
	x := &http.Transport{
		MaxIdleConnsPerHost: 16, DisableKeepAlives: !kept, Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: m.roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	x.Protocols.SetHTTP1(!h2)
	x.Protocols.SetHTTP2(h2)
	return x
}

// question is asked by POST, which Go's client does not repeat over HTTP/1.1 when its body is of a type that can't be
// read again: each one that the node does not answer is seen. Over HTTP/2 the client has to be able to: it repeats what
// it has not sent yet when it hears that the connection is to end (GOAWAY), and nothing else that the node may have
// got.
func question(url string, h2 bool) func() (*http.Request, error) {
	return func() (*http.Request, error) {
		var body io.Reader = strings.NewReader("question")
		if !h2 {
			body = struct{ io.Reader }{body}
		}
		return http.NewRequest(http.MethodPost, url, body)
	}
}

// resumed connects with the tickets that it has, takes what it gets, and reports whether a session was resumed.
func (m *managed) resumed(tickets tls.ClientSessionCache, version uint16) (bool, error) {
	c, err := tls.Dial("tcp", m.secure, &tls.Config{RootCAs: m.roots, ServerName: "localhost", ClientSessionCache: tickets, MinVersion: version, MaxVersion: version})
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "GET /main HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if res, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(res), "one") {
		return false, fmt.Errorf("%q, %w", res, err)
	}
	return c.ConnectionState().DidResume, nil
}

// webSocket opens a connection whose bytes come back, and returns what checks that.
func webSocket(t *testing.T, c net.Conn) (echoes func(string)) {
	t.Helper()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(c)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v, %v", res, err)
	}
	return func(when string) {
		t.Helper()
		_, _ = io.WriteString(c, when+"\n")
		if line, err := r.ReadString('\n'); err != nil || line != when+"\n" {
			t.Errorf("%s: %q, %v", when, line, err)
		}
	}
}

// TestReplacingByProtocol replaces a process three times under load on all kinds of addresses, over all protocols: no
// request fails, TLS sessions are resumed by processes that did not begin them, WebSockets last, and the service
// manager is told what it has to know.
func TestReplacingByProtocol(t *testing.T) {
	m := manage(t)
	first := m.cmd.Process
	stop := make(chan struct{})
	loads := map[string]*load{}
	for name, x := range map[string]struct {
		address  string
		tls, h2  bool
		kept     bool
		workers  int
		requests int // a second
	}{
		"HTTP/1.1 on kept connections over TLS":                  {m.secure, true, false, true, 4, 60},
		"HTTP/1.1 on new connections over TLS":                   {m.secure, true, false, false, 4, 40},
		"HTTP/2 over TLS":                                        {m.secure, true, true, true, 16, 160},
		"HTTP/2 on new connections over TLS":                     {m.secure, true, true, false, 2, 20},
		"kept connections to a Unix socket":                      {m.local, false, false, true, 4, 60},
		"new connections to a Unix socket":                       {m.local, false, false, false, 4, 60},
		"HTTP/2 over TLS to a Unix socket":                       {m.localSecure, true, true, true, 4, 40},
		"kept connections to a socket in the abstract namespace": {m.abstract, false, false, true, 4, 60},
		"new connections to a socket in the abstract namespace":  {m.abstract, false, false, false, 4, 60},
	} {
		url := "http://localhost/main"
		if x.tls {
			url = "https://localhost/main"
		}
		loads[name] = startBy(m.transport(x.address, x.h2, x.kept), question(url, x.h2), x.workers, x.requests, stop)
	}
	plain, err := net.Dial("tcp", m.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	secure, err := tls.Dial("tcp", m.secure, &tls.Config{RootCAs: m.roots, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	sockets := []func(string){webSocket(t, plain), webSocket(t, secure)}

	tickets := map[uint16]tls.ClientSessionCache{tls.VersionTLS12: tls.NewLRUClientSessionCache(1), tls.VersionTLS13: tls.NewLRUClientSessionCache(1)}
	for i := range 4 {
		if i > 0 {
			m.reload()
		}
		for v, cache := range tickets {
			if resumed, err := m.resumed(cache, v); err != nil || resumed != (i > 0) {
				t.Errorf("after %d replacements %s is resumed: %t, %v", i, tls.VersionName(v), resumed, err)
			}
		}
		for _, echoes := range sockets {
			echoes(fmt.Sprintf("after %d replacements", i))
		}
		for _, l := range loads {
			l.goesOn(t, 10)
		}
	}
	if err := first.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the first process did not wait for its WebSockets: %v", err)
	}
	_, _ = plain.Close(), secure.Close()
	if state, err := first.Wait(); err != nil || state.ExitCode() != 0 {
		t.Errorf("the first process ended with %v, %v", state, err)
	}
	close(stop)
	for name, l := range loads {
		l.check(t, name, 40)
	}

	if err := syscall.Kill(m.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.tells("STOPPING=1")
	waittest.UntilNil(t, "the end of the last process", func() error {
		for _, path := range []string{m.local, m.localSecure, m.status} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is left: %v", path, err)
			}
		}
		return nil
	})
}
