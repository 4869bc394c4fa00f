package middleware

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

const (
	testKeys   = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	testSecret = `{"keys":[{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`
)

// jwtWith returns settings of jwt with one issuer, that has these names and values.
func jwtWith(pairs ...any) map[string]any {
	issuer := map[string]any{"issuer": "https://a.example"}
	for i := 0; i < len(pairs); i += 2 {
		issuer[pairs[i].(string)] = pairs[i+1]
	}
	return map[string]any{"issuers": []any{issuer}}
}

// jwtAnd returns settings of jwt that have one thing besides an issuer.
func jwtAnd(name string, value any) map[string]any {
	m := jwtWith("jwks_url", "https://a.example/keys")
	m[name] = value
	return m
}

// introspection returns settings of oauth2_introspection in which one is another.
func introspection(name string, value any) map[string]any {
	m := map[string]any{"url": "https://a.example/introspect", "client_id": "a", "client_secret": "b"}
	m[name] = value
	return m
}

// openID returns settings of oidc in which one is another.
func openID(name string, value any) map[string]any {
	m := map[string]any{
		"issuer": "https://a.example", "client_id": "a", "session_secret": "0123456789abcdef0123456789abcdef",
	}
	m[name] = value
	return m
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		typ    string
		config map[string]any
		field  string // of the one error; empty: valid
	}{
		{"api_key", map[string]any{}, ""},
		{"api_key", map[string]any{"headers": []any{"Authorization", "X-Key"}, "query": []any{"key"},
			"cookie": []any{"k"}}, ""},
		{"api_key", map[string]any{"headers": []any{"X Key"}}, "config.headers[0]"},
		{"api_key", map[string]any{"headers": []any{"Cookie"}}, "config.headers[0]"},
		{"api_key", map[string]any{"headers": []any{"Host"}}, "config.headers[0]"},
		{"api_key", map[string]any{"query": []any{""}}, "config.query[0]"},
		{"api_key", map[string]any{"cookie": []any{"a;b"}}, "config.cookie[0]"},
		{"api_key", map[string]any{"consumer_header": "X-Forwarded-For"}, "config.consumer_header"},
		{"api_key", map[string]any{"exclude_paths": []any{"public"}}, "config.exclude_paths[0]"},
		{"basic_auth", map[string]any{"realm": "the shop", "cache_ttl": "0s"}, ""},
		{"basic_auth", map[string]any{"realm": `a"b`}, "config.realm"},
		{"basic_auth", map[string]any{"cache_ttl": "2h"}, "config.cache_ttl"},
		{"mtls_auth", map[string]any{"optional": true, "exclude_paths": []any{"/a", "/b/*"}}, ""},
		{"mtls_auth", map[string]any{"consumer_header": "a b"}, "config.consumer_header"},
		{"hmac_auth", map[string]any{"components": []any{"@method", "content-digest"}, "label": "sig1", "max_age": "1m"}, ""},
		{"hmac_auth", map[string]any{"components": []any{"@status"}}, "config.components[0]"},
		{"hmac_auth", map[string]any{"components": []any{"X-A"}}, "config.components[0]"},
		{"hmac_auth", map[string]any{"components": []any{"signature"}}, "config.components[0]"},
		{"hmac_auth", map[string]any{"components": []any{"date", "date"}}, "config.components[1]"},
		{"hmac_auth", map[string]any{"label": "A"}, "config.label"},
		{"hmac_auth", map[string]any{"clock_skew": "11m"}, "config.clock_skew"},
		{"hmac_auth", map[string]any{"max_nonces": 10_000_001}, "config.max_nonces"},
		{"hmac_auth", map[string]any{"max_body_bytes": 1 << 30}, "config.max_body_bytes"},
		{"headers", map[string]any{"request": map[string]any{"set": map[string]any{"X-A": "1"}}}, ""},
		{"headers", map[string]any{}, "config.request"},
		{"headers", map[string]any{"request": map[string]any{"set": map[string]any{"X A": "1"}}}, "config.request.set"},
		{
			"headers", map[string]any{"request": map[string]any{"set": map[string]any{"X-A": "a\r\nb: c"}}},
			"config.request.set.X-A",
		},
		{
			"headers", map[string]any{"response": map[string]any{"remove": []any{"Content-Length"}}},
			"config.response.remove[0]",
		},
		{"headers", map[string]any{"requests": map[string]any{}}, "config.requests"},
		{"headers", map[string]any{"request": "x"}, "config"},
		{
			"headers",
			map[string]any{"request": map[string]any{"set": map[string]any{"X-A": "of ${client.address}"}}}, "",
		},
		{
			"headers",
			map[string]any{"request": map[string]any{"set": map[string]any{"X-A": "${client.adress}"}}},
			"config.request.set.X-A",
		},
		{
			"headers", map[string]any{"request": map[string]any{"add": map[string]any{"X-A": "${endpoint}"}}},
			"config.request.add.X-A",
		},
		{"headers", map[string]any{"response": map[string]any{"add": map[string]any{"X-A": "${endpoint}"}}}, ""},
		{
			"headers",
			map[string]any{"request": map[string]any{"set": map[string]any{"X-Forwarded-For": "1.1.1.1"}}},
			"config.request.set",
		},
		{
			"headers", map[string]any{"response": map[string]any{"remove": []any{"X-Request-ID"}}},
			"config.response.remove[0]",
		},
		{"cors", map[string]any{"allow_origins": []any{"https://*.example.com", "http://localhost:3000"}}, ""},
		{"cors", map[string]any{"allow_origins": []any{"https://a.com/"}}, "config.allow_origins[0]"},
		{"cors", map[string]any{"allow_origins": []any{"*"}, "allow_credentials": true}, "config.allow_credentials"},
		{"cors", map[string]any{"allow_origins": []any{"*"}, "max_age": "25h"}, "config.max_age"},
		{"cors", nil, "config.allow_origins"},
		{"authenticated", nil, ""},
		{"authenticated", map[string]any{"exclude_paths": []any{"/a", "~/b.*"}}, ""},
		{"authenticated", map[string]any{"exclude_paths": []any{"/a", "b"}}, "config.exclude_paths[1]"},
		{"rbac", rbacRules(map[string]any{
			"name": "a", "groups": []any{"*", "team-*"}, "consumers": []any{"ann"}, "scopes": []any{"orders:read"},
			"methods": []any{"GET", "*"}, "paths": []any{"/a/*", "/b/{id}", "/c"}, "effect": "deny",
		}, map[string]any{}), ""},
		{"request_validation", map[string]any{
			"json_schema": map[string]any{"type": "object"}, "max_body_bytes": 1000.0, "max_values": 10.0, "mode": "report",
		}, ""},
		{"request_validation", map[string]any{"json_schema": false}, ""},
		{"request_validation", map[string]any{
			"openapi": map[string]any{"openapi": "3.1.0",
				"paths": map[string]any{"/a/{b}": map[string]any{"get": map[string]any{}}}},
			"base_path": "/v1", "unknown": "pass",
		}, ""},
		{"request_validation", nil, "config.json_schema"},
		{"request_validation", map[string]any{"json_schema": true, "openapi": map[string]any{}}, "config.json_schema"},
		{"request_validation", map[string]any{"json_schema": map[string]any{"type": "strin"}}, "config.json_schema"},
		{"request_validation", map[string]any{"json_schema": map[string]any{"$ref": "https://a.example"}},
			"config.json_schema"},
		{"request_validation", map[string]any{"json_schema": true, "max_body_bytes": float64(16<<20 + 1)},
			"config.max_body_bytes"},
		{"request_validation", map[string]any{"json_schema": true, "max_values": 1e6 + 1}, "config.max_values"},
		{"request_validation", map[string]any{"json_schema": true, "mode": "log"}, "config.mode"},
		{"request_validation", map[string]any{"json_schema": true, "unknown": "pass"}, "config.openapi"},
		{"request_validation", map[string]any{"openapi": map[string]any{"openapi": "3.0.0"}}, "config.openapi./openapi"},
		{"request_validation", map[string]any{
			"openapi": map[string]any{"openapi": "3.1.0", "paths": map[string]any{"a": map[string]any{}}},
		}, "config.openapi./paths/a"},
		{"rbac", nil, "config.rules"},
		{"rbac", map[string]any{"rules": slices.Repeat([]any{map[string]any{}}, 1001)}, "config.rules"},
		{"rbac", rbacRules(map[string]any{"name": "a"}, map[string]any{"name": "a"}), "config.rules[1].name"},
		{"rbac", rbacRules(map[string]any{"name": "default"}), "config.rules[0].name"},
		{"rbac", rbacRules(map[string]any{"name": "a\nb"}), "config.rules[0].name"},
		{"rbac", rbacRules(map[string]any{"effect": "permit"}), "config.rules[0].effect"},
		{"rbac", rbacRules(map[string]any{"groups": []any{"a", "*-b"}}), "config.rules[0].groups[1]"},
		{"rbac", rbacRules(map[string]any{"groups": []any{""}}), "config.rules[0].groups[0]"},
		{"rbac", rbacRules(map[string]any{"consumers": slices.Repeat([]any{"a"}, 257)}), "config.rules[0].consumers"},
		{"rbac", rbacRules(map[string]any{"scopes": []any{"a b"}}), "config.rules[0].scopes[0]"},
		{"rbac", rbacRules(map[string]any{"methods": []any{"GET,POST"}}), "config.rules[0].methods[0]"},
		{"rbac", rbacRules(map[string]any{"paths": []any{"/a", "~/b"}}), "config.rules[0].paths[1]"},
		{"rbac", rbacRules(slices.Repeat([]map[string]any{{"paths": slices.Repeat([]any{"/a"}, 1000)}}, 11)...),
			"config.rules"},
		{"cel", map[string]any{"allow": `request.method == "GET"`, "deny": `identity.claims.level > 3`, "message": "no"}, ""},
		{"cel", nil, "config.allow"},
		{"cel", map[string]any{"allow": `request.method`}, "config.allow"},
		{"cel", map[string]any{"allow": "true", "deny": `requst.method == "GET"`}, "config.deny"},
		{"cel", map[string]any{"allow": "true", "message": "a\nb"}, "config.message"},
		{"csrf", nil, ""},
		{"csrf", map[string]any{
			"trusted_origins": []any{"https://a.example", "https://*.b.example:8443"}, "exclude_paths": []any{"/a/*", "/{b}/c"},
		}, ""},
		{"csrf", map[string]any{"trusted_origins": []any{"*"}}, "config.trusted_origins[0]"},
		{"csrf", map[string]any{"trusted_origins": []any{"a.example"}}, "config.trusted_origins[0]"},
		{"csrf", map[string]any{"trusted_origins": slices.Repeat([]any{"https://a.example"}, 257)}, "config.trusted_origins"},
		{"csrf", map[string]any{"exclude_paths": []any{"a"}}, "config.exclude_paths[0]"},
		{"csrf", map[string]any{"exclude_paths": slices.Repeat([]any{"/a"}, 1001)}, "config.exclude_paths"},
		{"ip_restriction", map[string]any{"allow": []any{"10.0.0.0/8", "::1"}}, ""},
		{"ip_restriction", map[string]any{"deny": []any{"10.0.0.1/8"}}, "config.deny[0]"},
		{"ip_restriction", map[string]any{"deny": []any{"x"}}, "config.deny[0]"},
		{"ip_restriction", map[string]any{"deny": []any{"::1"}, "status": 200.0}, "config.status"},
		{"ip_restriction", nil, "config.allow"},
		{"jwt", jwtWith("jwks_url", "https://a.example/keys"), ""},
		{"jwt", jwtWith("jwks_url", "http://127.0.0.1:9000/keys"), ""},
		{"jwt", jwtWith("jwks", testKeys), ""},
		{"jwt", jwtWith("jwks", testSecret, "algorithms", []any{"HS256"}), ""},
		{"jwt", jwtWith("jwks", testSecret), "config.issuers[0].algorithms"},
		{"jwt", jwtWith("jwks", testSecret, "algorithms", []any{"HS512"}), "config.issuers[0].jwks"},
		{"jwt", jwtWith("jwks", testKeys, "algorithms", []any{"RS256"}), "config.issuers[0].jwks"},
		{"jwt", jwtWith("jwks", `{"keys":[]}`), "config.issuers[0].jwks"},
		{"jwt", jwtWith("jwks", `{"keys":[{"kty":"RSA"}]}`), "config.issuers[0].jwks"},
		{"jwt", jwtWith("jwks", "x"), "config.issuers[0].jwks"},
		{"jwt", jwtWith("jwks", testKeys, "jwks_url", "https://a.example"), "config.issuers[0].jwks_url"},
		{"jwt", jwtWith("issuer", "x"), "config.issuers[0].jwks_url"},
		{"jwt", jwtWith("jwks_url", "https://a.example", "algorithms", []any{"HS256"}), "config.issuers[0].algorithms[0]"},
		{"jwt", jwtWith("jwks_url", "https://a.example", "algorithms", []any{"none"}), "config.issuers[0].algorithms[0]"},
		{"jwt", jwtWith("jwks_url", "ftp://a.example"), "config.issuers[0].jwks_url"},
		{"jwt", jwtWith("jwks_url", "https://u:p@a.example"), "config.issuers[0].jwks_url"},
		{"jwt", jwtWith("jwks_url", "https://a.example", "clock_skew", "11m"), "config.issuers[0].clock_skew"},
		{"jwt", jwtWith("jwks_url", "https://a.example", "clock_skew", "0s"), ""},
		{"jwt", jwtWith("jwks_url", "https://a.example", "issuer", ""), "config.issuers[0].issuer"},
		{"jwt", nil, "config.issuers"},
		{"jwt", jwtAnd("claims_to_headers", map[string]any{"sub": "X-User"}), ""},
		{"jwt", jwtAnd("claims_to_headers", map[string]any{"sub": "X User"}), "config.claims_to_headers.sub"},
		{"jwt", jwtAnd("claims_to_headers", map[string]any{"sub": "Authorization"}), "config.claims_to_headers.sub"},
		{"jwt", jwtAnd("claims_to_headers", map[string]any{"sub": "Content-Length"}), "config.claims_to_headers.sub"},
		{"jwt", jwtAnd("claims_to_headers", map[string]any{"a": "X-A", "b": "x-a"}), "config.claims_to_headers.b"},
		{"jwt", jwtAnd("exclude_paths", []any{"x"}), "config.exclude_paths[0]"},
		{"jwt", jwtAnd("max_token_bytes", 100.0), "config.max_token_bytes"},
		{"jwt", jwtAnd("max_cache_bytes", 1.0), "config.max_cache_bytes"},
		{"oauth2_introspection", introspection("timeout", "1s"), ""},
		{"oauth2_introspection", introspection("cache_ttl", "0s"), ""},
		{"oauth2_introspection", introspection("cache_ttl", "2h"), "config.cache_ttl"},
		{"oauth2_introspection", introspection("timeout", "6s"), "config.timeout"},
		{"oauth2_introspection", introspection("url", "file:///etc/passwd"), "config.url"},
		{"oauth2_introspection", introspection("url", ""), "config.url"},
		{"oauth2_introspection", introspection("client_id", ""), "config.client_id"},
		{"oauth2_introspection", introspection("client_secret", ""), "config.client_secret"},
		{"oauth2_introspection", introspection("on_error", "pass"), "config.on_error"},
		{"oidc", openID("scopes", []any{"email"}), ""},
		{"oidc", openID("issuer", "a"), "config.issuer"},
		{"oidc", openID("client_id", ""), "config.client_id"},
		{"oidc", openID("session_secret", "short"), "config.session_secret"},
		{"oidc", openID("previous_session_secret", "short"), "config.previous_session_secret"},
		{"oidc", openID("redirect_path", "//evil.example"), "config.redirect_path"},
		{"oidc", openID("logout_path", "/oauth2/callback"), "config.logout_path"},
		{"oidc", openID("cookie_name", "a;b"), "config.cookie_name"},
		{"oidc", openID("session_lifetime", "1s"), "config.session_lifetime"},
		{"compress", nil, ""},
		{"compress", map[string]any{"algorithms": []any{"br", "gzip"}, "types": []any{"*/*"}, "min_bytes": 0.0}, ""},
		{"compress", map[string]any{"algorithms": []any{"gzip", "deflate"}}, "config.algorithms[1]"},
		{"compress", map[string]any{"algorithms": []any{"gzip", "br", "gzip"}}, "config.algorithms[2]"},
		{"compress", map[string]any{"types": []any{"text/*", "html"}}, "config.types[1]"},
		{"compress", map[string]any{"types": slices.Repeat([]any{"text/html"}, 257)}, "config.types"},
		{"compress", map[string]any{"min_bytes": float64(1<<30 + 1)}, "config.min_bytes"},
		{"ext_auth", map[string]any{"service_id": "s"}, ""},
		{"ext_auth", map[string]any{
			"service_id": "s", "path": "/check", "timeout": "300ms", "request_headers": []any{"Cookie"},
			"response_headers": []any{"X-User"},
			"on_error":         "allow", "cache": map[string]any{"ttl": "10s", "key": []any{"cookie", ":path"}},
			"principal": map[string]any{"consumer": "X-User", "groups": "X-Groups"},
		}, ""},
		{"ext_auth", nil, "config.service_id"},
		{"ext_auth", map[string]any{"serviceId": "s"}, "config.serviceId"},
		{"ext_auth", map[string]any{
			"service_id": "s", "request_headers": []any{"X-Forwarded-For"},
		}, "config.request_headers[0]"},
		{"ext_auth", map[string]any{
			"service_id": "s", "response_headers": []any{"Client-Cert"},
		}, "config.response_headers[0]"},
		{"ext_auth", map[string]any{
			"service_id": "s", "cache": map[string]any{"ttl": "1s", "key": []any{":client"}},
		}, ""},
		{"ext_auth", map[string]any{
			"service_id": "s", "cache": map[string]any{"ttl": "1s", "key": []any{"Client-Cert"}},
		}, "config.cache.key[0]"},
		{"ext_auth", map[string]any{"service_id": "s", "path": "check"}, "config.path"},
		{"ext_auth", map[string]any{"service_id": "s", "path": "/a?b"}, "config.path"},
		{"ext_auth", map[string]any{"service_id": "s", "timeout": "2m"}, "config.timeout"},
		{"ext_auth", map[string]any{
			"service_id": "s", "request_headers": []any{"Content-Length"},
		}, "config.request_headers[0]"},
		{"ext_auth", map[string]any{
			"service_id": "s", "response_headers": []any{":path"},
		}, "config.response_headers[0]"},
		{"ext_auth", map[string]any{"service_id": "s", "on_error": "maybe"}, "config.on_error"},
		{"ext_auth", map[string]any{"service_id": "s", "max_body_bytes": float64(1<<20 + 1)}, "config.max_body_bytes"},
		{"ext_auth", map[string]any{"service_id": "s", "cache": map[string]any{}}, "config.cache.ttl"},
		{"ext_auth", map[string]any{"service_id": "s", "cache": map[string]any{"ttl": "2h"}}, "config.cache.ttl"},
		{"ext_auth", map[string]any{
			"service_id": "s", "cache": map[string]any{"ttl": "1s", "key": []any{":scheme"}},
		}, "config.cache.key[0]"},
		{"ext_auth", map[string]any{
			"service_id": "s", "max_body_bytes": 1.0, "cache": map[string]any{"ttl": "1s"},
		}, "config.cache"},
		{"ext_auth", map[string]any{
			"service_id": "s", "principal": map[string]any{"consumer": "a b"},
		}, "config.principal.consumer"},
		{"ext_auth", map[string]any{
			"service_id": "s", "facts": map[string]any{"tenant": "X-Tenant"},
		}, ""},
		{"ext_auth", map[string]any{"service_id": "s", "facts": map[string]any{"Tenant": "X-Tenant"}}, "config.facts"},
		{
			"ext_auth", map[string]any{"service_id": "s", "facts": map[string]any{"tenant": "a b"}},
			"config.facts.tenant",
		},
		{"ext_auth", map[string]any{
			"service_id": "s", "protocol": "grpc", "context_extensions": map[string]any{"a": "b"},
			"cache": map[string]any{"ttl": "1s", "key": []any{"cookie"}},
		}, ""},
		{"ext_auth", map[string]any{"service_id": "s", "protocol": "grcp"}, "config.protocol"},
		{"ext_auth", map[string]any{"service_id": "s", "protocol": "grpc", "path": "/check"}, "config.path"},
		{"ext_auth", map[string]any{
			"service_id": "s", "protocol": "grpc", "cache": map[string]any{"ttl": "1s"},
		}, "config.cache.key"},
		{"ext_auth", map[string]any{
			"service_id": "s", "context_extensions": map[string]any{"a": "b"},
		}, "config.context_extensions"},
		{"security_headers", nil, ""},
		{"security_headers", map[string]any{
			"strict_transport_security": map[string]any{"max_age": "17520h", "include_subdomains": true, "preload": true},
			"frame_options":             "sameorigin", "content_type_options": "off",
			"referrer_policy": "no-referrer, strict-origin", "content_security_policy": "default-src 'self'", "override": true,
		}, ""},
		{"security_headers", map[string]any{
			"strict_transport_security": map[string]any{"max_age": "3y"},
		}, "config.strict_transport_security.max_age"},
		{"security_headers", map[string]any{
			"strict_transport_security": map[string]any{"preload": true},
		}, "config.strict_transport_security.preload"},
		{"security_headers", map[string]any{"frame_options": "allow"}, "config.frame_options"},
		{"security_headers", map[string]any{"content_type_options": "sniff"}, "config.content_type_options"},
		{"security_headers", map[string]any{"referrer_policy": "none"}, "config.referrer_policy"},
		{"security_headers", map[string]any{"content_security_policy": "a\r\nb: c"}, "config.content_security_policy"},
		{"decompress", nil, ""},
		{"decompress", map[string]any{
			"algorithms": []any{"zstd"}, "max_bytes": float64(1 << 40), "max_ratio": 1.0,
		}, ""},
		{"decompress", map[string]any{"algorithms": []any{"identity"}}, "config.algorithms[0]"},
		{"decompress", map[string]any{"max_bytes": -1.0}, "config.max_bytes"},
		{"decompress", map[string]any{"max_bytes": float64(1<<40 + 1)}, "config.max_bytes"},
		{"decompress", map[string]any{"max_ratio": float64(1<<20 + 1)}, "config.max_ratio"},
		{"nothing", nil, "type"},
	} {
		cfg, err := structpb.NewStruct(c.config)
		if err != nil {
			t.Fatal(err)
		}
		_, errs := Parse(c.typ, cfg)
		switch {
		case c.field == "" && len(errs) > 0:
			t.Errorf("%s %v: %v", c.typ, c.config, errs)
		case c.field != "" && (len(errs) != 1 || errs[0].Field != c.field):
			t.Errorf("%s %v: got %v, want one error at %s", c.typ, c.config, errs, c.field)
		}
	}
}

