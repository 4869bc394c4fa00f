package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestBufferedRequests sends bodies piece by piece: the service is asked when all is there, or too much for that.
func TestBufferedRequests(t *testing.T) {
	asked := make(chan string, 9)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(service.Close)
	host, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	g := start(t, fmt.Sprintf(`
services: [{name: s, endpoints: [{host: %s, port: %s}]}]
policies:
  - {name: whole, buffer_request: {max_bytes: 10}}
  - {name: stream, buffer_request: {max_bytes: 10, larger: stream}}
routes:
  - {name: whole, path: /whole, service_id: s, policy_id: whole}
  - {name: stream, path: /stream, service_id: s, policy_id: stream}
`, host, port))
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		client := clientOf(t, version)
		for _, c := range []struct {
			path   string
			parts  []string
			length int64 // -1: not told
			status int
			early  bool // the service is asked before the end
		}{
			{"/whole", []string{"abc", "def"}, -1, 200, false},
			{"/whole", []string{"abc", "def"}, 6, 200, false},
			{"/whole", []string{"abcdefghij"}, 10, 200, false},
			{"/whole", []string{"abcdefgh", "ijk"}, -1, 413, false},
			{"/whole", []string{"abcdefgh", "ijk"}, 11, 413, false},
			{"/stream", []string{"abc", "def"}, -1, 200, false},
			{"/stream", []string{"abcdefgh", "ijklmn", "o"}, -1, 200, true},
			{"/stream", []string{"abcdefgh", "ijk"}, 11, 200, true},
		} {
			name := fmt.Sprint(version, " ", c.path, " ", c.parts, " ", c.length)
			r, w := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address+c.path, r)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = c.length
			type result struct {
				status int
				text   string
			}
			done := make(chan result, 1)
			go func() {
				res, err := client.Do(req)
				if err != nil {
					done <- result{0, err.Error()}
					return
				}
				defer res.Body.Close()
				text, _ := io.ReadAll(res.Body)
				done <- result{res.StatusCode, string(text)}
			}()
			for i, part := range c.parts {
				if i == len(c.parts)-1 && i > 0 && !c.early {
					select {
					case what := <-asked:
						t.Errorf("%s: the service is asked before the end: %s", name, what)
					default:
					}
				}
				if _, err := io.WriteString(w, part); err != nil {
					break // it is refused
				}
			}
			if c.early {
				if what := waittest.Receive(t, "the service is asked before the end", asked); !strings.Contains(what, c.path) {
					t.Errorf("%s: %s", name, what)
				}
			}
			_ = w.Close()
			got := waittest.Receive(t, "the response", done)
			if got.status != c.status || c.status == 200 && got.text != strings.Join(c.parts, "") {
				t.Errorf("%s: %d %s", name, got.status, got.text)
			}
			if c.status == 200 && !c.early {
				waittest.Receive(t, "the service is asked", asked)
			}
		}
	}
	if len(asked) > 0 {
		t.Errorf("the service was asked for what is refused: %s", <-asked)
	}
}
