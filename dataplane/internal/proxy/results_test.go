package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/waittest"
)

// resultLog records the results of a service's attempts.
type resultLog struct {
	mu  sync.Mutex
	all []string
}

func (o *resultLog) Ended(r *upstream.Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := fmt.Sprintf("%s %d", r.Kind, r.Status)
	if r.Endpoint == nil || r.Begun.IsZero() || r.Took < 0 {
		text += " of nobody"
	}
	o.all = append(o.all, text)
}

func (o *resultLog) list() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all)
}

// heard has the results of the node's service recorded.
func heard(g *gateway) *resultLog {
	o := &resultLog{}
	g.services.Get(g.serviceID()).Observe(o)
	return o
}

// TestResultsOfAttempts has each attempt's end told once, as what it was.
func TestResultsOfAttempts(t *testing.T) {
	for _, c := range []struct {
		name, path, extra string
		want              []string
	}{
		{"a good response", "/status/200", "", []string{"answered 200"}},
		{"an error of the service's", "/status/503", "", []string{"answered 503"}},
		{"a body without end", "/endless", "", []string{"answered 200"}},
		{"broken off before the response", "/silent", "", []string{"reset 0"}},
		{"broken off within the response", "/half", "", []string{"reset 200"}},
		{"a response that is none", "/nonsense", "", []string{"invalid 0"}},
		{"no response in time", "/never", ", timeout: 300ms", []string{"timed-out 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, to(scripted(t, misbehave), c.extra))
			o := heard(g)
			for range 2 { // the second on a connection that is there already, where the first leaves one
				readAll(t, g, "GET "+c.path+" HTTP/1.0\r\nHost: a\r\n\r\n")
			}
			both := append(slices.Clone(c.want), c.want...)
			waittest.Until(t, "both results", func() bool { return len(o.list()) >= len(both) })
			g.end()
			if got := o.list(); !slices.Equal(got, both) {
				t.Errorf("got %q, want %q", got, both)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		g := start(t, to(ln.Addr().String(), ""))
		o := heard(g)
		if res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; res.StatusCode != 502 {
			t.Errorf("status %d", res.StatusCode)
		}
		want := []string{"connect-failed 0", "connect-failed 0", "connect-failed 0"}
		waittest.Until(t, "three results", func() bool { return len(o.list()) >= len(want) })
		if got := o.list(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("the client leaves", func(t *testing.T) {
		lookOften(t)
		asked := make(chan struct{}, 1)
		g := start(t, to(scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if readRequest(r) {
				asked <- struct{}{}
				_, _ = r.ReadByte()
			}
		}), ""))
		o := heard(g)
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		waittest.Receive(t, "the request", asked)
		c.Close()
		waittest.Until(t, "the result", func() bool { return len(o.list()) > 0 })
		if got := o.list(); !slices.Equal(got, []string{"canceled 0"}) {
			t.Errorf("got %q", got)
		}
	})
}

// misbehave answers as the path asks for.
func misbehave(_ int, c net.Conn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		what, status, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
		switch what {
		case "status":
			fmt.Fprintf(c, "HTTP/1.1 %s Status\r\nContent-Length: 1\r\n\r\n.", status)
			continue
		case "endless":
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n1\r\n.\r\n0\r\n\r\n")
			continue
		case "half":
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat(".", 5000))
		case "nonsense":
			fmt.Fprint(c, "HTTP/1.1 2 OK\r\n\r\n")
		case "never":
			_, _ = r.ReadByte()
		}
		return
	}
}

// readAll sends text and reads until the connection ends.
func readAll(t *testing.T, g *gateway, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(c)
	return string(all)
}

// TestResultsOfCalls has calls of gRPC count by their grpc-status, wherever in a response that is.
func TestResultsOfCalls(t *testing.T) {
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		where, status, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		w.Header().Set("Content-Type", "application/grpc")
		if where == "head" {
			w.Header().Set("Grpc-Status", status)
			return
		}
		_, _ = w.Write(frame(0, nil))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
		if where == "cut" {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	service.Config.Protocols = &http.Protocols{}
	service.Config.Protocols.SetUnencryptedHTTP2(true)
	service.Start()
	t.Cleanup(service.Close)
	g := start(t, speaking("grpc", service.Listener.Addr().String(), ""))
	o := heard(g)
	var want []string
	for _, mediaType := range []string{"application/grpc", "application/grpc-web"} {
		for _, c := range []struct{ path, want string }{
			{"/head/0", "answered 200"}, {"/head/14", "answered 503"}, {"/head/5", "answered 200"},
			{"/trailers/0", "answered 200"}, {"/trailers/14", "answered 503"}, {"/trailers/13", "answered 500"},
			{"/cut/0", "reset 200"},
		} {
			req, err := http.NewRequest("POST", "http://"+g.address+c.path, strings.NewReader(string(frame(0, nil))))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", mediaType)
			client := &http.Client{Transport: &http.Transport{Protocols: service.Config.Protocols, DisableKeepAlives: true}}
			if res, err := client.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			want = append(want, c.want)
			waittest.Until(t, "the result", func() bool { return len(o.list()) >= len(want) })
			if got := o.list(); !slices.Equal(got, want) {
				t.Fatalf("%s as %s: got %q, want %q", c.path, mediaType, got[len(want)-1:], c.want)
			}
		}
	}
}
