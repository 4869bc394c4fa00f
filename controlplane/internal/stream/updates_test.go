package stream

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// TestMadeUpdatesAreBounded: of what was made for nodes, what nobody asks for goes, and what is too much.
func TestMadeUpdatesAreBounded(t *testing.T) {
	var u updates
	sized := func(bytes int) func() (delivery, error) {
		return func() (delivery, error) { return delivery{make(encoded, bytes)}, nil }
	}
	key := func(i int) updateKey { return updateKey{to: content{version: uint64(i + 1)}} }
	for i := range 2 * maxMade {
		if _, err := u.get(key(i), sized(1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(u.made) != maxMade || u.bytes != maxMade || u.made[key(2*maxMade-1)] == nil {
		t.Errorf("%d updates of %d bytes", len(u.made), u.bytes)
	}
	if _, err := u.get(key(1000), sized(2*maxMadeBytes)); err != nil || len(u.made) != 1 {
		t.Errorf("%d updates beside a large one; %v", len(u.made)-1, err)
	}
	u.made[key(1000)].used = time.Now().Add(-2 * madeFor)
	if _, err := u.get(key(1), sized(1)); err != nil || u.made[key(1000)] != nil || u.bytes != 1 {
		t.Errorf("%d bytes are kept that nobody asks for; %v", u.bytes, err)
	}
}

// TestMadeUpdatesExpire: what nobody asks for goes, also where nothing more is made.
func TestMadeUpdatesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u updates
		v := &catalog.Version{Epoch: "e", Revision: 1, Config: config.Empty()}
		for range 3 { // it is asked for, and stays
			if _, _, err := u.wholeSet(config.Consumer, v, [32]byte{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(madeFor) // virtual
			if _, err := u.between(nil, v, config.Apart(), false, false); err != nil || u.heldAt(placeOf(v)) == nil {
				t.Fatalf("it is not kept; %v", err)
			}
		}
		time.Sleep(2 * madeFor)
		synctest.Wait()
		if u.mu.Lock(); len(u.made) > 0 || len(u.whole) > 0 || u.expiring || u.bytes != 0 {
			t.Errorf("%d updates of %d bytes and %d whole sets are kept that nobody asks for", len(u.made), u.bytes,
				len(u.whole))
		}
		u.mu.Unlock()
	})
}

// largeVersion returns a version whose consumers are more than all updates that are kept.
func largeVersion(t *testing.T) *catalog.Version {
	t.Helper()
	const each = 1 << 20
	var entries []*config.Entry
	for i := range maxMadeBytes/each + 1 {
		e, err := config.NewEntry(&configv1.Consumer{Id: fmt.Sprint("id", i), Name: fmt.Sprint("c", i), Version: 1,
			Labels: map[string]string{"l": strings.Repeat("x", each)}})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	conf, err := config.Empty().WithEntries(entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &catalog.Version{Epoch: "e", Revision: 1, Config: conf}
}

// TestLargeSetsAreShared: all consumers are serialised once for nodes that come at once, however much they are, and
// though other updates are made meanwhile.
func TestLargeSetsAreShared(t *testing.T) {
	v := largeVersion(t)
	var u updates
	var first delivery
	var nodes sync.WaitGroup
	var mu sync.Mutex
	for range 3 {
		nodes.Go(func() {
			d, of, err := u.wholeSet(config.Consumer, v, [32]byte{})
			if err != nil || of != v {
				t.Errorf("the set of revision %d, %v", of.Revision, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = d
			} else if &d[0][0] != &first[0][0] {
				t.Error("it is serialised again")
			}
			if _, err := u.between(nil, v, config.Apart(), false, false); err != nil {
				t.Error(err)
			}
			if u.heldAt(placeOf(v)) == nil {
				t.Error("its version is not held any more")
			}
		})
	}
	nodes.Wait()
}

// TestWholeSetsAreBounded: those that were asked for last are kept, and none that nobody asks for.
func TestWholeSetsAreBounded(t *testing.T) {
	conf := config.Empty()
	var u updates
	var versions []*catalog.Version
	for i := range uint32(maxWhole + 1) {
		e, err := config.NewEntry(&configv1.Consumer{Id: fmt.Sprint("id", i), Name: fmt.Sprint("c", i), Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		if conf, err = conf.WithEntries([]*config.Entry{e}, nil); err != nil {
			t.Fatal(err)
		}
		v := &catalog.Version{Epoch: "e", Revision: i + 1, Config: conf}
		versions = append(versions, v)
		if _, of, err := u.wholeSet(config.Consumer, v, [32]byte{}); err != nil || of != v {
			t.Fatalf("of revision %d it gives that of %d; %v", v.Revision, of.Revision, err)
		}
	}
	last := versions[maxWhole]
	held := u.heldAt(placeOf(last)) == last && u.heldAt(placeOf(versions[0])) == nil
	if len(u.whole[config.Consumer]) != maxWhole || !held {
		t.Errorf("%d are kept", len(u.whole[config.Consumer]))
	}
	for _, w := range u.whole[config.Consumer] {
		w.used = time.Now().Add(-2 * madeFor)
	}
	if _, err := u.between(nil, last, config.Apart(), false, false); err != nil || u.heldAt(placeOf(last)) != nil {
		t.Errorf("one is kept that nobody asks for; %v", err)
	}
}

// TestPurgedSetsAreNotSent: all consumers of a version that has changed little since are those that were serialised
// before, but not after a purge, as they may have secrets that were taken out.
func TestPurgedSetsAreNotSent(t *testing.T) {
	p := newPlane(t)
	var edits []config.Edit
	for i := range 200 {
		edits = append(edits, consumer(fmt.Sprint("c", i)))
	}
	v := p.commit(edits...)
	first := &taker{node: node{t: t, id: "n1"}}
	first.meet(p)
	first.until(p.setAt(), v.Revision)
	first.close()
	v = p.commit(config.Edit{Kind: config.Consumer, Delete: "c7"})
	if _, err := p.store.PurgeSecrets(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := p.catalog.SeeHistory(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := &taker{node: node{t: t, id: "n2"}}
	n.meet(p)
	defer n.close()
	for n.set == nil {
		m, err := n.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetSet() != nil {
			n.takeSet(m.GetSet())
		}
	}
	if n.of.revision != v.Revision {
		t.Errorf("it got all consumers of revision %d", n.of.revision)
	}
}
