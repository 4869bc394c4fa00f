package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	authv3 "gateway.internal/proto/gen/envoy/service/auth/v3"
	"gateway.internal/shared/waittest"
)

// grpcAuthorizer is a service of gRPC that decides by what a request's token says, as the one over HTTP does.
type grpcAuthorizer struct {
	address string
	asked   atomic.Int64
	last    atomic.Pointer[authv3.CheckRequest]
	begun   chan struct{}
	gone    chan time.Duration // with the time that it had
}

func newGRPCAuthorizer(t *testing.T) *grpcAuthorizer {
	t.Helper()
	a := &grpcAuthorizer{begun: make(chan struct{}, 9), gone: make(chan time.Duration, 9)}
	server := grpc.NewServer()
	check := func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		r := &authv3.CheckRequest{}
		if err := decode(r); err != nil {
			return nil, err
		}
		return srv.(*grpcAuthorizer).check(ctx, r)
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.auth.v3.Authorization", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: check}},
	}, a)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(server.Stop)
	a.address = ln.Addr().String()
	return a
}

func field(name, value string) *authv3.HeaderValueOption {
	return &authv3.HeaderValueOption{Header: &authv3.HeaderValue{Key: name, Value: value}}
}

func refusing(code int32, body string, fields ...*authv3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &authv3.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &authv3.HttpStatus{Code: code}, Headers: fields, Body: body,
		}},
	}
}

func passing(ok *authv3.OkHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &authv3.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

func (a *grpcAuthorizer) check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.asked.Add(1)
	a.last.Store(r)
	switch r.GetAttributes().GetRequest().GetHttp().GetHeaders()["authorization"] {
	case "good":
		more := field("x-user", "too")
		more.Append = wrapperspb.Bool(true)
		res := passing(&authv3.OkHttpResponse{
			Headers: []*authv3.HeaderValueOption{
				field("x-user", "ann"), more, field("host", "elsewhere"), field("content-length", "9"), field(":path", "/other"),
			},
			HeadersToRemove:         []string{"x-gone", "host"},
			ResponseHeadersToAdd:    []*authv3.HeaderValueOption{field("x-seen", "1"), field("x-request-id", "forged")},
			QueryParametersToSet:    []*authv3.QueryParameter{{Key: "c", Value: "e f"}},
			QueryParametersToRemove: []string{"secret"},
		})
		res.DynamicMetadata, _ = structpb.NewStruct(map[string]any{
			"user": "ann", "level": 3, "groups": []any{"staff", "admins"},
		})
		return res, nil
	case "bare":
		return &authv3.CheckResponse{}, nil
	case "bad":
		return refusing(401, "who are you?", field("www-authenticate", `Bearer realm="shop"`)), nil
	case "barely":
		return &authv3.CheckResponse{Status: &authv3.Status{Code: 7}}, nil
	case "login":
		return refusing(302, "", field("location", "/login")), nil
	case "cookie":
		return refusing(401, "", field("set-cookie", "session=1")), nil
	case "broken":
		return nil, status.Error(codes.Internal, "broken")
	case "unsure":
		return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_ErrorResponse{
			ErrorResponse: &authv3.DeniedHttpResponse{Body: "unsure"},
		}}, nil
	case "forger":
		return passing(&authv3.OkHttpResponse{Headers: []*authv3.HeaderValueOption{field("x-user", "a\r\nb: c")}}), nil
	case "long":
		return refusing(403, strings.Repeat("x", 100_000)), nil
	case "misspelt":
		return refusing(302, "", field("x-long", strings.Repeat("x", 9<<10)), field("location", "/login")), nil
	case "slow":
		by, _ := ctx.Deadline()
		had := time.Until(by)
		a.begun <- struct{}{}
		<-ctx.Done()
		a.gone <- had
		return nil, ctx.Err()
	}
	return refusing(403, ""), nil
}

