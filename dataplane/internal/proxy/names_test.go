package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/shared/pathnorm"
)

// fields are names and values in turn.
type fields []string

func (f fields) addTo(h http.Header) {
	for i := 0; i < len(f); i += 2 {
		h[f[i]] = append(h[f[i]], f[i+1])
	}
}

// about picks the fields that a test is about, as "name=value" in lower case.
func about(h http.Header) []string {
	var list []string
	for name, values := range h {
		for _, v := range values {
			if name = strings.ToLower(name); strings.HasPrefix(name, "x") && strings.Contains(name, "user") || strings.HasSuffix(name, "-cert") || strings.Contains(name, "request-id") {
				list = append(list, name+"="+v)
			}
		}
	}
	slices.Sort(list)
	return list
}

// decided is a service with middleware that says who the user is, and takes out who it was.
const decided = `---
middleware:
  - {name: m, type: headers, config: {request: {set: {X-User: gateway}, remove: [X-Old-User], add: {X-Every-User: gateway}}, response: {set: {X-User: gateway}, remove: [X-Old-User]}}}
pipelines: [{name: g, global: true, middleware_ids: [m]}]
`

// What middleware has set or removed reaches the other side as it has decided, whatever fields and trailers come with
// the message, over every pair of versions of HTTP.
func TestNamesOfRequests(t *testing.T) {
	for _, c := range []struct {
		name             string
		rule             exchange.NameRule
		fields, trailers fields
		status           int
		wantFields       []string
		wantTrailers     []string
	}{
		{"the very field", exchange.DropOddNames, fields{"X-User", "me", "x-old-user", "me", "X-Every-User", "me"}, nil, 200, []string{"x-every-user=gateway", "x-every-user=me", "x-user=gateway"}, nil},
		{"underscores are dropped", exchange.DropOddNames, fields{"X_User", "me", "x_old-user", "me", "X_Other_User", "me"}, nil, 200, []string{"x-every-user=gateway", "x-user=gateway"}, nil},
		{"so is other punctuation", exchange.DropOddNames, fields{"X.User", "me", "X~User", "me"}, nil, 200, []string{"x-every-user=gateway", "x-user=gateway"}, nil},
		{"or refused", exchange.RefuseOddNames, fields{"X_Other_User", "me"}, nil, 400, nil, nil},
		{"or kept, but for what was decided", exchange.KeepOddNames, fields{"X_User", "me", "X.User", "me", "x_old_user", "me", "X_Other_User", "me"}, nil, 200, []string{"x-every-user=gateway", "x-user=gateway", "x_other_user=me"}, nil},
		{"what was decided is not undone by trailers", exchange.DropOddNames, nil, fields{"X-User", "me", "X-Old-User", "me", "X-Fine-User", "me", "X_Odd_User", "me"}, 200, []string{"x-every-user=gateway", "x-user=gateway"}, []string{"x-fine-user=me"}},
		{"not by odd ones either", exchange.KeepOddNames, nil, fields{"X_User", "me", "x_old.user", "me", "X_Odd_User", "me"}, 200, []string{"x-every-user=gateway", "x-user=gateway"}, []string{"x_odd_user=me"}},
		{"what the gateway says is not said by trailers", exchange.KeepOddNames, nil, fields{"Client-Cert", "me", "X-Request-Id", "me"}, 200, []string{"x-every-user=gateway", "x-user=gateway"}, nil},
		{"fields that Connection names are gone before", exchange.DropOddNames, fields{"Connection", "X-User, X-Every-User", "X-User", "me"}, nil, 200, []string{"x-every-user=gateway", "x-user=gateway"}, nil},
	} {
		for _, client := range []string{"http/1.1", "h2c"} {
			for _, service := range []string{"http", "h2c"} {
				if client == "h2c" && slices.Contains(c.fields, "Connection") {
					continue
				}
				t.Run(c.name+", "+client+" to "+service, func(t *testing.T) {
					seen := new(seenFields)
					config := speaking(service, seen.service(t, service), "") + decided
					g := startProxy(t, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{Names: c.rule}, config)
					req, err := http.NewRequest("POST", "http://"+g.address+"/", io.MultiReader(strings.NewReader("body")))
					if err != nil {
						t.Fatal(err)
					}
					c.fields.addTo(req.Header)
					if c.trailers != nil {
						req.Trailer = http.Header{}
						c.trailers.addTo(req.Trailer)
					}
					res, err := g.clientOf(client).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					_ = body(t, res)
					if res.StatusCode != c.status || !slices.Equal(seen.fields, c.wantFields) || !slices.Equal(seen.trailers, c.wantTrailers) {
						t.Errorf("%d, fields %q, trailers %q", res.StatusCode, seen.fields, seen.trailers)
					}
				})
			}
		}
	}
}

