package pipeline

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
)

// phased notes each phase. It waits in its own way.
type phased struct {
	step
	sometimes bool // it has to wait
	hangs     bool // until its context ends
	ended     *Outcome
	times     int
}

func (p *phased) Request(x *exchange.Exchange) exchange.Verdict {
	if p.sometimes && x.InLoop {
		p.note("?" + p.name)
		return exchange.Later
	}
	if p.hangs {
		ctx, stop := x.Context()
		defer stop()
		<-ctx.Done()
		x.Fail(fault.UpstreamTimeout, p.name)
		return exchange.Stop
	}
	return p.step.Request(x)
}

func (p *phased) End(_ *exchange.Exchange, o *Outcome) {
	p.note("=" + p.name)
	p.times++
	p.ended = o
}

func phases(m *made, names string, change func(name string, p *phased, s *NamedStep)) *Pipeline {
	p := &Pipeline{Name: names}
	for _, n := range names {
		s := &phased{step: step{name: string(n), log: &m.log, mu: &m.mu}}
		named := NamedStep{Name: string(n), Step: s}
		change(string(n), s, &named)
		p.Steps = append(p.Steps, named)
	}
	return p
}

// TestLater leaves the loop where a step has to wait, and goes on where it was.
func TestLater(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(string, *phased, *NamedStep)
		inLoop string // what runs there
		want   string // what runs once it may wait
	}{
		{"nobody waits", func(string, *phased, *NamedStep) {}, "+a +b +c +d", ""},
		{"one that always waits", func(n string, _ *phased, s *NamedStep) {
			if n == "c" {
				s.Waits = middleware.WaitsAlways
			}
		}, "+a +b", "+c +d"},
		{"one that has to wait this time", func(n string, p *phased, s *NamedStep) {
			if n == "b" {
				p.sometimes, s.Waits = true, middleware.WaitsSometimes
			}
		}, "+a ?b", "+b +c +d"},
		{"one that never has to", func(n string, _ *phased, s *NamedStep) {
			if n == "b" {
				s.Waits = middleware.WaitsSometimes
			}
		}, "+a +b +c +d", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m made
			ch := chain(phases(&m, "ab", c.change), phases(&m, "cd", c.change))
			var x exchange.Exchange
			var at Progress
			x.InLoop = true
			v := ch.Request(&x, &at)
			if got := strings.Join(m.log, " "); got != c.inLoop || (v == exchange.Later) != (c.want != "") {
				t.Errorf("in the loop: %s, %v", got, v)
			}
			if v == exchange.Later {
				m.log = nil
				x.InLoop = false
				v = ch.Request(&x, &at)
				if got := strings.Join(m.log, " "); got != c.want || v != exchange.Continue {
					t.Errorf("after it: %s, %v", got, v)
				}
			}
			m.log = nil
			ch.Response(&x, &at)
			ch.End(&x, &at, &Outcome{})
			if got := strings.Join(m.log, " "); got != "-d -c -b -a =d =c =b =a" {
				t.Errorf("the way back: %s", got)
			}
		})
	}
}

// TestTimeoutOverLater keeps the time of a pipeline that leaves its loop.
func TestTimeoutOverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m made
		p := phases(&m, "ab", func(n string, p *phased, s *NamedStep) {
			s.Waits = middleware.WaitsAlways
			p.waits = time.Minute
		})
		p.Timeout = time.Second
		ch := chain(p)
		var x exchange.Exchange
		var at Progress
		x.InLoop = true
		if v := ch.Request(&x, &at); v != exchange.Later {
			t.Fatal(v)
		}
		x.InLoop = false
		start := time.Now()
		v := ch.Request(&x, &at)
		late := time.Since(start) > 2*time.Second || !x.Deadline.IsZero()
		if v != exchange.Stop || x.Response.Code != fault.PipelineTimeout || late {
			t.Errorf("%v, %s after %s, deadline %s", v, x.Response.Code, time.Since(start), x.Deadline)
		}
	})
}

// TestEnd tells each step that has begun, once, whatever has ended the exchange.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(string, *phased)
	}{
		{"all goes well", "=d =c =b =a", func(string, *phased) {}},
		{"one refuses", "=b =a", func(n string, p *phased) { p.refuse = n == "b" }},
		{"one panics", "=c =b =a", func(n string, p *phased) { p.panics = n == "c" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m made
			change := func(n string, p *phased, _ *NamedStep) { c.change(n, p) }
			ch := chain(phases(&m, "ab", change), phases(&m, "cd", change))
			var x exchange.Exchange
			var at Progress
			ch.Request(&x, &at)
			ch.Response(&x, &at)
			m.log = nil
			o := &Outcome{Status: 200}
			ch.End(&x, &at, o)
			if got := strings.Join(m.log, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestFirstRefusalEndsWaits does not wait for steps whose answer can't count any more.
func TestFirstRefusalEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m made
		p := phases(&m, "abc", func(n string, p *phased, _ *NamedStep) {
			p.hangs = n == "a"
			if n == "b" {
				p.refuse, p.waits = true, time.Second
			}
		})
		p.Parallel = true
		var x exchange.Exchange
		x.Deadline = time.Now().Add(time.Hour)
		start := time.Now()
		v := chain(p).Request(&x, new(Progress))
		if v != exchange.Stop || !strings.Contains(string(x.Response.Body), `"message":"b"`) || time.Since(start) != time.Second {
			t.Errorf("%v after %s: %s", v, time.Since(start), x.Response.Body)
		}
	})
}