// calling returns the configuration of a service whose requests an authorizer decides about over gRPC.
func calling(service, authorizer, settings string) string {
	c := asking(service, authorizer, ", protocol: grpc"+settings)
	return strings.Replace(c, "{name: authorizer, ", "{name: authorizer, protocol: grpc, ", 1)
}

// TestExtAuthOverGRPC has another service decide as it would for Envoy, over each version of HTTP, in loops and
// without.
func TestExtAuthOverGRPC(t *testing.T) {
	service := echoing(t)
	for _, c := range []struct {
		name, settings, token string
		status                int
		body                  string // a part of it
		header                string // "Name: value" of the response
		asked                 int64  // for two requests
	}{
		{"lets pass", "", "good", 200, "?c=e+f X-User=ann,too X-Gone= X-Role=admin ", "X-Seen: 1", 2},
		{"lets pass without a word", "", "bare", 200, "?secret=1&c=d X-User=root X-Gone=1 X-Role=admin ", "", 2},
		{"takes fields away", ", response_headers: [X-User, X-Role]", "good", 200, "X-User=ann,too X-Gone= X-Role= ", "", 2},
		{"refuses", "", "bad", 401, "who are you?", `Www-Authenticate: Bearer realm="shop"`, 2},
		{"refuses without a word", "", "barely", 403, "", "", 2},
		{"sends elsewhere", "", "login", 302, "", "Location: /login", 2},
		{"fails", "", "broken", 503, "did not answer", "", 2},
		{"fails open", ", on_error: allow, response_headers: [X-User]", "broken", 200, "X-User= X-Gone=1", "", 2},
		{"can't say", "", "unsure", 503, "unsure", "", 2},
		{"can't say, and is not needed", ", on_error: allow", "unsure", 200, "X-User=root", "", 2},
		{"says what can't be", "", "forger", 503, "did not answer", "", 2},
		{"refuses at length", "", "long", 403, "", "", 2},
		{"refuses at length, and is not needed", ", on_error: allow", "long", 403, "", "", 2},
		{"refuses by what can't be", ", on_error: allow", "misspelt", 302, "", "Location: /login", 2},
		{"takes too long", ", timeout: 150ms", "slow", 503, "did not answer", "", 2},
		{"is asked once", ", cache: {ttl: 1h, key: [authorization]}", "good", 200, "?c=e+f X-User=ann,too", "X-Seen: 1", 1},
		{"is asked once by whom it refuses", ", cache: {ttl: 1h, key: [authorization]}", "bad", 401, "who are you?", "", 1},
		{"is asked again where it sets a cookie", ", cache: {ttl: 1h, key: [authorization]}", "cookie", 401, "", "", 2},
		{"is asked again by whom it failed", ", cache: {ttl: 1h, key: [authorization]}", "unsure", 503, "", "", 2},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(c.name+" "+version, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				a := newGRPCAuthorizer(t)
				g := start(t, calling(service, a.address, c.settings))
				client := clientOf(t, version)
				client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				late := int64(0) // requests whose questions did not come within the timeout, on a busy machine
				for n := 0; n < 2; n++ {
					req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.address+"/a/b?secret=1&c=d", nil)
					if err != nil {
						t.Fatal(err)
					}
					for name, value := range map[string]string{
						"Authorization": c.token, "X-Role": "admin", "X-User": "root", "X-Gone": "1",
					} {
						req.Header.Set(name, value)
					}
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					text := body(t, res)
					_ = res.Body.Close()
					if res.StatusCode != c.status || !strings.Contains(text, c.body) {
						t.Errorf("%d %s", res.StatusCode, text)
					}
					if name, value, ok := strings.Cut(c.header, ": "); ok && res.Header.Get(name) != value {
						t.Errorf("%v", res.Header)
					}
					if id := res.Header.Get("X-Request-Id"); id == "" || id == "forged" {
						t.Errorf("%v", res.Header)
					}
					if c.token == "slow" {
						select {
						case <-a.begun:
						default:
							if late++; late > 100 {
								t.Fatal("it is never asked")
							}
							n--
						}
					}
				}
				if n := a.asked.Load(); n < c.asked || n > c.asked+late {
					t.Errorf("asked %d times", n)
				}
			})
		}
	}
}

