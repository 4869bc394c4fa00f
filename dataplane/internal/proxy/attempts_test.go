package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// soon has the second attempt begin at once, onFailure only when the first one has failed, and onBad also where its
// response is not good.
var (
	soon      = hedges(time.Nanosecond, config.DefaultRetryBodyBytes, 0)
	onFailure = hedges(time.Hour, config.DefaultRetryBodyBytes, config.RetryReset)
	onBad     = hedges(time.Hour, config.DefaultRetryBodyBytes, config.RetryReset|config.Retry5xx)
)

// hedges is for two attempts: the second one begins after a delay, or after the first where one of some conditions is
// met.
func hedges(delay time.Duration, kept int, on config.RetryConditions) *config.Retries {
	r := &config.Retries{
		Attempts: 1, On: on, HedgeAttempts: 2, HedgeDelay: delay, KeptBytes: kept, BudgetPercent: 100, MinPerSecond: 1000,
	}
	if on != 0 {
		r.Attempts = 2
	}
	return r
}

// TestTwoAttempts has two attempts at once: the first good response is the client's, and nothing is seen of the other.
func TestTwoAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		retries  *config.Retries
		do       func(r *race, one *rivalCall)
		want     string
		outcomes [4]float64 // won, failed, canceled, refused
	}{
		"the first one wins": {soon, func(r *race, one *rivalCall) {
			two := r.call("the second attempt")
			one.answer <- "one"
			waittest.Receive(r.t, "the end of the second attempt", two.gone)
		}, "200 one", [4]float64{1, 0, 1, 0}},
		"the second one wins": {soon, func(r *race, one *rivalCall) {
			r.call("the second attempt").answer <- "two"
			waittest.Receive(r.t, "the end of the first attempt", one.gone)
		}, "200 two", [4]float64{1, 0, 1, 0}},
		"both fail": {soon, func(r *race, one *rivalCall) {
			two := r.call("the second attempt")
			one.answer <- ""
			two.answer <- ""
		}, "502", [4]float64{0, 2, 0, 0}},
		"the second one begins when the first has failed": {onFailure, func(r *race, one *rivalCall) {
			one.answer <- ""
			r.call("the second attempt").answer <- "two"
		}, "200 two", [4]float64{1, 1, 0, 0}},
		"the first response is not good": {onBad, func(r *race, one *rivalCall) {
			one.answer <- "503 one"
			r.call("the second attempt").answer <- "two"
		}, "200 two", [4]float64{1, 0, 1, 0}},
		"no response is good": {onBad, func(r *race, one *rivalCall) {
			one.answer <- "503 one"
			r.call("the second attempt").answer <- "503 two"
		}, "503 503 one", [4]float64{1, 0, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				r := startRace(t, version, protocol, c.retries)
				got := r.ask("GET", "/", nil)
				c.do(r, r.call("the first attempt"))
				if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, c.want) || a.err != nil {
					t.Errorf("the client got %q, %v, want %s", a.text, a.err, c.want)
				}
				r.came(c.outcomes[0], c.outcomes[1], c.outcomes[2], c.outcomes[3])
				r.over()
			})
		})
	}
}

// TestClientLeavesTwoAttempts ends both when the client goes away.
func TestClientLeavesTwoAttempts(t *testing.T) {
	lookOften(t)
	eachPair(t, func(t *testing.T, version, protocol string) {
		r := startRace(t, version, protocol, soon)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+r.address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan error, 1)
		go func() {
			res, err := r.client.Do(req)
			if err == nil {
				_ = res.Body.Close()
			}
			left <- err
		}()
		one, two := r.call("the first attempt"), r.call("the second attempt")
		leave()
		if err := waittest.Receive(t, "the client", left); err == nil {
			t.Error("the client got a response")
		}
		waittest.Receive(t, "the end of the first attempt", one.gone)
		waittest.Receive(t, "the end of the second attempt", two.gone)
		r.came(0, 0, 2, 0)
		r.over()
	})
}

// TestPanicInOneOfTwoAttempts ends that one alone.
func TestPanicInOneOfTwoAttempts(t *testing.T) {
	eachPair(t, func(t *testing.T, version, protocol string) {
		r := startRace(t, version, protocol, soon)
		r.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Millisecond // it will not be told
		body, send := parts()
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "PUT", "http://"+r.address+"/broken", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		got := make(chan string, 1)
		go func() {
			res, err := r.client.Do(req)
			if err != nil {
				got <- err.Error()
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			got <- fmt.Sprint(res.StatusCode, " ", string(b), err)
		}()
		one, two := r.call("the first attempt"), r.call("the second attempt")
		r.came(0, 1, 0, 0)
		send <- "body"
		close(send)
		bodies := 0
		for _, c := range []*rivalCall{one, two} {
			if b := waittest.Receive(t, "the body", c.body); b == "body" {
				bodies++
				c.answer <- "whole"
			} else if b != "cut" {
				t.Errorf("an attempt got %q", b)
			}
		}
		if bodies != 1 {
			t.Errorf("%d attempts got the body", bodies)
		}
		if text := waittest.Receive(t, "the response", got); text != "200 whole<nil>" {
			t.Errorf("the client got %q", text)
		}
		r.came(1, 1, 0, 0)
		if n := r.panics(); n != 1 {
			t.Errorf("%v panics were counted", n)
		}
		if n := strings.Count(r.log.String(), "panicked"); n != 1 {
			t.Errorf("%d lines:\n%s", n, r.log)
		}
		r.over()
	})
}

// Some requests are not hedged: those whose method is not idempotent, or whose body is longer than what is kept.
func TestHedgesAreForRepeatableRequests(t *testing.T) {
	r := startRace(t, "HTTP/1.1", "http", hedges(time.Nanosecond, 10, 0))
	for _, c := range []struct{ method, body string }{{"POST", "short"}, {"PUT", "more than ten bytes"}} {
		got := r.ask(c.method, "/", strings.NewReader(c.body))
		one := r.call("the only attempt")
		if b := waittest.Receive(t, "the body", one.body); b != c.body {
			t.Errorf("%s: the service got %q", c.method, b)
		}
		one.answer <- "one"
		if a := waittest.Receive(t, "the response", got); a.text != "200 one" {
			t.Errorf("%s: the client got %q, %v", c.method, a.text, a.err)
		}
	}
	select {
	case <-r.calls:
		t.Error("there was another attempt")
	default:
	}
	r.came(0, 0, 0, 0)
}
