package oauth2introspection

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// slow is an authorisation server that keeps made-up tokens waiting, and answers real ones at once.
func slow(t *testing.T, settings string) (a *authority, s *step, now *time.Time) {
	t.Helper()
	a = newAuthority(t)
	end := make(chan struct{})
	a.does(func(w http.ResponseWriter, token string) {
		if strings.HasPrefix(token, "real") {
			fmt.Fprint(w, `{"active":true,"sub":"u"}`)
			return
		}
		<-end
		fmt.Fprint(w, `{"active":false}`)
	})
	s, now = newStep(t, a, `,"timeout":"5s"`+settings)
	t.Cleanup(func() { close(end); s.server.Value().asking.Wait() })
	return a, s, now
}

func from(s *step, client, token string) exchange.Verdict {
	x := &exchange.Exchange{}
	x.Client = netip.AddrPortFrom(netip.MustParseAddr(client), 1)
	x.Request.Header.Add("Authorization", "Bearer "+token)
	return s.Request(x)
}

// flood asks about made-up tokens from each of clients until no more are taken, and returns how many are under way.
func flood(t *testing.T, s *step, clients ...string) int {
	t.Helper()
	server := s.server.Value()
	for n := range 300 {
		for _, client := range clients {
			server.begin(fmt.Sprint("made-up-", client, "-", n), askerOf(netip.MustParseAddr(client), false), true)
		}
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	return len(server.flights)
}

// TestMadeUpTokens at a slow server turn away neither tokens that are known, whose answer is old by now, nor new ones
// of other clients.
func TestMadeUpTokens(t *testing.T) {
	_, s, now := slow(t, `,"cache_ttl":"30s"`)
	if from(s, "192.0.2.1", "real-known") != exchange.Continue {
		t.Fatal("the first one is refused")
	}
	if n := flood(t, s, "192.0.2.1", "2001:db8::1", "2001:db8::2"); n >= maxStrangers || n < maxStrangers/2 {
		t.Errorf("%d are asked about", n)
	}
	*now = now.Add(31 * time.Second)
	if from(s, "192.0.2.1", "real-known") != exchange.Continue {
		t.Error("a known token is refused, whose answer is old")
	}
	for i, client := range []string{"192.0.2.2", "2001:db8:0:1::1"} {
		if from(s, client, fmt.Sprint("real-new-", i)) != exchange.Continue {
			t.Errorf("%s is refused", client)
		}
	}
	if from(s, "2001:db8::3", "real-but-of-those-who-flood") != exchange.Stop {
		t.Error("the /64 has more than its share")
	}
}

// TestPlaces are given back, whoever had them.
func TestPlaces(t *testing.T) {
	p := newPlaces()
	var all []asker
	for i := range 400 {
		for _, friend := range []bool{false, true} {
			if a := askerOf(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 5)}), friend); p.take(a) {
				all = append(all, a)
			}
		}
	}
	if p.friends != maxFriends || p.strangers.Total() < maxStrangers*4/5 {
		t.Errorf("%d friends, %d strangers", p.friends, p.strangers.Total())
	}
	for _, a := range all {
		p.leave(a)
	}
	if p.friends != 0 || p.strangers.Total() != 0 {
		t.Errorf("%+v", p)
	}
	if a := askerOf(netip.Addr{}, false); !p.take(a) {
		t.Error("no place without an address")
	}
}

// TestAhead asks once about a token in use before its answer is old, and nobody waits for that.
func TestAhead(t *testing.T) {
	a, s, now := slow(t, `,"cache_ttl":"20s"`)
	from(s, "192.0.2.1", "real")
	*now = now.Add(14 * time.Second)
	if from(s, "192.0.2.1", "real"); a.asked.Load() != 1 {
		t.Error("asked too early")
	}
	*now = now.Add(2 * time.Second)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if from(s, "192.0.2.1", "real") != exchange.Continue {
				t.Error("refused")
			}
		})
	}
	all.Wait()
	s.server.Value().asking.Wait()
	if n := a.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	*now = now.Add(14 * time.Second) // the first answer would be old
	if from(s, "192.0.2.1", "real") != exchange.Continue || a.asked.Load() != 2 {
		t.Errorf("the answer that was had ahead does not count: asked %d times", a.asked.Load())
	}
}

// TestAheadOfAnError lets what is known count for all of its time, and no longer.
func TestAheadOfAnError(t *testing.T) {
	a, s, now := slow(t, `,"cache_ttl":"20s"`)
	from(s, "192.0.2.1", "real")
	a.does(func(w http.ResponseWriter, _ string) { w.WriteHeader(500) })
	for _, c := range []struct {
		seconds int
		want    exchange.Verdict
	}{{16, exchange.Continue}, {19, exchange.Continue}, {20, exchange.Stop}} {
		before := *now
		*now = now.Add(time.Duration(c.seconds) * time.Second)
		if v := from(s, "192.0.2.1", "real"); v != c.want {
			t.Errorf("after %d s: %v", c.seconds, v)
		}
		s.server.Value().asking.Wait()
		*now = before
	}
}
