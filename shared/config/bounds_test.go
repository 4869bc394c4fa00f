package config

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestBoundsOfResources tries the largest that is allowed and one more.
func TestBoundsOfResources(t *testing.T) {
	labels := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint(i)] = "x"
		}
		return m
	}
	route := func(r *configv1.Route) Message {
		if r.GetName() == "" {
			r.Name = "r"
		}
		r.Path = "/"
		if r.GetDirectResponse() == nil && r.GetBackends() == nil {
			r.DirectResponse = &configv1.DirectResponse{}
		}
		return r
	}
	for _, c := range []struct {
		name string
		most int
		make func(n int) Message
		want string
	}{
		{"bytes of a name", 128, func(n int) Message {
			return route(&configv1.Route{Name: strings.Repeat("a", n)})
		}, "has to be 1 to 128"},
		{"labels", 64, func(n int) Message { return route(&configv1.Route{Labels: labels(n)}) },
			"has 65 entries; 64 are allowed"},
		{"bytes of a label", 256, func(n int) Message {
			return route(&configv1.Route{Labels: map[string]string{"a": strings.Repeat("x", n)}})
		}, "values up to 256"},
		{"bytes of a fixed answer", 64 << 10, func(n int) Message {
			return route(&configv1.Route{DirectResponse: &configv1.DirectResponse{Body: strings.Repeat("x", n)}})
		}, "65536"},
		{"endpoints", 10_000, func(n int) Message {
			s := &configv1.Service{Name: "s"}
			for i := range n {
				s.Endpoints = append(s.Endpoints, &configv1.Endpoint{Host: fmt.Sprintf("10.0.%d.%d", i/250, i%250), Port: 80})
			}
			return s
		}, "has 10001 entries; 10000 are allowed"},
		{"bytes of a resource", 3617, func(n int) Message { // about 1 KiB each
			set := map[string]any{}
			for i := range n {
				set[fmt.Sprint("X-", i)] = strings.Repeat("x", 1000)
			}
			conf, err := structpb.NewStruct(map[string]any{"request": map[string]any{"set": set}})
			if err != nil {
				t.Fatal(err)
			}
			if n > 3617 {
				conf.GetFields()["request"].GetStructValue().GetFields()["set"].GetStructValue().GetFields()["X-0"] =
					structpb.NewStringValue(strings.Repeat("x", 4<<10))
			}
			return &configv1.Middleware{Name: "m", Type: "headers", Config: conf}
		}, fmt.Sprint("a resource may have ", MaxResourceBytes)},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, want := range map[int]string{c.most: "", c.most + 1: c.want} {
				m := c.make(n)
				_, err := Empty().Plan([]Edit{{Kind: KindOfMessage(m), Put: m}}, options())
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("%d: %.200v, want %q", n, err, want)
				}
			}
		})
	}
}

// TestManyPrefixes: 100,000 prefixes of either kind are one middleware.
func TestManyPrefixes(t *testing.T) {
	for name, prefix := range map[string]func(i int) string{
		"IPv4": func(i int) string { return fmt.Sprintf("%d.%d.%d.0/24", 100+i>>16, i>>8&255, i&255) },
		"IPv6": func(i int) string { return fmt.Sprintf("2001:db8:%x:%02x00::/56", 0x1000+i>>8, i&255) },
	} {
		list := make([]any, 100_000)
		for i := range list {
			list[i] = prefix(i)
		}
		conf, err := structpb.NewStruct(map[string]any{"deny": list})
		if err != nil {
			t.Fatal(err)
		}
		m := &configv1.Middleware{Name: "m", Type: "ip_restriction", Config: conf}
		if _, err := Empty().Plan([]Edit{{Kind: Middleware, Put: m}}, options()); err != nil {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}
