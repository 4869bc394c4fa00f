package proxy

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

// halfCalls is a service of all forms of gRPC that does not bring its responses to their end. The path says what it
// sends, and how it ends. It says in Sends how many bytes it sends, text decoded, and resets nothing before the channel
// of the call that the request names is closed.
type halfCalls struct{ arrived *sync.Map }

func (h halfCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	one, three, status := frame(0, []byte("one")), frame(0, []byte("three")), frame(0x80, []byte("grpc-status: 5\r\n"))
	var body []byte
	bytes := 0
	switch sends {
	case "messages":
		body, bytes = append(encode(one), encode(three)...), len(one)+len(three)
	case "length":
		body, bytes = encode(one), len(one)
		w.Header().Set("Content-Length", fmt.Sprint(100+len(body)))
	case "part":
		body, bytes = encode(three[:6]), 6
	case "status":
		body, bytes = append(encode(one), encode(status)...), len(one)+len(status)
	}
	w.Header().Set("Sends", fmt.Sprint(bytes))
	_, _ = w.Write(body)
	w.(http.Flusher).Flush()
	if arrived, _ := h.arrived.Load(r.Header.Get("Call")); ends == "resets" {
		select {
		case <-arrived.(chan struct{}):
		case <-r.Context().Done():
		}
	}
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

// received is what a client has received of a call's response, text decoded.
type received struct {
	body []byte
	text string // what is not decoded yet
	err  error
}

// read reads on, until there are n bytes or the response has ended.
func (r *received) read(res *http.Response, mediaType string, n int) {
	buffer := make([]byte, 1000)
	for r.err == nil && len(r.body) < n {
		var got int
		got, r.err = res.Body.Read(buffer)
		if !strings.Contains(mediaType, "-text") {
			r.body = append(r.body, buffer[:got]...)
			continue
		}
		for r.text += string(buffer[:got]); len(r.text) >= 4; r.text = r.text[4:] {
			part, err := base64.StdEncoding.DecodeString(r.text[:4])
			if err != nil {
				r.err = err
			}
			r.body = append(r.body, part...)
		}
	}
}

// end returns how the client is told that the call has ended: the status, or why there is none.
func (r *received) end(res *http.Response, mediaType string) string {
	if r.err != io.EOF {
		return "broken off"
	}
	if !strings.Contains(mediaType, "-web") {
		return "status " + res.Trailer.Get("Grpc-Status")
	}
	for body := r.body; len(body) >= 5; {
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
	service := halfCalls{new(sync.Map)}
	two := newH2Server(t, nil, service)
	one := httptest.NewUnstartedServer(service)
	one.Config.ErrorLog = two.Config.ErrorLog
	one.Start()
	t.Cleanup(one.Close)
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
	g := startWith(t, codec.DefaultLimits(), config)
	for _, protocol := range []string{"h2c", "grpc"} {
		// net/http's server ends a connection whose settings it has not seen within two seconds, as where the machine is
		// busy, with all calls that it carries.
		connect(t, "http://"+g.address+"/"+protocol+"/nothing/")
	}
	status := func(code codes.Code) string { return fmt.Sprint("status ", int(code)) }
	unavailable, late, large := status(codes.Unavailable), status(codes.DeadlineExceeded), status(codes.ResourceExhausted)
	var calls sync.WaitGroup
	for version, transport := range transports() {
		for protocol := range services {
			for _, form := range []string{"grpc", "grpc-web", "grpc-web-text"} {
				mediaType := "application/" + form + "+proto"
				web := form != "grpc"
				for _, c := range []struct{ name, path, want string }{
					{"a reset after the head", "/nothing/resets", unavailable},
					{"a reset between messages", "/messages/resets", unavailable},
					{"a reset where a length was said", "/length/resets", unavailable},
					{"a reset within a message", "/part/resets", unavailable},
					{"a reset after the status", "/status/resets", "status 5"},
					{"the deadline after the head", "/nothing/stalls", late},
					{"the deadline between messages", "/messages/stalls", late},
					{"the deadline where a length was said", "/length/stalls", late},
					{"the deadline within a message", "/part/stalls", late},
					{"nothing moves", "/idle/messages/stalls", late},
					{"the request becomes too large", "/small/messages/reads", large},
				} {
					want := c.want
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
						url := "http://" + g.address + "/" + protocol + c.path
						h := halfCall{service.arrived, transport, url, mediaType, want == large}
						got := h.end(t, strings.HasPrefix(c.name, "the deadline"))
						if got != want {
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

// connect asks a service of halfCalls until it answers.
func connect(t *testing.T, url string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	waittest.UntilNil(t, "an answer to "+url, func() error {
		res, err := client.Post(url, "application/grpc", strings.NewReader(""))
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.Header.Get("Sends") == "" {
			return fmt.Errorf("%s, %v", res.Status, res.Header)
		}
		return nil
	})
}

// halfCall is a call of halfCalls. Its messages do not end.
type halfCall struct {
	arrived        *sync.Map
	transport      *http.Transport
	url, mediaType string
	tooLarge       bool // it sends a message once it has received all that the service sends
}

// end makes the call, and returns how the client is told that it has ended. Where that was before all had arrived that
// the service sends, which is right where a time was over, it makes the call again, with more time.
func (h *halfCall) end(t *testing.T, timed bool) string {
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	for timeout := 250 * time.Millisecond; ; timeout *= 2 {
		var limit string
		if timed {
			limit = fmt.Sprint(timeout.Milliseconds(), "m")
		}
		got, early := h.try(ctx, limit)
		if !early {
			return got
		}
		if want := fmt.Sprint("status ", int(codes.DeadlineExceeded)); got != want || ctx.Err() != nil {
			return got + " before all had arrived"
		}
	}
}

func (h *halfCall) try(ctx context.Context, timeout string) (end string, early bool) {
	id, arrived := rand.Text(), make(chan struct{})
	h.arrived.Store(id, arrived)
	tell := sync.OnceFunc(func() { close(arrived) })
	defer tell()
	body, client := io.Pipe()
	defer func() { _ = client.Close() }()
	req, err := http.NewRequestWithContext(ctx, "POST", h.url, body)
	if err != nil {
		return err.Error(), false
	}
	req.Header.Set("Content-Type", h.mediaType)
	req.Header.Set("Call", id)
	if timeout != "" {
		req.Header.Set("Grpc-Timeout", timeout)
	}
	res, err := h.transport.RoundTrip(req)
	if err != nil {
		return err.Error(), false
	}
	defer func() { _ = res.Body.Close() }()
	if status := res.Header.Get("Grpc-Status"); status != "" {
		return "status " + status, true
	}
	var r received
	sends, err := strconv.Atoi(res.Header.Get("Sends"))
	if err != nil {
		return err.Error(), false
	}
	r.read(res, h.mediaType, sends)
	early = r.err != nil || len(r.body) > 0 && r.body[0] != 0
	tell()
	if h.tooLarge {
		message := frame(0, []byte("more than 10 bytes"))
		if strings.Contains(h.mediaType, "-text") {
			message = []byte(base64.StdEncoding.EncodeToString(message))
		}
		_, _ = client.Write(message)
	}
	r.read(res, h.mediaType, math.MaxInt)
	return r.end(res, h.mediaType), early
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
	config := speaking("h2c", service.address, ", max_connections: 1")
	g := startWith(t, codec.DefaultLimits(), respondingWithin("5m", config))
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
