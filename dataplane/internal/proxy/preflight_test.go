package proxy

import (
	"fmt"
	"testing"
)

// TestPreflights asks for requests to routes that are told apart by their methods, of which each has its own cors or
// none.
func TestPreflights(t *testing.T) {
	g := start(t, `
routes:
  - {name: read, path: /a, methods: [GET], pipeline_id: readers, direct_response: {body: read}}
  - {name: write, path: /a, methods: [POST, PUT], pipeline_id: writers, direct_response: {body: write}}
  - {name: remove, path: /a, methods: [DELETE], direct_response: {body: remove}}
  - {name: item, path: "/items/{id}", methods: [PATCH], pipeline_id: writers, direct_response: {body: item}}
  - {name: all, path: /all/*, pipeline_id: writers, direct_response: {body: all}}
  - {name: own, path: /own, methods: [OPTIONS], direct_response: {body: own}}
  - {name: own-post, path: /own, methods: [POST], pipeline_id: writers, direct_response: {body: own-post}}
  - {name: own-below, path: /own/*, methods: [OPTIONS], direct_response: {body: own-below}}
  - {name: own-exact, path: /own/x, methods: [POST], pipeline_id: writers, direct_response: {body: own-exact}}
  - {name: elsewhere, path: /there, methods: [POST], pipeline_id: writers, redirect: {host: b.test}}
middleware:
  - {name: readers, type: cors, config: {allow_origins: ["https://reader.test"]}}
  - {name: writers, type: cors, config: {allow_origins: ["https://writer.test"]}}
pipelines:
  - {name: readers, middleware_ids: [readers]}
  - {name: writers, middleware_ids: [writers]}
`)
	for _, c := range []struct {
		path, asked, origin string
		status              int
		allowed, methods    string
	}{
		{"/a", "POST", "https://writer.test", 204, "https://writer.test", "POST, PUT"},
		{"/a", "PUT", "https://writer.test", 204, "https://writer.test", "POST, PUT"},
		{"/a", "POST", "https://reader.test", 204, "", ""},
		{"/a", "GET", "https://reader.test", 204, "https://reader.test", "GET"},
		{"/a", "DELETE", "https://writer.test", 404, "", ""}, // that route has no cors
		{"/a", "PATCH", "https://writer.test", 404, "", ""},
		{"/a", "", "https://writer.test", 404, "", ""}, // no preflight
		{"/a", "POST", "", 404, "", ""},
		{"/items/7", "PATCH", "https://writer.test", 204, "https://writer.test", "PATCH"},
		{"/all/x", "POST", "https://writer.test", 204, "https://writer.test", "GET, HEAD, POST"},
		{"/all/x", "", "https://writer.test", 200, "https://writer.test", ""},
		{"/own", "POST", "https://writer.test", 200, "", ""}, // the route that names OPTIONS has it
		{"/own/x", "POST", "https://writer.test", 204, "https://writer.test", "POST"},
		{"/own/y", "POST", "https://writer.test", 200, "", ""},
		{"/there", "POST", "https://writer.test", 204, "https://writer.test", "POST"},
	} {
		fields := ""
		if c.origin != "" {
			fields += "Origin: " + c.origin + "\r\n"
		}
		if c.asked != "" {
			fields += "Access-Control-Request-Method: " + c.asked + "\r\n"
		}
		res := g.raw(fmt.Sprintf("OPTIONS %s HTTP/1.1\r\nHost: a.test\r\n%s\r\n", c.path, fields), "OPTIONS")[0]
		if res.StatusCode != c.status || res.Header.Get("Access-Control-Allow-Origin") != c.allowed || res.Header.Get("Access-Control-Allow-Methods") != c.methods {
			t.Errorf("%s for %q from %q: %d %v", c.path, c.asked, c.origin, res.StatusCode, res.Header)
		}
	}
}
