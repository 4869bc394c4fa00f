package health

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// checkOf fills in the defaults of a check.
func checkOf(h *configv1.HealthCheckConfig) config.HealthCheck {
	if h.GetTimeout() == "" {
		h.Timeout, h.Interval = waittest.Limit.String(), waittest.Limit.String()
	}
	return *config.ServiceSettingsOf(&configv1.Service{HealthCheckConfig: h}).Check
}

func TestHTTPChecksLookAtMethodFieldsStatusAndBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("X-Probe"), r.UserAgent())
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/long":
			fmt.Fprint(w, strings.Repeat(" ", maxBodyBytes-1), "ok")
		}
	}))
	defer server.Close()
	text := func(s string) *configv1.HealthCheckMatch { return &configv1.HealthCheckMatch{Contains: s} }
	for _, c := range []struct {
		name  string
		check *configv1.HealthCheckConfig
		want  string
	}{
		{"a field and the method", &configv1.HealthCheckConfig{Path: "/echo", Method: "POST",
			Headers: map[string]string{"X-Probe": "7"}, Match: text("POST 7 gateway-health-check")}, ""},
		{"the agent", &configv1.HealthCheckConfig{Path: "/echo", Headers: map[string]string{"User-Agent": "x"},
			Match: text("GET  x")}, ""},
		{"another text", &configv1.HealthCheckConfig{Path: "/echo", Match: text("PUT")},
			`the answer does not have the text "PUT" in its first 25 bytes`},
		{"an expression", &configv1.HealthCheckConfig{Path: "/echo",
			Match: &configv1.HealthCheckMatch{Regex: "^GET .*check$"}}, ""},
		{"another expression", &configv1.HealthCheckConfig{Path: "/echo", Match: &configv1.HealthCheckMatch{Regex: "^POST"}},
			`the answer does not match "^POST" in its first 25 bytes`},
		{"no body", &configv1.HealthCheckConfig{Path: "/", Match: text("x")},
			`the answer does not have the text "x" in its first 0 bytes`},
		{"a text that ends beyond what is read", &configv1.HealthCheckConfig{Path: "/long", Match: text("ok")},
			`the answer does not have the text "ok" in its first 65536 bytes`},
		{"a text that begins at its end", &configv1.HealthCheckConfig{Path: "/long", Match: text(" o")}, ""},
		{"a status out of range", &configv1.HealthCheckConfig{Path: "/teapot", StatusRanges: []string{"200-299"}},
			"status 418"},
		{"a status in range", &configv1.HealthCheckConfig{Path: "/teapot", StatusRanges: []string{"200-299", "410-420"}}, ""},
	} {
		err := newProbe()(t.Context(), at(t, server.Listener.Addr().String(), checkOf(c.check)))
		if got := errorText(err); got != c.want {
			t.Errorf("%s: %q instead of %q", c.name, got, c.want)
		}
	}
}

// A server that answers each line, or says something by itself.
func TestTCPChecksAskAndMatch(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				line, _ := bufio.NewReader(conn).ReadString('\n')
				switch line {
				case "PING\r\n":
					for _, part := range []string{"+PO", "NG\r\n"} {
						_, _ = conn.Write([]byte(part))
					}
					_, _ = bufio.NewReader(conn).ReadString('\n') // it keeps the connection open
				case "BYE\r\n":
					_, _ = conn.Write([]byte("bye"))
				default:
					_, _ = bufio.NewReader(conn).ReadString('\n') // it says nothing
				}
			}()
		}
	}()
	for _, c := range []struct {
		name, send string
		match      *configv1.HealthCheckMatch
		timeout    time.Duration
		want       string
	}{
		{"the answer in two parts", "PING\r\n", &configv1.HealthCheckMatch{Contains: "PONG"}, waittest.Limit, ""},
		{"another answer, and the end", "BYE\r\n", &configv1.HealthCheckMatch{Regex: "PONG"}, waittest.Limit,
			`the answer does not match "PONG" in its first 3 bytes`},
		{"no answer", "x\n", &configv1.HealthCheckMatch{Contains: "x"}, 100 * time.Millisecond, "no answer within 100ms"},
		{"only something sent", "PING\r\n", nil, waittest.Limit, ""},
	} {
		check := checkOf(&configv1.HealthCheckConfig{Type: "tcp", Send: c.send, Match: c.match})
		check.Timeout = c.timeout
		ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
		err := newProbe()(ctx, at(t, listener.Addr().String(), check))
		cancel()
		if got := errorText(err); got != c.want {
			t.Errorf("%s: %q instead of %q", c.name, got, c.want)
		}
	}
}