// echoing is a service that answers with what it saw of a request.
func echoing(t *testing.T) string {
	t.Helper()
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s?%s X-User=%s X-Gone=%s X-Role=%s X-Facts=%s ", r.URL.Path, r.URL.RawQuery,
			strings.Join(r.Header.Values("X-User"), ","), r.Header.Get("X-Gone"), r.Header.Get("X-Role"),
			r.Header.Get("X-Facts"))
	})
}

// TestWhatExtAuthSaysOverGRPC tells the service of a request what Envoy would.
func TestWhatExtAuthSaysOverGRPC(t *testing.T) {
	a := newGRPCAuthorizer(t)
	const settings = ", max_body_bytes: 100, context_extensions: {tier: gold}"
	for _, c := range []struct{ name, settings, body string }{
		{"all fields", settings, "hello"},
		{"some fields", settings + ", request_headers: [Authorization]", "hello"},
		{"a body that is no text", settings, "\xff\xfe"},
		{"no body", ", context_extensions: {tier: gold}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, calling(seen(t), a.address, c.settings))
			request := fmt.Sprintf("POST /a/b?c=d HTTP/1.1\r\nHost: shop.example\r\nAuthorization: bare\r\nX-A: 1\r\nX-A: 2\r\n"+
				"X-B: \xe9\r\nX-Forwarded-For: 192.0.2.9\r\nContent-Length: %d\r\n\r\n%s", len(c.body), c.body)
			if res := g.raw(request, "POST")[0]; res.StatusCode != 200 {
				t.Fatalf("%d %s", res.StatusCode, body(t, res))
			}
			at := a.last.Load().GetAttributes()
			r := at.GetRequest().GetHttp()
			fields := map[string]string{
				"authorization": "bare", ":method": "POST", ":path": "/a/b?c=d", ":authority": "shop.example", ":scheme": "http",
				"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-a": "1,2", "x-b": "!",
			}
			if c.name == "some fields" {
				fields["x-a"], fields["x-b"] = "", ""
			}
			for name, want := range fields {
				if got := r.GetHeaders()[name]; got != want {
					t.Errorf("it saw %s: %q, want %q", name, got, want)
				}
			}
			got := []any{
				r.GetMethod(), r.GetPath(), r.GetHost(), r.GetScheme(), r.GetProtocol(), r.GetSize(), r.GetId() != "",
				at.GetSource().GetAddress().GetSocketAddress().GetAddress(),
				at.GetSource().GetAddress().GetSocketAddress().GetPortValue() > 0,
				at.GetDestination().GetAddress().GetSocketAddress().GetAddress(),
				at.GetContextExtensions()["tier"], time.Since(at.GetRequest().GetTime().AsTime()) < waittest.Limit,
			}
			want := []any{
				"POST", "/a/b?c=d", "shop.example", "http", "HTTP/1.1", int64(len(c.body)), true,
				"127.0.0.1", true, "127.0.0.1", "gold", true,
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("it saw %v, want %v", got, want)
			}
			if text := r.GetBody() + string(r.GetRawBody()); text != c.body || bytes.ContainsRune(r.GetRawBody(), 'h') {
				t.Errorf("it saw the body %q", text)
			}
		})
	}
}

// TestFactsOfExtAuthOverGRPC makes facts, and a principal, of the metadata that the service says.
func TestFactsOfExtAuthOverGRPC(t *testing.T) {
	a := newGRPCAuthorizer(t)
	config := calling(echoing(t), a.address, ", facts: {level: level, groups: groups}, principal: {consumer: user}")
	const stamp = "{name: stamp, type: headers, order: 1, config: {request: {set: " +
		`{X-Facts: "${consumer} ${fact.level} ${fact.groups}"}}}}, `
	g := start(t, strings.NewReplacer(
		"middleware: [", "middleware: ["+stamp, "middleware_ids: [auth]", "middleware_ids: [auth, stamp]",
	).Replace(config))
	res := g.raw("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n\r\n", "GET")[0]
	if text := body(t, res); !strings.Contains(text, "X-Facts=ann 3 staff,admins ") {
		t.Errorf("the service saw %s", text)
	}
}