// rbacRules are the settings of rbac with some rules.
func rbacRules(rules ...map[string]any) map[string]any {
	list := make([]any, len(rules))
	for i, r := range rules {
		list[i] = r
	}
	return map[string]any{"rules": list}
}

// TestMethodsOfRules are written as they are compared.
func TestMethodsOfRules(t *testing.T) {
	cfg, err := structpb.NewStruct(rbacRules(map[string]any{"methods": []any{"get", "Post", "brew"}}))
	if err != nil {
		t.Fatal(err)
	}
	Normalise("rbac", cfg)
	m, errs := Parse("rbac", cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if got := m.(*middlewarev1.Rbac).GetRules()[0].GetMethods(); !slices.Equal(got, []string{"GET", "POST", "brew"}) {
		t.Errorf("%q", got)
	}
}

func TestUnmappedPrefix(t *testing.T) {
	if p, err := ParsePrefix("::ffff:10.0.0.0/104"); err != nil || p.String() != "10.0.0.0/8" {
		t.Errorf("got %v, %v", p, err)
	}
}

// Errors come in the same order each time: what is told of a configuration does not change by itself.
func TestErrorsKeepTheirOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		config map[string]any
		want   []string
	}{
		{"unknown settings", map[string]any{"service": "s", "body": 1, "ttl": "1s"}, []string{
			"config.body", "config.service", "config.ttl",
		}},
		{"wrong fields", map[string]any{
			"service_id": "s", "principal": map[string]any{"consumer": "a b", "groups": "c d", "scopes": "e f"},
		}, []string{"config.principal.consumer", "config.principal.groups", "config.principal.scopes"}},
	} {
		config, err := structpb.NewStruct(c.config)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			var fields []string
			_, errs := Parse("ext_auth", config)
			for _, e := range errs {
				fields = append(fields, e.Field)
			}
			if !slices.Equal(fields, c.want) {
				t.Errorf("%s: got %q, want %q", c.name, fields, c.want)
				break
			}
		}
	}
}
