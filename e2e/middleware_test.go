package e2e

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// portOf starts a service and returns its port.
func portOf(t testing.TB, handler http.HandlerFunc) (port string) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// TestOtherServicesOfARoute applies a route whose requests one service decides about, another answers and a third gets
// copies of, with compressed responses, through the control plane, and asks a node.
func TestOtherServicesOfARoute(t *testing.T) {
	g := newGateway(t)
	n := g.node("n1")
	page := strings.Repeat("0123456789abcdef", 256)
	shop := portOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s got %q\n%s", r.Header.Get("X-User"), body, page)
	})
	copies := make(chan string, 100)
	next := portOf(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		copies <- fmt.Sprintf("%s %s of %s with %q", r.Method, r.URL, r.Header.Get("X-User"), body)
	})
	sessions := portOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/check" || r.Header.Get("X-Forwarded-Uri") != "/shop/cart?n=1" {
			t.Errorf("it was asked for %s about %s", r.URL, r.Header.Get("X-Forwarded-Uri"))
		}
		if r.Header.Get("Cookie") != "session=ann" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-User", "ann")
	})
	config := fmt.Sprintf(`services:
  - {name: shop, endpoints: [{host: 127.0.0.1, port: %s}]}
  - {name: next, endpoints: [{host: 127.0.0.1, port: %s}]}
  - {name: sessions, endpoints: [{host: 127.0.0.1, port: %s}]}
middleware:
  - {name: compress, type: compress, order: 1}
  - name: signed-in
    type: ext_auth
    order: 2
    config: {service_id: sessions, path: /check, request_headers: [Cookie], response_headers: [X-User]}
pipelines:
  - {name: front, middleware_ids: [compress, signed-in]}
routes:
  - {name: shop, path: /shop/*, service_id: shop, pipeline_id: front, mirror: {service_id: next}}
`, shop, next, sessions)
	if out := g.must(config, "apply", "-f", "-"); !strings.Contains(out, "revision 1: 7 created") {
		t.Errorf("apply:\n%s", out)
	}
	if out := g.must("", "export"); g.mustReapply(out) {
		t.Errorf("applying what was exported changes something:\n%s", out)
	}
	if out, code := g.ctl("", "delete", "service", "sessions"); code == 0 || !strings.Contains(out, "signed-in") {
		t.Errorf("a service that a middleware asks can be deleted: exit code %d\n%s", code, out)
	}
	n.runs(1)

	// ask posts "two" and returns the status, the coding and the decoded body.
	ask := func(cookie string) (status int, coding, text string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.http+"/shop/cart?n=1", strings.NewReader("two"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", "session="+cookie)
		r.Header.Set("X-User", "root")
		r.Header.Set("Accept-Encoding", "gzip")
		client := &http.Client{Timeout: waittest.Limit}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		coding, body := res.Header.Get("Content-Encoding"), io.Reader(res.Body)
		if coding == "gzip" {
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, coding, string(data)
	}
	if status, _, text := ask("bob"); status != 401 {
		t.Errorf("without a session: %d %s", status, text)
	}
	want := "ann got \"two\"\n" + page
	if status, coding, text := ask("ann"); status != 200 || coding != "gzip" || text != want {
		t.Errorf("with a session: %d %q %s", status, coding, text)
	}
	// The first copy is of the second request: what is refused is not copied.
	if got := waittest.Receive(t, "a copy", copies); got != `POST /shop/cart?n=1 of ann with "two"` {
		t.Errorf("copied was %s", got)
	}

	// Without its pipeline nobody is asked, and nothing is compressed.
	g.must("routes: [{name: shop, path: /shop/*, service_id: shop}]", "apply", "-f", "-")
	n.runs(2)
	if status, coding, text := ask("bob"); status != 200 || coding != "" || text != "root got \"two\"\n"+page {
		t.Errorf("without the pipeline: %d %q %s", status, coding, text)
	}
}
