package securityheaders

import (
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func TestSecurityHeaders(t *testing.T) {
	const hsts, frame, sniff, referrer, csp = "Strict-Transport-Security", "X-Frame-Options", "X-Content-Type-Options",
		"Referrer-Policy", "Content-Security-Policy"
	const policy = "default-src 'self'"
	tunnel := func(x *exchange.Exchange) { x.Response.Tunnel = true }
	call := func(x *exchange.Exchange) { x.RPC = exchange.GRPC }
	own := map[string]string{frame: "sameorigin", csp: "default-src 'none'"}
	for _, c := range []struct {
		name     string
		settings *middlewarev1.SecurityHeaders
		scheme   string
		prepare  func(x *exchange.Exchange)
		sent     map[string]string // by the service
		want     map[string]string
	}{
		{"the defaults", &middlewarev1.SecurityHeaders{}, "https", nil, nil, map[string]string{
			hsts: "max-age=31536000", frame: "deny", sniff: "nosniff", referrer: "strict-origin-when-cross-origin", csp: "",
		}},
		{"in cleartext", &middlewarev1.SecurityHeaders{}, "http", nil, nil, map[string]string{hsts: "", frame: "deny"}},
		{"what the service says stays", &middlewarev1.SecurityHeaders{ContentSecurityPolicy: policy}, "https", nil, own,
			map[string]string{frame: "sameorigin", csp: "default-src 'none'", sniff: "nosniff"}},
		{"what the service says is replaced", &middlewarev1.SecurityHeaders{Override: true, ContentSecurityPolicy: policy},
			"https", nil, own, map[string]string{frame: "deny", csp: policy, sniff: "nosniff"}},
		{"all is chosen", &middlewarev1.SecurityHeaders{
			StrictTransportSecurity: &middlewarev1.StrictTransportSecurity{
				MaxAge: "17520h", IncludeSubdomains: true, Preload: true,
			},
			FrameOptions: "sameorigin", ContentTypeOptions: "nosniff", ReferrerPolicy: "no-referrer",
		}, "https", nil, nil, map[string]string{
			hsts: "max-age=63072000; includeSubDomains; preload", frame: "sameorigin", sniff: "nosniff", referrer: "no-referrer",
		}},
		{"nothing is chosen", &middlewarev1.SecurityHeaders{
			StrictTransportSecurity: &middlewarev1.StrictTransportSecurity{Off: true},
			FrameOptions:            "off", ContentTypeOptions: "off", ReferrerPolicy: "off",
		}, "https", nil, nil, map[string]string{hsts: "", frame: "", sniff: "", referrer: "", csp: ""}},
		{"what becomes a tunnel", &middlewarev1.SecurityHeaders{}, "https", tunnel, nil,
			map[string]string{hsts: "", frame: ""}},
		{"a call of gRPC", &middlewarev1.SecurityHeaders{}, "https", call, nil,
			map[string]string{hsts: "", frame: ""}},
	} {
		s, err := New(c.settings, &pipeline.Environment{})
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange.Exchange{}
		x.Scheme = c.scheme
		if c.prepare != nil {
			c.prepare(x)
		}
		for name, value := range c.sent {
			x.Response.Header.Add(name, value)
		}
		if s.Request(x) != exchange.Continue {
			t.Errorf("%s: the request does not go on", c.name)
		}
		s.Response(x)
		for name, want := range c.want {
			if got := x.Response.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q, want %q", c.name, name, got, want)
			}
		}
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took settings of another type")
	}
}

// TestSecurityHeadersDoNotAllocate, once the header has had as many fields before.
func TestSecurityHeadersDoNotAllocate(t *testing.T) {
	s, err := New(&middlewarev1.SecurityHeaders{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange.Exchange{}
	x.Scheme = "https"
	s.Response(x)
	if n := testing.AllocsPerRun(100, func() {
		x.Response.Header.Reset()
		s.Response(x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
