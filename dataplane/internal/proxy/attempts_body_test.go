package proxy

import (
	"io"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// parts is a body whose parts come as the test sends them.
func parts() (body io.Reader, send chan<- string) {
	r, w := io.Pipe()
	ch := make(chan string)
	go func() {
		for part := range ch {
			if _, err := io.WriteString(w, part); err != nil {
				break
			}
		}
		_ = w.Close()
		for range ch { // nobody takes it any more
		}
	}()
	return r, ch
}

// TestBodyOfTwoAttempts sends a body to both, as far as it is kept; where it is longer, one of them alone gets all of
// it.
func TestBodyOfTwoAttempts(t *testing.T) {
	const kept = 100 << 10
	within, beyond := strings.Repeat("within ", 10<<10), strings.Repeat("beyond! ", 40<<10)
	t.Run("within the limit", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, hedges(time.Nanosecond, kept, 0))
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- "first "
			one, two := r.call("the first attempt"), r.call("the second attempt")
			send <- within
			close(send)
			for _, c := range []*rivalCall{one, two} {
				if b := waittest.Receive(t, "the body", c.body); b != "first "+within {
					t.Errorf("an attempt got %d bytes: %.20q", len(b), b)
				}
			}
			two.answer <- "two"
			if a := waittest.Receive(t, "the response", got); a.text != "200 two" {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(1, 0, 1, 0)
			r.over()
		})
	})
	t.Run("after the first one has failed", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, hedges(time.Hour, kept, config.RetryReset))
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- within
			close(send)
			one := r.call("the first attempt")
			waittest.Receive(t, "the body", one.body)
			one.answer <- ""
			two := r.call("the second attempt")
			if b := waittest.Receive(t, "the body", two.body); b != within {
				t.Errorf("the second attempt got %d bytes: %.20q", len(b), b)
			}
			two.answer <- "two"
			if a := waittest.Receive(t, "the response", got); a.text != "200 two" {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(1, 1, 0, 0)
			r.over()
		})
	})
	t.Run("both fail while it comes", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, soon)
			body, send := parts()
			defer close(send)
			got := r.ask("PUT", "/broken%20off", body)
			send <- "first "
			r.call("the first attempt")
			r.call("the second attempt")
			if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, "502") {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(0, 2, 0, 0)
			r.over()
		})
	})
	t.Run("longer than the limit, both under way", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, hedges(time.Nanosecond, kept, 0))
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- "first "
			calls := []*rivalCall{r.call("the first attempt"), r.call("the second attempt")}
			for range 3 {
				send <- beyond
			}
			close(send)
			whole := 0
			for _, c := range calls {
				switch b := waittest.Receive(t, "the body", c.body); {
				case b == "first "+strings.Repeat(beyond, 3):
					whole++
					c.answer <- "whole"
				case b != "cut":
					t.Errorf("an attempt got %d bytes as the whole body", len(b))
				}
			}
			if whole != 1 {
				t.Errorf("%d attempts got the whole body", whole)
			}
			if a := waittest.Receive(t, "the response", got); a.text != "200 whole" {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(1, 0, 1, 0)
			r.over()
		})
	})
	t.Run("longer than the limit, before the second one", func(t *testing.T) {
		eachPair(t, func(t *testing.T, version, protocol string) {
			r := startRace(t, version, protocol, hedges(time.Hour, kept, config.RetryReset))
			body, send := parts()
			got := r.ask("PUT", "/", body)
			send <- beyond
			close(send)
			one := r.call("the first attempt")
			if b := waittest.Receive(t, "the body", one.body); b != beyond {
				t.Errorf("the first attempt got %d bytes", len(b))
			}
			one.answer <- ""
			if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, "502") {
				t.Errorf("the client got %q, %v", a.text, a.err)
			}
			r.came(0, 1, 0, 1)
			r.over()
		})
	})
}
