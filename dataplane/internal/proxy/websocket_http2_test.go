package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// opened is a client's end of a stream that was opened by extended CONNECT.
type opened struct {
	*io.PipeWriter
	res *http.Response
}

// extended opens a stream for a protocol.
func extended(t *testing.T, address, protocol string) *opened {
	t.Helper()
	transport := &xhttp2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	t.Cleanup(cancel)
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	req, err := http.NewRequestWithContext(ctx, "CONNECT", "http://"+address+"/x", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(":protocol", protocol)
	req.Header.Set("Sec-WebSocket-Version", "13")
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return &opened{w, res}
}

// chain returns the address of a service of raw WebSocket connections, and those of two gateways: one before it, and
// one before that one, which speaks HTTP/2 to it.
func chain(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (near, far *gateway) {
	service := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_ = c.SetDeadline(waittest.Deadline())
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != "GET" || req.Header.Get("Upgrade") != "websocket" || len(req.Header.Values("Sec-WebSocket-Key")) != 1 {
			return
		}
		switching(c, req)
		serve(c, r)
	})
	near = startWith(t, codec.DefaultLimits(), to(service, ""))
	far = startWith(t, codec.DefaultLimits(), speaking("h2c", near.address, ""))
	return near, far
}

func TestWebSocketThroughHTTP2(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echoMessages))
	defer plain.Close()
	buffers := socket.InUse.Load()
	near := startWith(t, codec.DefaultLimits(), to(plain.Listener.Addr().String(), ""))
	far := startWith(t, codec.DefaultLimits(), speaking("h2c", near.address, ""))
	talk(t, dialWebSocket(t, "ws://"+far.address, nil))
	near.none(buffers + 1) // the connection between the two waits for frames
	far.none(buffers + 1)
	far.logs(`"status":101`)
	near.logs(`"status":200`)
}

// What many windows hold goes both ways at once, and each side's end is passed on.
func TestExtendedConnect(t *testing.T) {
	near, far := chain(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = io.Copy(c, r)
		_, _ = io.WriteString(c, "last")
	})
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	for name, address := range map[string]string{"to HTTP/1.1": near.address, "to HTTP/2": far.address} {
		t.Run(name, func(t *testing.T) {
			s := extended(t, address, "websocket")
			if s.res.StatusCode != 200 || s.res.Header.Get("Sec-WebSocket-Accept") != "" || s.res.Header.Get("Upgrade") != "" {
				t.Errorf("%d %v", s.res.StatusCode, s.res.Header)
			}
			go func() {
				_, _ = s.Write(payload)
				_ = s.Close()
			}()
			got, err := io.ReadAll(s.res.Body)
			if err != nil || !bytes.Equal(got, append(bytes.Clone(payload), "last"...)) {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(payload), err)
			}
		})
	}
	near.none(1 << 20)
	far.none(1 << 20)
}

// A side that breaks off ends the other one, in a way that can be told from an end.
func TestExtendedConnectBreaksOff(t *testing.T) {
	ended := make(chan error, 1)
	near, far := chain(t, func(c net.Conn, r *bufio.Reader) {
		line, _ := r.ReadString('\n')
		if line == "die\n" {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
			return
		}
		_, _ = io.WriteString(c, line)
		_, err := r.ReadByte()
		ended <- err
	})
	for name, address := range map[string]string{"to HTTP/1.1": near.address, "to HTTP/2": far.address} {
		t.Run(name, func(t *testing.T) {
			s := extended(t, address, "websocket")
			_, _ = io.WriteString(s, "die\n")
			var reset xhttp2.StreamError
			if _, err := io.ReadAll(s.res.Body); !errors.As(err, &reset) || reset.Code != xhttp2.ErrCodeCancel {
				t.Errorf("the service dies: %v", err)
			}
			s = extended(t, address, "websocket")
			_, _ = io.WriteString(s, "hello\n")
			if line, err := bufio.NewReader(s.res.Body).ReadString('\n'); line != "hello\n" {
				t.Errorf("%q, %v", line, err)
			}
			_ = s.CloseWithError(errors.New("the client breaks off"))
			if err := <-ended; err == nil || err == io.EOF {
				t.Errorf("the client breaks off, and the service sees %v", err)
			}
		})
	}
	near.none(1 << 20)
	far.none(1 << 20)
}

func TestExtendedConnectRefused(t *testing.T) {
	g := start(t, to(echo(t), ", upgrades: [websocket, other]"))
	for protocol, status := range map[string]int{"other": 501, "connect-udp": 501, "websocket": 502} {
		s := extended(t, g.address, protocol)
		if text, err := io.ReadAll(s.res.Body); err != nil || s.res.StatusCode != status || !strings.Contains(string(text), `{"success":false`) {
			t.Errorf("%s: %d %s, %v", protocol, s.res.StatusCode, text, err)
		}
	}
	none := start(t, to(echo(t), ", upgrades: [none]"))
	if s := extended(t, none.address, "websocket"); s.res.StatusCode != 501 {
		t.Errorf("not allowed: %d", s.res.StatusCode)
	}
	// A service that does not say that it takes such streams is not sent one.
	server := newH2Server(t, nil, http.HandlerFunc(tellAll))
	old := start(t, speaking("h2c", server.address, ""))
	if res := old.raw("GET /a HTTP/1.1\r\nHost: a\r\n"+upgradeLines+"\r\n", "GET")[0]; res.StatusCode != 502 {
		t.Errorf("of a service without extended CONNECT: %d", res.StatusCode)
	}
}
