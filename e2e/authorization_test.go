package e2e

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/shared/waittest"
)

// policies is a service that was made for Envoy, of Envoy's own messages.
type policies struct {
	authv3.UnimplementedAuthorizationServer
	asked atomic.Int64
}

func (p *policies) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	p.asked.Add(1)
	at := r.GetAttributes()
	http := at.GetRequest().GetHttp()
	said := []any{
		http.GetMethod(), http.GetPath(), http.GetHeaders()[":path"], http.GetProtocol(), at.GetContextExtensions()["tier"],
		at.GetSource().GetAddress().GetSocketAddress().GetAddress(), at.GetRequest().GetTime().IsValid(),
	}
	const path = "/shop/cart?n=1"
	if got := fmt.Sprint(said...); got != fmt.Sprint("GET", path, path, "HTTP/1.1", "gold", "127.0.0.1", true) {
		return nil, fmt.Errorf("it was told %s", got)
	}
	user, known := strings.CutPrefix(http.GetHeaders()["cookie"], "session=")
	if !known || user != "ann" {
		return &authv3.CheckResponse{
			Status: &rpcstatus.Status{Code: int32(codes.Unauthenticated)},
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
				Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}, Body: "who are you?",
			}},
		}, nil
	}
	header := func(name, value string) []*corev3.HeaderValueOption {
		return []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: name, Value: value}}}
	}
	tenant, err := structpb.NewStruct(map[string]any{"tenant": "acme"})
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: header("x-user", user), ResponseHeadersToAdd: header("x-checked", "yes"),
			HeadersToRemove: []string{"cookie"},
		}},
		DynamicMetadata: tenant,
	}, err
}

// TestAuthorisedRouteUnderTraffic changes a route whose requests a service made for Envoy decides about, whose
// responses are compressed and whose requests are mirrored, and takes the changes back, while it is used: no request is
// let pass that should not, none fails, and answers that are kept outlive all of it.
func TestAuthorisedRouteUnderTraffic(t *testing.T) {
	service := &policies{}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, service)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(server.Stop)
	_, port, _ := net.SplitHostPort(ln.Addr().String())

	g := newGateway(t)
	n := g.node("n1")
	page := strings.Repeat("0123456789abcdef", 256)
	shop := portOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		said := r.Header
		_, _ = fmt.Fprintf(w, "%s of %s, %q\n%s", said.Get("X-User"), said.Get("X-Tenant"), said.Get("Cookie"), page)
	})
	var copies atomic.Int64
	next := portOf(t, func(http.ResponseWriter, *http.Request) { copies.Add(1) })
	config := fmt.Sprintf(`services:
  - {name: shop, endpoints: [{host: 127.0.0.1, port: %s}]}
  - {name: next, endpoints: [{host: 127.0.0.1, port: %s}]}
  - {name: policies, protocol: grpc, endpoints: [{host: 127.0.0.1, port: %s}]}
middleware:
  - {name: compress, type: compress, order: 1}
  - name: policies
    type: ext_auth
    order: 2
    config:
      {service_id: policies, protocol: grpc, timeout: 20s, context_extensions: {tier: gold}, facts: {tenant: tenant},
       cache: {ttl: 30m, key: [cookie]}}
  - {name: tenant, type: headers, order: 3, config: {request: {set: {X-Tenant: "${fact.tenant}"}}}}
pipelines:
  - {name: front, middleware_ids: [compress, policies, tenant]}
routes:
  - {name: shop, path: /shop/*, service_id: shop, pipeline_id: front, mirror: {service_id: next}}
`, shop, next, port)
	g.must(config, "apply", "-f", "-")
	n.runs(1)

	client := &http.Client{Timeout: waittest.Limit}
	ask := func(cookie string) string {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.http+"/shop/cart?n=1", nil)
		if err != nil {
			return err.Error()
		}
		for name, value := range map[string]string{
			"Cookie": "session=" + cookie, "X-User": "root", "X-Tenant": "all", "Accept-Encoding": "gzip",
		} {
			r.Header.Set(name, value)
		}
		res, err := client.Do(r)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		body := io.Reader(res.Body)
		if res.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(body); err != nil {
				return err.Error()
			}
		}
		text, err := io.ReadAll(body)
		return fmt.Sprintf("%d %q %s %v", res.StatusCode, res.Header.Get("X-Checked"), text, err)
	}
	want := map[string]string{
		"ann": "200 \"yes\" ann of acme, \"\"\n" + page + " <nil>", "bob": `401 "" who are you? <nil>`,
	}
	for cookie := range want {
		if got := ask(cookie); got != want[cookie] {
			t.Fatalf("%s got %s\nwant %s", cookie, got, want[cookie])
		}
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); all.Wait() })
	t.Cleanup(end)
	var answered atomic.Int64
	for cookie := range want {
		for range 2 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if got := ask(cookie); got != want[cookie] {
						t.Errorf("%s got %s", cookie, got)
						return
					}
					answered.Add(1)
				}
			})
		}
	}
	for i, change := range []string{
		"routes: [{name: shop, path: /shop/*, service_id: shop, pipeline_id: front}]",
		"middleware: [{name: compress, type: compress, order: 1, config: {algorithms: [gzip], min_bytes: 0}}]",
		"middleware:\n  - name: policies\n    type: ext_auth\n    order: 2\n    config:\n" +
			"      {service_id: policies, protocol: grpc, timeout: 25s, context_extensions: {tier: gold}, " +
			"facts: {tenant: tenant}, cache: {ttl: 1h, key: [cookie]}}",
		"pipelines: [{name: front, middleware_ids: [compress, policies, tenant], timeout_ms: 30000}]",
	} {
		g.must(change, "apply", "-f", "-")
		n.runs(i + 2)
		before := answered.Load()
		waittest.Until(t, "requests are answered", func() bool { return answered.Load() > before+20 || t.Failed() })
	}
	g.must("", "rollback", "1")
	n.runs(6)
	copied := copies.Load()
	waittest.Until(t, "requests are mirrored again", func() bool { return copies.Load() > copied+5 || t.Failed() })
	end()
	if asked := service.asked.Load(); asked != 2 {
		t.Errorf("the service was asked %d times about two sessions", asked)
	}
}
