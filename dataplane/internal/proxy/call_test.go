package proxy

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/shared/waittest"
)

// halfCalls is a service of all forms of gRPC that does not bring its responses to their end. The path says what it
// sends, and how it ends.
type halfCalls struct{}

func (halfCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex()
	mediaType := r.Header.Get("Content-Type")
	encode := func(b []byte) []byte {
		if strings.Contains(mediaType, "-text") {
			return []byte(base64.StdEncoding.EncodeToString(b))
		}
		return b
	}
	w.Header().Set("Content-Type", mediaType)
	_, how, _ := strings.Cut(r.URL.Path[1:], "/")
	sends, ends, _ := strings.Cut(how, "/")
	var body []byte
	switch sends {
	case "messages":
		body = append(encode(frame(0, []byte("one"))), encode(frame(0, []byte("three")))...)
	case "length":
		body = encode(frame(0, []byte("one")))
		w.Header().Set("Content-Length", fmt.Sprint(100+len(body)))
	case "part":
		body = encode(frame(0, []byte("three")))
		body = body[:len(body)-4]
	case "status":
		body = append(encode(frame(0, []byte("one"))), encode(frame(0x80, []byte("grpc-status: 5\r\n")))...)
	}
	_, _ = w.Write(body)
	w.(http.Flusher).Flush()
	if r.ProtoMajor == 1 { // net/http would wait for the request's end
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		if ends != "resets" {
			_, _ = io.Copy(io.Discard, conn)
		}
		_ = conn.Close()
		return
	}
	switch ends {
	case "resets":
		panic(http.ErrAbortHandler)
	case "stalls":
		<-r.Context().Done()
	case "reads":
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
}

// endOfCall returns how a client is told that a call has ended: the status, or why there is none.
func endOfCall(res *http.Response, mediaType string) string {
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return "broken off"
	}
	if status := res.Header.Get("Grpc-Status"); status != "" {
		return "status " + status + " in the head"
	}
	if !strings.Contains(mediaType, "-web") {
		return "status " + res.Trailer.Get("Grpc-Status")
	}
	if strings.Contains(mediaType, "-text") {
		var all []byte
		for ; len(body) >= 4; body = body[4:] {
			part, err := base64.StdEncoding.DecodeString(string(body[:4]))
			if err != nil {
				return err.Error()
			}
			all = append(all, part...)
		}
		body = append(all, body...)
	}
	for len(body) >= 5 {
		flag, n := body[0], int(binary.BigEndian.Uint32(body[1:]))
		if n > len(body)-5 {
			return "within a message"
		}
		if flag&0x80 != 0 {
			_, after, _ := strings.Cut(string(body[5:5+n]), "grpc-status: ")
			status, _, _ := strings.Cut(after, "\r\n")
			if n += 5; n < len(body) {
				return "more after the status"
			}
			return "status " + status
		}
		body = body[5+n:]
	}
	return "no status"
}

