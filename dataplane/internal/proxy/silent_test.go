package proxy

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"gateway.internal/shared/waittest"
)

// duplex is a client's end of a call in which both sides send when they like.
type duplex struct {
	t    *testing.T
	feed *io.PipeWriter
	res  *http.Response
}

// opens begins a call, whose first message is sent when first says so.
func (g *gateway) opens(t *testing.T, transport *http.Transport, first <-chan time.Time, fields ...string) *duplex {
	t.Helper()
	up, feed := io.Pipe()
	d := &duplex{t: t, feed: feed}
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+g.address+"/grpc.testing.TestService/FullDuplexCall", up)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	go func() {
		<-first
		d.says("first")
	}()
	if d.res, err = transport.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = feed.Close()
		_ = d.res.Body.Close()
		transport.CloseIdleConnections()
	})
	return d
}

// says sends a message, unless the call is over.
func (d *duplex) says(text string) {
	payload, err := proto.Marshal(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: []byte(text)}})
	if err != nil {
		d.t.Error(err)
	}
	_, _ = d.feed.Write(frame(0, payload))
}

// hears returns the next message that comes; at the end, the call's status.
func (d *duplex) hears() string {
	d.t.Helper()
	head := make([]byte, 5)
	if _, err := io.ReadFull(d.res.Body, head); err != nil {
		return "status " + d.res.Header.Get("Grpc-Status") + d.res.Trailer.Get("Grpc-Status")
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[1:]))
	var m testgrpc.StreamingOutputCallResponse
	if _, err := io.ReadFull(d.res.Body, payload); err != nil || proto.Unmarshal(payload, &m) != nil {
		d.t.Errorf("%q, %v", payload, err)
	}
	return string(m.GetPayload().GetBody())
}

// calls are the configuration of the service with what its policy says of streams.
func calls(t *testing.T, policy string) string {
	_, _, address := newRPCServer(t)
	config := strings.Replace(speaking("grpc", address, ""), "protocol: grpc,", "protocol: grpc, policy_id: p,", 1)
	return config + "policies: [{name: p" + policy + "}]\n"
}

// silence is longer than the time for more of a body, which is 300ms in these tests.
const silence = 500 * time.Millisecond

// A caller may be silent for longer than the time for more of a body, before the first message as well as later.
func TestSilentCall(t *testing.T) {
	g := startHasty(t, calls(t, ", stream_idle_timeout: 10m"))
	for version, transport := range transports() {
		d := g.opens(t, transport, time.After(silence)) // the service has nothing to say before
		if got := d.hears(); got != "first" {
			t.Fatalf("HTTP/%d: %q", version+1, got)
		}
		<-time.After(silence)
		d.says("second")
		if got := d.hears(); got != "second" {
			t.Fatalf("HTTP/%d: %q", version+1, got)
		}
		_ = d.feed.Close()
		if got := d.hears(); got != "status 0" {
			t.Errorf("HTTP/%d: %s", version+1, got)
		}
	}
}

// The same holds for any other request whose response has begun.
func TestSilentUpload(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		_, _ = io.Copy(w, r.Body)
	}))
	defer service.Close()
	g := startHasty(t, to(service.Listener.Addr().String(), ", stream_idle_timeout: 10m"))
	for version, transport := range transports() {
		up, feed := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.address+"/", up)
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(silence)
		_, _ = io.WriteString(feed, "late")
		_ = feed.Close()
		if text, err := io.ReadAll(res.Body); string(text) != "late" || err != nil {
			t.Errorf("HTTP/%d: %q, %v", version+1, text, err)
		}
		_ = res.Body.Close()
		transport.CloseIdleConnections()
	}
}

// A call in which nothing moves for too long ends, and so does one whose time is over, whatever its policy says of
// streams; one whose policy says nothing ends with the time for more of a body.
func TestSilentCallEnds(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		fields []string
	}{
		"nothing moves":             {", stream_idle_timeout: 400ms", nil},
		"the caller's time is over": {", stream_idle_timeout: 10m", []string{"Grpc-Timeout", "400m"}},
		"the policy's time is over": {", stream_idle_timeout: 10m, timeout: 400ms", nil},
		"no stream":                 {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startHasty(t, calls(t, c.policy))
			for version, transport := range transports() {
				for _, early := range []bool{true, false} {
					first := make(chan time.Time)
					if early {
						close(first)
					}
					begun := time.Now()
					d := g.opens(t, transport, first, c.fields...)
					got := d.hears()
					switch {
					case !early:
						close(first)
					case got == "first":
						got = d.hears() // on a slow machine the call's time may be over before it comes
					}
					if took := time.Since(begun); got == "status 0" || !strings.HasPrefix(got, "status ") || took < 250*time.Millisecond {
						t.Errorf("HTTP/%d, the first message sent %v: %s after %s", version+1, early, got, took)
					}
				}
			}
		})
	}
}