// seenFields is what a service has seen of a request.
type seenFields struct{ fields, trailers []string }

// service starts a service of a protocol. That of HTTP/2 reads frames: net/http takes no trailers there that were not
// announced.
func (s *seenFields) service(t *testing.T, protocol string) string {
	if protocol == "h2c" {
		return newFramed(t, func(_ int, f *framed) { s.serve(f) })
	}
	return newMixedServer(t, func(_ http.ResponseWriter, r *http.Request) {
		r.Header.Del("X-Request-Id")
		s.fields = about(r.Header)
		_, _ = io.Copy(io.Discard, r.Body)
		s.trailers = about(r.Trailer)
	})
}

func (s *seenFields) serve(f *framed) {
	lists := 0
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if list, ok := frame.(*xhttp2.MetaHeadersFrame); ok {
			h := http.Header{}
			for _, field := range list.RegularFields() {
				if field.Name != "x-request-id" || lists > 0 {
					h.Add(field.Name, field.Value)
				}
			}
			if lists++; lists == 1 {
				s.fields = about(h)
			} else {
				s.trailers = about(h)
			}
		}
		if frame.Header().Type != xhttp2.FrameSettings && frame.Header().Flags.Has(xhttp2.FlagDataEndStream) {
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: frame.Header().StreamID, BlockFragment: []byte{0x80 | 8}, EndStream: true, EndHeaders: true})
		}
	}
}