// However a call ends once its response has begun, its client gets a status in its own form of gRPC; but for one of
// gRPC-Web within a message, where there is no place for it.
func TestEndsOfCalls(t *testing.T) {
	once(t)
	one := httptest.NewUnstartedServer(halfCalls{})
	one.Config.ErrorLog = newH2Server(t, nil, halfCalls{}).Config.ErrorLog
	one.Start()
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, halfCalls{})
	services := map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address, "grpc": two.address}
	config := "policies: [{name: idle, stream_idle_timeout: 300ms}, {name: small, max_request_bytes: 10}]\n"
	for protocol, address := range services {
		host, port, _ := net.SplitHostPort(address)
		config += strings.ReplaceAll(fmt.Sprintf(`---
services:
  - {name: P, protocol: P, endpoints: [{host: %s, port: %s}], connection_pool: {response_timeout: 1m, connect_timeout: 1m}}
routes:
  - {name: P, path: /P/*, service_id: P}
  - {name: P-idle, path: /P/idle/*, service_id: P, policy_id: idle, rewrite: {prefix: /P}}
  - {name: P-small, path: /P/small/*, service_id: P, policy_id: small, rewrite: {prefix: /P}}
`, host, port), "P", protocol)
	}
	g := startWith(t, http1.DefaultLimits(), config)
	status := func(code codes.Code) string { return fmt.Sprint("status ", int(code)) }
	unavailable, late, large := status(codes.Unavailable), status(codes.DeadlineExceeded), status(codes.ResourceExhausted)
	var calls sync.WaitGroup
	for version, transport := range transports() {
		for protocol := range services {
			for _, form := range []string{"grpc", "grpc-web", "grpc-web-text"} {
				mediaType := "application/" + form + "+proto"
				web := form != "grpc"
				for _, c := range []struct{ name, path, timeout, want string }{
					{"a reset after the head", "/nothing/resets", "", unavailable},
					{"a reset between messages", "/messages/resets", "", unavailable},
					{"a reset where a length was said", "/length/resets", "", unavailable},
					{"a reset within a message", "/part/resets", "", unavailable},
					{"a reset after the status", "/status/resets", "", "status 5"},
					{"the deadline after the head", "/nothing/stalls", "500m", late},
					{"the deadline between messages", "/messages/stalls", "500m", late},
					{"the deadline where a length was said", "/length/stalls", "500m", late},
					{"the deadline within a message", "/part/stalls", "500m", late},
					{"nothing moves", "/idle/messages/stalls", "", late},
					{"the request becomes too large", "/small/messages/reads", "", large},
				} {
					want, early := c.want, c.want
					if early == "status 5" {
						early = unavailable
					}
					switch {
					case web && strings.HasPrefix(c.path, "/part"):
						want = "broken off"
					case want != "status 5":
					case !web:
						want = unavailable // what it has sent is no status in this form
					case protocol == "grpc":
						continue // nor is it one in that which it was asked in
					}
					calls.Go(func() {
						got := ask(t, transport, "http://"+g.address+"/"+protocol+c.path, mediaType, c.timeout, want == large)
						if got != want && got != early+" in the head" { // where it ends before the head was passed on
							t.Errorf("%s: %s, HTTP/%d to a service of %s: %s, want %s", c.name, mediaType, version+1, protocol, got, want)
						}
					})
				}
			}
		}
		defer transport.CloseIdleConnections()
	}
	calls.Wait()
}

// ask makes a call whose messages do not end, and returns how the client is told that it has ended.
func ask(t *testing.T, transport *http.Transport, url, mediaType, timeout string, sends bool) string {
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	body, client := io.Pipe()
	defer func() { _ = client.Close() }()
	req, err := http.NewRequestWithContext(ctx, "POST", url, body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", mediaType)
	if timeout != "" {
		req.Header.Set("Grpc-Timeout", timeout)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	if sends {
		message := frame(0, []byte("more than 10 bytes"))
		if strings.Contains(mediaType, "-text") {
			message = []byte(base64.StdEncoding.EncodeToString(message))
		}
		_, _ = client.Write(message)
	}
	return endOfCall(res, mediaType)
}

// A service is told what is left of a caller's time once the call has a connection, not what there was before it
// waited for one.
func TestTimeOfACallThatHasWaited(t *testing.T) {
	once(t)
	release, told := make(chan struct{}), make(chan time.Duration, 9)
	one := &http.HTTP2Config{MaxConcurrentStreams: 1}
	service := newH2Server(t, one, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		req := exchange.Request{}
		req.Header.Add("grpc-timeout", r.Header.Get("Grpc-Timeout"))
		told <- req.RPCTimeout()
		<-release
	}))
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	g := startWith(t, http1.DefaultLimits(), respondingWithin("5m", speaking("h2c", service.address, ", max_connections: 1")))
	ask := func() {
		const fields = "Content-Type: application/grpc\r\nGrpc-Timeout: 60S\r\nContent-Length: 0\r\n"
		g.client().send("POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
	}
	ask() // tells how many streams there may be
	waittest.Receive(t, "the first call", told)
	release <- struct{}{}
	ask()
	waittest.Receive(t, "the call that the other one waits for", told)
	ask()
	g.pending(1)
	begun := time.Now()
	waittest.Until(t, "some time", func() bool { return time.Since(begun) > 5*time.Millisecond })
	waited := time.Since(begun)
	release <- struct{}{}
	if left := waittest.Receive(t, "the call that has waited", told); left <= 0 || left > time.Minute-waited {
		t.Errorf("after %s the service is told of %s", waited, left)
	}
	release <- struct{}{}
}
