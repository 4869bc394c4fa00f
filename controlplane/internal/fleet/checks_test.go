package fleet

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// member is a connected node.
type member struct {
	*Session
	sizes []uint32
	looks []string // hosts
}

func join(t *testing.T, f *Fleet, id string) *member {
	t.Helper()
	s, err := f.Connect(&streamv1.Hello{NodeId: id, InstanceId: id}, "")
	if err != nil {
		t.Fatal(err)
	}
	return &member{Session: s}
}

// told takes what it was told; it returns the number of messages.
func (m *member) told() int {
	m.sizes, m.looks = nil, nil
	list := m.Directives()
	for _, d := range list {
		if size := d.GetFleetSize(); size != nil {
			m.sizes = append(m.sizes, size.GetNodes())
		}
		for _, e := range d.GetCheck().GetEndpoints() {
			m.looks = append(m.looks, e.GetHost())
		}
	}
	return len(list)
}

// says reports an endpoint's last check.
func (m *member) says(host, failure string) {
	h := &streamv1.EndpointHealth{ServiceId: "s", Host: host, Port: 80, Healthy: true, Error: failure}
	m.Report(&streamv1.Report{Endpoints: []*streamv1.EndpointHealth{h}})
}

func same[T any](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: told %v, want %v", what, got, want)
	}
}

// TestFleetSize: nodes are told how many there are when that changes by a tenth, once a second at most.
func TestFleetSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		first := join(t, f, "first")
		time.Sleep(5 * time.Second)
		if first.told(); len(first.sizes) > 0 {
			t.Errorf("a node that is alone is told %v", first.sizes)
		}
		var others []*member
		var sizes []uint32
		for i := range 99 {
			others = append(others, join(t, f, fmt.Sprint(i)))
			time.Sleep(20 * time.Millisecond)
			first.told()
			sizes = append(sizes, first.sizes...)
		}
		time.Sleep(2 * time.Second)
		first.told()
		if sizes = append(sizes, first.sizes...); len(sizes) < 2 || len(sizes) > 4 || sizes[len(sizes)-1] != 100 {
			t.Errorf("while 99 come within 2 s one is told %v", sizes)
		}
		last := others[98]
		last.told()
		same(t, "the last that comes", last.sizes, 100)
		for _, m := range others[:9] {
			m.Close()
		}
		time.Sleep(2 * time.Second)
		first.told()
		same(t, "a few leave", first.sizes)
		others[9].Close()
		time.Sleep(2 * time.Second)
		first.told()
		same(t, "a tenth has left", first.sizes, 90)
		for _, m := range others[10:] {
			m.Close()
		}
		time.Sleep(2 * time.Second)
		first.told()
		same(t, "all others have left", first.sizes, 1)
		again := join(t, f, "first") // the same process has another stream
		time.Sleep(2 * time.Second)
		again.told()
		same(t, "a stream takes the place of another", again.sizes)
		again.Close()
		if f.checks.connected != 0 {
			t.Errorf("%d are connected", f.checks.connected)
		}
	})
}

// TestLooks: what one node sees the others are told, once, and again when it changes again, but not more often than
// every 5 seconds.
func TestLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		a, b := join(t, f, "a"), join(t, f, "b")
		step := func(what string, wait time.Duration, want ...string) {
			t.Helper()
			time.Sleep(wait)
			b.told()
			same(t, what, b.looks, want...)
		}
		step("nobody has said anything", time.Minute)
		a.says("h", "")
		b.says("h", "")
		step("all is well", time.Minute)
		a.says("h", "refused")
		step("a check has failed", time.Second, "h")
		b.says("h", "refused")
		a.says("h", "refused: again")
		step("another one fails too", time.Second)
		a.says("h", "")
		step("it passes again, too soon", time.Second)
		a.says("h", "refused")
		a.says("h", "")
		step("it changes again", 5*time.Second, "h")
		step("nothing is left", time.Minute)
		a.says("h", "refused")
		step("much later it fails again", time.Second, "h")
		if n := len(f.checks.seen); n != 1 {
			t.Errorf("%d endpoints are remembered", n)
		}
	})
}

// TestLooksAreCoalesced: thousands of changes are one message a second, each of a thousand endpoints.
func TestLooksAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		a, b := join(t, f, "a"), join(t, f, "b")
		time.Sleep(2 * time.Second)
		a.told()
		b.told()
		for i := range maxSeen + 500 {
			a.says(fmt.Sprint("h", i), "refused")
			if i == 0 {
				synctest.Wait() // the first is told at once
			}
		}
		messages, hosts := 0, map[string]bool{}
		for range 20 {
			time.Sleep(time.Second)
			synctest.Wait()
			n := b.told()
			if messages += n; n > 2 || len(b.looks) > 2*maxLooks {
				t.Errorf("%d messages with %d endpoints in a second", n, len(b.looks))
			}
			for _, h := range b.looks {
				hosts[h] = true
			}
		}
		if messages > 12 || len(hosts) != maxSeen {
			t.Errorf("%d messages with %d endpoints, want about 11 with %d", messages, len(hosts), maxSeen)
		}
	})
}