func TestNamesOfResponses(t *testing.T) {
	for _, c := range []struct {
		name                     string
		fields, trailers         fields
		wantFields, wantTrailers []string
	}{
		{"the very field", fields{"X-User", "me", "X-Old-User", "me"}, nil, []string{"x-user=gateway"}, nil},
		{"lookalikes", fields{"X_User", "me", "X_Old_User", "me", "X_Other_User", "me"}, nil, []string{"x-user=gateway", "x_other_user=me"}, nil},
		{"trailers", nil, fields{"X-User", "me", "X-Old-User", "me", "X-Fine-User", "me", "X_User", "me"}, []string{"x-user=gateway"}, []string{"x-fine-user=me"}},
		{"an id of the service's own", fields{"X-Request-Id", "me"}, fields{"X-Request-Id", "me"}, []string{"x-user=gateway"}, nil},
	} {
		for _, client := range []string{"http/1.1", "h2c"} {
			for _, service := range []string{"http", "h2c"} {
				t.Run(c.name+", "+client+" to "+service, func(t *testing.T) {
					server := newMixedServer(t, func(w http.ResponseWriter, _ *http.Request) {
						c.fields.addTo(w.Header())
						for i := 0; i < len(c.trailers); i += 2 {
							w.Header().Add("Trailer", c.trailers[i])
						}
						w.WriteHeader(200)
						_, _ = io.WriteString(w, "body")
						w.(http.Flusher).Flush()
						for i := 0; i < len(c.trailers); i += 2 {
							w.Header().Del(c.trailers[i])
						}
						for name := range w.Header() {
							if name != "Trailer" {
								w.Header().Del(name)
							}
						}
						c.trailers.addTo(w.Header())
					})
					g := start(t, speaking(service, server, "")+decided)
					req, err := http.NewRequest("GET", "http://"+g.address+"/", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Request-Id", "of-the-client")
					res, err := g.clientOf(client).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					_ = body(t, res)
					if ids := res.Header.Values("X-Request-Id"); !slices.Equal(ids, []string{"of-the-client"}) {
						t.Errorf("the ids are %q", ids)
					}
					res.Header.Del("X-Request-Id")
					if got, trailers := about(res.Header), about(res.Trailer); !slices.Equal(got, c.wantFields) || !slices.Equal(trailers, c.wantTrailers) {
						t.Errorf("fields %q, trailers %q", got, trailers)
					}
				})
			}
		}
	}
}

// newMixedServer serves HTTP/1.1 and HTTP/2 without TLS.
func newMixedServer(t *testing.T, serve http.HandlerFunc) string {
	s := httptest.NewUnstartedServer(serve)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// gRPC's metadata may have such names, and no CGI stands behind it.
func TestOddNamesReachGRPCServices(t *testing.T) {
	var got []string
	server := newH2Server(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = about(r.Header)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}))
	g := start(t, speaking("grpc", server.address, ""))
	req, err := http.NewRequest("POST", "http://"+g.address+"/a.B/C", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	fields{"Content-Type", "application/grpc", "Te", "trailers", "X_user.id", "me"}.addTo(req.Header)
	res, err := g.clientOf("h2c").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = body(t, res)
	if !slices.Contains(got, "x_user.id=me") {
		t.Errorf("the service got %q", got)
	}
}

// Every response has the request's id: also what is refused before there is a route.
func TestEveryResponseHasTheRequestID(t *testing.T) {
	server := newMixedServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	g := start(t, speaking("http", server, "")+`---
routes:
  - {name: moved, path: /moved, redirect: {path: /}}
  - {name: fixed, path: /fixed, direct_response: {body: fixed}}
  - {name: none, path: /none, hosts: [other.test], service_id: s}
`)
	for _, c := range []struct {
		name, request string
		status        int
		id            string // empty: one that was made here
	}{
		{"a service's", "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n", 200, "mine"},
		{"made here", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""},
		{"not sane", "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: \"mine\"\r\n\r\n", 200, ""},
		{"a redirect", "GET /moved HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n", 302, "mine"},
		{"a fixed answer", "GET /fixed HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n", 200, "mine"},
		{"a path that is refused", "GET /a/../b HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n", 400, "mine"},
		{"a head that is refused", "GET / HTTP/1.1\r\nX-Request-Id: mine\r\n\r\n", 400, ""},
		{"a lookalike", "GET / HTTP/1.1\r\nHost: a\r\nX_Request_Id: mine\r\n\r\n", 400, ""},
		{"a line that is no head", "GET\r\n\r\n", 400, ""},
	} {
		res := g.raw(c.request, "GET")[0]
		ids := res.Header.Values("X-Request-Id")
		if res.StatusCode != c.status || len(ids) != 1 || c.id != "" && ids[0] != c.id || c.id == "" && len(ids[0]) != 32 {
			t.Errorf("%s: %d, ids %q", c.name, res.StatusCode, ids)
			continue
		}
		if text := body(t, res); res.StatusCode == 400 && !strings.Contains(text, fmt.Sprintf(`"request_id":%q`, ids[0])) {
			t.Errorf("%s: the body has another id than %s: %s", c.name, ids[0], text)
		}
		g.logs(fmt.Sprintf(`"request_id":%q`, ids[0]))
	}
}

func TestWhoseRequestIDIsAccepted(t *testing.T) {
	server := newMixedServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	for _, c := range []struct {
		rule     exchange.RequestIDRule
		proxies  []string
		accepted bool
	}{
		{exchange.AnyRequestID, nil, true},
		{exchange.TrustedRequestID, []string{"10.0.0.1"}, false},
		{exchange.TrustedRequestID, []string{"127.0.0.1"}, true},
		{exchange.OwnRequestID, []string{"127.0.0.1"}, false},
	} {
		trusted, err := exchange.ParseProxies(c.proxies)
		if err != nil {
			t.Fatal(err)
		}
		headers := HeaderSettings{RequestIDs: c.rule}
		g := startProxy(t, codec.DefaultLimits(),
			pathnorm.DefaultSettings(), headers, speaking("http", server, ""),
			func(set *listener.Settings) { set.Proxies = trusted })
		res := g.raw("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n", "GET")[0]
		if id := res.Header.Get("X-Request-Id"); (id == "mine") != c.accepted || id == "" {
			t.Errorf("%s with %q: %q", c.rule, c.proxies, id)
		}
	}
}