// TestExtAuthOverGRPCAndTheClientsLeave cancels the call when nobody waits for its answer any more, which knew by when
// it had to answer.
func TestExtAuthOverGRPCAndTheClientsLeave(t *testing.T) {
	lookOften(t)
	a := newGRPCAuthorizer(t)
	g := start(t, calling(seen(t), a.address, ", timeout: 10s"))
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: slow\r\n\r\n"))
	waittest.Receive(t, "the question", a.begun)
	_ = conn.Close()
	if had := waittest.Receive(t, "the end of the question", a.gone); had <= 0 || had > 10*time.Second {
		t.Errorf("it had %s to answer", had)
	}
}

// TestExtAuthOverGRPCOfWhatIsNone takes no answer of a service that speaks no gRPC, or breaks its rules, for a
// decision.
func TestExtAuthOverGRPCOfWhatIsNone(t *testing.T) {
	frame := func(flag byte, message string) string {
		b := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message)))
		return string(b) + message
	}
	for name, answer := range map[string]http.HandlerFunc{
		"a page":             func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("welcome")) },
		"not found":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"no status":          respondGRPC("", frame(0, "")),
		"no message":         respondGRPC("0", ""),
		"a part of one":      respondGRPC("0", frame(0, "abc")[:6]),
		"two messages":       respondGRPC("0", frame(0, "")+frame(0, "")),
		"a compressed one":   respondGRPC("0", frame(1, "")),
		"a message of noise": respondGRPC("0", frame(0, "\xff\xff\xff")),
		"an error":           respondGRPC("14", ""),
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, calling(seen(t), serveH2C(t, answer), ""))
			res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
			if text := body(t, res); res.StatusCode != 503 {
				t.Errorf("%d %s", res.StatusCode, text)
			}
			if n := g.counted("gateway_ext_auth_decisions_total", "result", "error"); n != 1 {
				t.Errorf("%v errors", n)
			}
		})
	}
}

// TestExtAuthOverGRPCThatIsCutOff takes no part of an answer for a permission, but what refuses for a refusal.
func TestExtAuthOverGRPCThatIsCutOff(t *testing.T) {
	refusal, err := proto.Marshal(refusing(401, strings.Repeat("x", 100)))
	if err != nil {
		t.Fatal(err)
	}
	permission, err := proto.Marshal(passing(&authv3.OkHttpResponse{HeadersToRemove: []string{"x-gone"}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		part   []byte
		length int // that is announced
		breaks bool
		status int
	}{
		{"a refusal", refusal[:len(refusal)-10], len(refusal), true, 403},
		{"a refusal, after its first byte", refusal[:1], len(refusal), true, 200},
		{"a refusal with a text that is none", append([]byte{0x0a, 5, 0x08, 7, 0x12, 1}, 0xff), 7, false, 403},
		{"a permission", permission[:len(permission)-1], len(permission), true, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			authorizer := serveH2C(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/grpc")
				_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(c.length)), c.part...))
				if _ = http.NewResponseController(w).Flush(); c.breaks {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			})
			g := start(t, calling(seen(t), authorizer, ", on_error: allow"))
			res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
			if text := body(t, res); res.StatusCode != c.status {
				t.Errorf("%d %s", res.StatusCode, text)
			}
		})
	}
}

// respondGRPC answers calls with a body and a grpc-status.
func respondGRPC(code, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = w.Write([]byte(body))
		if code != "" {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", code)
		}
	}
}

// serveHTTP starts a service, and serveH2C one over HTTP/2 in cleartext.
func serveHTTP(t *testing.T, handler http.HandlerFunc) (address string) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func serveH2C(t *testing.T, handler http.HandlerFunc) (address string) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
