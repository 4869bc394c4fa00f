package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// Errors look as the route's policy, its service's or the global one says, and where none says anything as before; also
// those of requests that no route takes.
func TestErrorPages(t *testing.T) {
	service := newMixedServer(t, func(http.ResponseWriter, *http.Request) {})
	services := strings.Replace(speaking("http", service, ""), "name: s,", "name: s, policy_id: of-service,", 1)
	g := start(t, services+`---
routes:
  - {name: small, path: /small, service_id: s, policy_id: of-route}
  - {name: closed, path: /closed, service_id: s, pipeline_id: closed}
policies:
  - {name: of-route, max_request_bytes: 1, errors: [{codes: [REQUEST_TOO_LARGE], bodies: [{content_type: text/plain, body: "too large for ${route}"}]}]}
  - {name: of-service, errors: [{statuses: ["403"], bodies: [{content_type: text/html, body: "<p>${request.path} ${request.id}"}]}]}
  - name: everywhere
    global: true
    errors:
      - statuses: [4xx]
        bodies:
          - {content_type: application/problem+json, body: '{"title": "${error.message}", "status": ${response.status}}'}
          - {content_type: application/json}
middleware: [{name: nobody, type: ip_restriction, config: {allow: [192.0.2.1]}}]
pipelines: [{name: closed, middleware_ids: [nobody]}]
`)
	large := "Content-Length: 3\r\n\r\nabc"
	for _, c := range []struct{ request, mediaType, body string }{
		{"POST /small HTTP/1.1\r\nHost: a\r\n" + large, "text/plain; charset=utf-8", "too large for small"},
		{"GET /closed HTTP/1.1\r\nHost: a\r\nX-Request-Id: i<d\r\n\r\n", "text/html; charset=utf-8", "<p>/closed "},
		{"GET /closed HTTP/1.1\r\nHost: a\r\nX-Request-Id: i-d\r\n\r\n", "text/html; charset=utf-8", "<p>/closed i-d"},
		{"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", "application/problem+json", `"status": 400}`},
		{"GET /x\r\n\r\n", "application/problem+json", `"status": 400}`},
		{"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nX_Forwarded_For: 1\r\n\r\n", "application/problem+json", `"status": 400}`},
		{"GET /../x HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n", "application/json", `{"success":false`},
	} {
		res := g.raw(c.request, "GET")[0]
		if text := body(t, res); res.Header.Get("Content-Type") != c.mediaType || !strings.Contains(text, c.body) {
			t.Errorf("%q: %d %s\n%s", c.request, res.StatusCode, res.Header.Get("Content-Type"), text)
		}
	}
	// Another global policy changes routes that did not.
	g.apply(services + "---\npolicies: [{name: of-service}, {name: everywhere, global: true, errors: [{bodies: [{content_type: text/plain, body: all}]}]}]\nmiddleware: [{name: nobody, type: ip_restriction, config: {allow: [192.0.2.1]}}]\npipelines: [{name: closed, global: true, middleware_ids: [nobody]}]\n")
	if text := body(t, g.raw("GET /any HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]); text != "all" {
		t.Errorf("after the change: %s", text)
	}
}
