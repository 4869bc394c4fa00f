package admin

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"gateway.internal/shared/waittest"
)

// TestHealthIsWatchedByThoseWhoAreKnown: anybody may ask once, which is over at once.
func TestHealthIsWatchedByThoseWhoAreKnown(t *testing.T) {
	a := newAPI(t)
	health := healthv1.NewHealthClient(a.dial())
	if r, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || r.GetStatus() !=
		healthv1.HealthCheckResponse_SERVING {
		t.Errorf("asking without a token: %v, %v", r, err)
	}
	watch := func(with string) error {
		stream, err := health.Watch(metadata.AppendToOutgoingContext(t.Context(), "authorization", with),
			&healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := watch("Bearer wrong"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("watching with a wrong token: %v", err)
	}
	if err := watch("Bearer " + token); err != nil {
		t.Errorf("watching with a token: %v", err)
	}
}

// TestStreamsEndWithTheirToken: what goes on for as long as its caller likes ends when the token is revoked, whether it
// waits to be asked or to say something.
func TestStreamsEndWithTheirToken(t *testing.T) {
	a := newAPI(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization",
		"Bearer "+a.tokenFor(`{"name":"watcher","role":"viewer"}`))
	conn := a.dial()
	watch, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	asks, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}
	if err := asks.Send(list); err != nil {
		t.Fatal(err)
	}
	if _, err := asks.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	a.must("DELETE", "/api/v1/tokens/watcher", "")
	for name, receive := range map[string]func() error{
		"watching": func() error { _, err := watch.Recv(); return err },
		"asking":   func() error { _, err := asks.Recv(); return err },
	} {
		ended := make(chan error, 1)
		go func() { ended <- receive() }()
		select {
		case err := <-ended:
			if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(waittest.Limit):
			t.Fatalf("%s goes on with a token that was revoked", name)
		}
	}
}

// TestCallsOfAConnectionAreBounded: clients are told how many they may have (RFC 9113 section 6.5.2).
func TestCallsOfAConnectionAreBounded(t *testing.T) {
	a := newAPI(t)
	conn, err := net.Dial("tcp", a.grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(waittest.Limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, is := f.(*http2.SettingsFrame)
		if !is || settings.IsAck() {
			continue
		}
		for id, want := range map[http2.SettingID]uint32{
			http2.SettingMaxConcurrentStreams: maxStreams, http2.SettingMaxHeaderListSize: maxHeaderBytes,
		} {
			if n, there := settings.Value(id); !there || n != want {
				t.Errorf("%s is %d, want %d", id, n, want)
			}
		}
		return
	}
}

func TestClientsBehindProxies(t *testing.T) {
	proxies, err := ParseProxies([]string{"10.0.0.0/8", "2001:db8::1", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"a proxy's word", "10.0.0.1", []string{"192.0.2.7"}, "192.0.2.7"},
		{"nobody's word", "192.0.2.1", []string{"192.0.2.7"}, "192.0.2.1"},
		{"nothing said", "10.0.0.1", nil, "10.0.0.1"},
		{"what the client has written", "10.0.0.1", []string{"203.0.113.9, 192.0.2.7"}, "192.0.2.7"},
		{"in fields of its own", "10.0.0.1", []string{"203.0.113.9", "192.0.2.7"}, "192.0.2.7"},
		{"several proxies", "10.0.0.1", []string{"203.0.113.9, 192.0.2.7, 10.0.0.2", "10.0.0.3"}, "192.0.2.7"},
		{"proxies alone", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"what can't be read", "10.0.0.1", []string{"192.0.2.7, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"an empty field", "10.0.0.1", []string{""}, "10.0.0.1"},
		{"with a port", "10.0.0.1", []string{"192.0.2.7:4711"}, "192.0.2.7"},
		{"IPv6", "2001:db8::1", []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		{"IPv6 in brackets", "2001:db8::1", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv4 in IPv6", "::ffff:10.0.0.1", []string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		{"too many", "10.0.0.1", []string{"192.0.2.7" + strings.Repeat(", 10.0.0.2", 100)}, "10.0.0.2"},
	} {
		if got := proxies.client(c.remote, c.forwarded); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	var none *Proxies
	if got := none.client("10.0.0.1", []string{"192.0.2.7"}); got != "10.0.0.1" {
		t.Errorf("without proxies: %s", got)
	}
	if _, err := ParseProxies([]string{"10.0.0.0/33"}); err == nil || !strings.Contains(err.Error(), "10.0.0.0/33") {
		t.Errorf("a wrong prefix: %v", err)
	}
}

// TestGuessersBehindAProxy wait by themselves, over REST and gRPC, and are audited by their own address.
func TestGuessersBehindAProxy(t *testing.T) {
	a := newAPI(t)
	proxies, err := ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	a.server.Behind(proxies)
	guess := func(from string) int {
		return a.call("GET", "/api/v1/config/routes", "", "Authorization", "Bearer guess", "X-Forwarded-For", from).status
	}
	for range 11 {
		guess("192.0.2.7")
	}
	if got := guess("203.0.113.9, 192.0.2.7"); got != http.StatusTooManyRequests {
		t.Errorf("who has guessed before: %d", got)
	}
	if got := guess("192.0.2.8"); got != http.StatusUnauthorized {
		t.Errorf("another one behind the same proxy: %d", got)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer guess", "x-forwarded-for", "192.0.2.7")
	stream, err := healthv1.NewHealthClient(a.dial()).Watch(ctx, &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if d, ok := errorOf(err); !ok || d.GetCode() != "RATE_LIMIT_EXCEEDED" {
		t.Errorf("the same over gRPC: %v", err)
	}
	a.must("POST", "/api/v1/config/apply", all, "X-Forwarded-For", "192.0.2.9")
	r := a.must("GET", "/api/v1/audit?address=192.0.2.9&outcome=done", "")
	if n := len(r.Data.([]any)); n != 1 {
		t.Errorf("%d entries of the client's address: %s", n, r.raw)
	}
}
