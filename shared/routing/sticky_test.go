package routing

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/keyhash"
	"gateway.internal/shared/match"
)

// fields are the header fields of a request.
type fields map[string]string

func (f fields) Lookup(name string) (string, bool) {
	v, there := f[name]
	return v, there
}

func (f fields) LookupFrom(place int, name string) (string, int, bool) {
	v, there := f[name]
	return v, 1, there && place == 0
}

func ofWeights(weights map[string]uint32) *Split {
	s := &Split{}
	for i := range len(weights) {
		name := fmt.Sprint("s", i)
		s.Shares = append(s.Shares, Share{ServiceID: name, Weight: weights[name], seed: keyhash.Text(name)})
		s.Total += weights[name]
	}
	return s
}

// TestAChangeOfAWeightMovesWhatItHasTo changes one weight: clients move only to the backend whose share grows, or only
// from the one whose share shrinks, and as many of them as the shares differ by.
func TestAChangeOfAWeightMovesWhatItHasTo(t *testing.T) {
	const clients = 20_000
	rapid.Check(t, func(t *rapid.T) {
		weights := map[string]uint32{}
		for i := range rapid.IntRange(2, 6).Draw(t, "backends") {
			weights[fmt.Sprint("s", i)] = rapid.Uint32Range(0, 1000).Draw(t, "weight")
		}
		weights["s0"]++
		weights["s1"]++
		before := ofWeights(weights)
		weights["s1"] = rapid.Uint32Range(0, 1000).Draw(t, "another weight")
		after := ofWeights(weights)
		moved := 0
		for client := range clients {
			key := keyhash.Text(fmt.Sprint("client ", client))
			from, to := before.of(key), after.of(key)
			if from == to {
				continue
			}
			moved++
			if grows := after.Shares[1].Weight > before.Shares[1].Weight; grows && to != 1 || !grows && from != 1 {
				t.Fatalf("a client moves from %d to %d, when the weight of 1 changes: %v, %v", from, to, before, after)
			}
		}
		want := math.Abs(before.Probability(1) - after.Probability(1))
		if got := float64(moved) / clients; math.Abs(got-want) > 0.025 {
			t.Errorf("%v of the clients have moved, and the share has changed by %v: %v, %v", got, want, before, after)
		}
	})
}

// TestAnOrderOfBackendsMovesNobody: neither the order of backends nor a common factor of their weights matters.
func TestAnOrderOfBackendsMovesNobody(t *testing.T) {
	a := ofWeights(map[string]uint32{"s0": 1, "s1": 2, "s2": 5})
	b := ofWeights(map[string]uint32{"s0": 3, "s1": 6, "s2": 15})
	b.Shares[0], b.Shares[2] = b.Shares[2], b.Shares[0]
	var counted [3]int
	for client := range 8000 {
		key := keyhash.Text(fmt.Sprint(client))
		i := a.of(key)
		if got, want := b.Shares[b.of(key)].ServiceID, a.Shares[i].ServiceID; got != want {
			t.Fatalf("client %d goes to %s and to %s", client, want, got)
		}
		counted[i]++
	}
	for i, want := range []int{1000, 2000, 5000} {
		if math.Abs(float64(counted[i]-want)) > 150 {
			t.Errorf("%d clients, want about 1000, 2000 and 5000", counted)
		}
	}
}

func TestWhatTellsClientsApart(t *testing.T) {
	draw := func(uint32) uint32 { return 0 } // chance takes the first one
	request := func(f fields) *match.Request { return &match.Request{Header: f} }
	differs := func(t *testing.T, m *configv1.Sticky, of func(i int) (*match.Request, Client)) {
		t.Helper()
		s := ofWeights(map[string]uint32{"s0": 1, "s1": 1})
		s.Sticky = newSticky(m)
		seen := map[int]bool{}
		for i := range 32 {
			q, c := of(i)
			choice := s.Choose(q, &c, draw)
			if again := s.Choose(q, &c, func(uint32) uint32 { return 1 }); again != choice {
				t.Errorf("%d goes to %v, then to %v", i, choice, again)
			}
			seen[choice.Share] = true
		}
		if len(seen) != 2 {
			t.Errorf("all 32 clients are led to one backend")
		}
		if got := s.Choose(request(nil), &Client{}, draw); got.Share != 0 || got.ID != 0 {
			t.Errorf("without the key: %v", got)
		}
	}
	differs(t, &configv1.Sticky{Key: &configv1.Sticky_Header{Header: "X-A"}}, func(i int) (*match.Request, Client) {
		return request(fields{"X-A": fmt.Sprint(i)}), Client{}
	})
	differs(t, &configv1.Sticky{Key: &configv1.Sticky_Consumer{Consumer: true}}, func(i int) (*match.Request, Client) {
		return request(nil), Client{Consumer: fmt.Sprint(i)}
	})
	differs(t, &configv1.Sticky{Key: &configv1.Sticky_ClientIp{ClientIp: true}}, func(i int) (*match.Request, Client) {
		return request(nil), Client{Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}
	})
	differs(t, &configv1.Sticky{Key: &configv1.Sticky_ClientIp{ClientIp: true}}, func(i int) (*match.Request, Client) {
		return request(nil), Client{Address: netip.AddrFrom16([16]byte{0x20, 1, 7: byte(i)})}
	})
	a, b := netip.MustParseAddr("2001:db8:1:2::1"), netip.MustParseAddr("2001:db8:1:2:ffff::9")
	s := newSticky(&configv1.Sticky{Key: &configv1.Sticky_ClientIp{ClientIp: true}})
	one, _ := s.key(request(nil), &Client{Address: a})
	if other, ok := s.key(request(nil), &Client{Address: b}); !ok || one != other {
		t.Error("two addresses of one /64 are two clients")
	}
	mapped, _ := s.key(request(nil), &Client{Address: netip.MustParseAddr("::ffff:10.0.0.1")})
	if plain, _ := s.key(request(nil), &Client{Address: netip.MustParseAddr("10.0.0.1")}); plain != mapped {
		t.Error("an address of IPv4 is another client when it is mapped")
	}
}

