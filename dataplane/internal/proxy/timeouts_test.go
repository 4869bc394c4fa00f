package proxy

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"
)

// TestDeadlineHeader tells services how much time is left, and believes clients only where the policy has that.
func TestDeadlineHeader(t *testing.T) {
	for _, c := range []struct {
		name, policy, client string
		limit                int // what is left at most, in milliseconds; -1: nothing is said
	}{
		{"the timeout", "timeout: 10s", "", 10_000},
		{"no limit", "accept_deadline: false", "", -1},
		{"a client that is not believed", "timeout: 10s", "5000", 10_000},
		{"a client without a limit that is not believed", "accept_deadline: false", "5000", -1},
		{"a client that is believed", "timeout: 10s, accept_deadline: true", "5000", 5_000},
		{"a client that is believed without a limit", "accept_deadline: true", "5000", 5_000},
		{"a client that waits longer", "timeout: 10s, accept_deadline: true", "60000", 10_000},
		{"nonsense", "timeout: 10s, accept_deadline: true", "-3", 10_000},
		{"the time for one attempt", "timeout: 10s, retry: {per_try_timeout: 3s}", "", 3_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				s := trouble(t, version, protocol, "deadline_header: X-Time, "+c.policy,
					func(_ int32, _ string, w http.ResponseWriter, r *http.Request) {
						_, _ = fmt.Fprint(w, r.Header["X-Time"])
					})
				for range 2 {
					req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/", nil)
					if err != nil {
						t.Fatal(err)
					}
					if c.client != "" {
						req.Header.Set("X-Time", c.client)
					}
					begun := time.Now()
					got, n := s.do(req), 0
					if c.limit < 0 {
						if got != "200 []" {
							t.Errorf("got %q", got)
						}
						continue
					}
					least := c.limit - int(time.Since(begun).Milliseconds()) - 100 // clocks of the node are a little behind
					if _, err := fmt.Sscanf(got, "200 [%d]", &n); err != nil || n < least || n > c.limit {
						t.Errorf("got %q, want %d to %d", got, least, c.limit)
					}
				}
			})
		})
	}
}

// TestWhichTimeout tells which limit there was.
func TestWhichTimeout(t *testing.T) {
	for policy, want := range map[string]string{
		"timeout: 100ms":                  "the request took longer than its timeout allows",
		"retry: {per_try_timeout: 100ms}": "did not answer within per_try_timeout",
		"response_header_timeout: 100ms":  "within response_header_timeout",
		"retry: {per_try_timeout: 300ms}": "did not answer within per_try_timeout",
		"response_header_timeout: 300ms":  "within response_header_timeout",
	} {
		eachPair(t, func(t *testing.T, version, protocol string) {
			s := trouble(t, version, protocol, policy, func(_ int32, _ string, _ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
			})
			got := s.ask("GET", "/", nil)
			if !regexp.MustCompile(`^504 .*"code":"UPSTREAM_TIMEOUT","message":"[^"]*` + want).MatchString(got) {
				t.Errorf("%s: got %q", policy, got)
			}
		})
	}
}