func TestCookieOfAClient(t *testing.T) {
	for _, c := range []struct {
		cookie *configv1.ClientCookie
		scheme string
		want   string
	}{
		{&configv1.ClientCookie{Name: "a"}, "http", "a=00000000000000ff; Path=/; HttpOnly; SameSite=Lax"},
		{&configv1.ClientCookie{Name: "a"}, "https", "a=00000000000000ff; Path=/; HttpOnly; SameSite=Lax; Secure"},
		{
			&configv1.ClientCookie{Name: "a", Ttl: "90m", Path: "/b", Domain: "c.test", SameSite: "none"}, "http",
			"a=00000000000000ff; Path=/b; Domain=c.test; Max-Age=5400; HttpOnly; SameSite=None; Secure",
		},
	} {
		s := newSticky(&configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: c.cookie}})
		if got := string(s.AppendCookie(nil, 255, c.scheme)); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// TestACookieLeadsBack: the backend that a new client gets is the one that its cookie leads to.
func TestACookieLeadsBack(t *testing.T) {
	s := ofWeights(map[string]uint32{"s0": 3, "s1": 1})
	s.Sticky = newSticky(&configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: &configv1.ClientCookie{Name: "c"}}})
	for n := range uint32(64) {
		first := s.Choose(&match.Request{Header: fields{}}, &Client{}, func(uint32) uint32 { return n })
		q := match.Request{Header: fields{"Cookie": "c=" + string(first.ID.appendText(nil))}}
		if again := s.Choose(&q, &Client{}, nil); again.Share != first.Share || again.ID != 0 {
			t.Errorf("%d: first %v, then %v", n, first, again)
		}
	}
}

// TestPercentagesGoBeforeWeights reads the shares of percentages and weights together.
func TestPercentagesGoBeforeWeights(t *testing.T) {
	for _, c := range []struct {
		weights, percents []uint64
		want              []float64
	}{
		{[]uint64{1, 0}, []uint64{0, 5000}, []float64{.95, .05}},
		{[]uint64{90, 10}, []uint64{0, 50_000}, []float64{.45, .55}},
		{[]uint64{1, 1, 0}, []uint64{0, 0, 1}, []float64{.499995, .499995, .00001}},
		{[]uint64{0, 0}, []uint64{40_000, 60_000}, []float64{.4, .6}},
		{[]uint64{3, 1}, []uint64{0, 0}, []float64{.75, .25}},
	} {
		s := Split{Shares: make([]Share, len(c.weights))}
		if err := s.weigh(c.weights, c.percents); err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if got := s.Probability(i); math.Abs(got-want) > 1e-9 {
				t.Errorf("%v and %v: share %d has %v, want %v", c.weights, c.percents, i, got, want)
			}
		}
	}
	most := Split{Shares: make([]Share, 64)}
	weights, percents := make([]uint64, 64), make([]uint64, 64)
	for i := range weights {
		weights[i] = 999 + uint64(i%2)
	}
	percents[0] = 1
	err := most.weigh(weights, percents)
	if want := 1000. / 63968 * .99999; err != nil || most.Total < 1<<31 || math.Abs(most.Probability(1)-want) > 1e-7 {
		t.Errorf("%v of %d: %v", most.Probability(1), most.Total, err)
	}
}

func TestChoosesAllocateNothing(t *testing.T) {
	s := ofWeights(map[string]uint32{"s0": 3, "s1": 1})
	s.Sticky = newSticky(&configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: &configv1.ClientCookie{Name: "c"}}})
	with, without := match.Request{Header: fields{"Cookie": "a=b; c=1"}}, match.Request{Header: fields{}}
	draw := func(uint32) uint32 { return 7 }
	memory := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		c := Client{}
		s.Choose(&with, &c, draw)
		memory = s.Sticky.AppendCookie(memory[:0], s.Choose(&without, &c, draw).ID, "https")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSticky(b *testing.B) {
	s := ofWeights(map[string]uint32{"s0": 3, "s1": 1})
	s.Sticky = newSticky(&configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: &configv1.ClientCookie{Name: "c"}}})
	q, c := match.Request{Header: fields{"Cookie": "a=b; c=0123456789abcdef"}}, Client{}
	for b.Loop() {
		s.Choose(&q, &c, nil)
	}
}
