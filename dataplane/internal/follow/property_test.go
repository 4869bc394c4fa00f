package follow

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/endpoints"
)

// point names one revision.
type point struct {
	epoch    string
	revision uint32
}

// fleetOfOne is a control plane and one node, whose life goes all ways that it may.
type fleetOfOne struct {
	t   *rapid.T
	dir string

	// The control plane.
	head    point
	history map[point]*config.Config
	ids     int
	base    *point                    // what it believes the node to run; nil: unknown
	version uint64                    // of endpoints
	found   map[uint64]endpoints.Sets // by version
	hasEnds uint64                    // what it believes of endpoints

	// The node.
	follower *Follower
	node     *nodeDouble
	mend     func() // of a broken disk
}

func (w *fleetOfOne) start() {
	w.node = &nodeDouble{}
	f, err := NewFollower(Settings{DataDir: w.dir}, slog.New(slog.DiscardHandler), w.node)
	if err != nil {
		w.t.Fatal(err)
	}
	w.follower = f
	w.connect()
}

// connect is a new stream: the control plane looks whether it knows what the node runs.
func (w *fleetOfOne) connect() {
	h := w.follower.hello()
	w.base, w.hasEnds = nil, 0
	p := point{h.GetEpoch(), h.GetRevision()}
	if c := w.history[p]; c != nil && h.GetRevision() != 0 {
		if hash := c.Hash(); string(hash[:]) == string(h.GetHash()) {
			w.base = &p
		}
	}
	if known, ok := w.found[h.GetEndpointsVersion()]; ok {
		if hash := known.Hash(); string(hash[:]) == string(h.GetEndpointsHash()) {
			w.hasEnds = h.GetEndpointsVersion()
		}
	}
}

func (w *fleetOfOne) commit() {
	old := w.history[w.head]
	var edits []config.Edit
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 7), 1, 3, rapid.ID[int]).Draw(w.t, "routes") {
		name := fmt.Sprint("r", i)
		if old.ByName(config.Route, name) != nil && rapid.Bool().Draw(w.t, "delete") {
			edits = append(edits, config.Edit{Kind: config.Route, Delete: name})
			continue
		}
		w.ids++
		edits = append(edits, config.Edit{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{Body: fmt.Sprint(w.ids)}}})
	}
	plan, err := old.Plan(edits, config.PlanOptions{Now: time.Unix(1, 0), AllowShrink: true, NewID: func() string { w.ids++; return fmt.Sprint("id", w.ids) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.head.revision++
	w.history[w.head] = plan.Config
}

// restore is a database from a backup: another epoch, which begins with another revision.
func (w *fleetOfOne) restore() {
	c := w.history[w.head]
	w.ids++
	w.head = point{fmt.Sprint("e", w.ids), rapid.Uint32Range(1, 3).Draw(w.t, "revision")}
	w.history[w.head] = c
}

// update is what leads from the base to the head, in chunks.
func (w *fleetOfOne) update() []*streamv1.StreamResponse {
	from, target := config.Empty(), w.history[w.head]
	hash := target.Hash()
	u := &streamv1.Update{Epoch: w.head.epoch, Revision: w.head.revision, Hash: hash[:], AllowShrink: true, Chunk: 1, Chunks: 1}
	if w.base != nil && w.base.epoch == w.head.epoch && w.base.revision < w.head.revision {
		from, u.BaseRevision = w.history[*w.base], w.base.revision
	}
	for _, ch := range config.Diff(from, target) {
		if ch.After == nil {
			u.Removals = append(u.Removals, &streamv1.ResourceRef{Kind: ch.Kind.Proto(), Id: ch.ID()})
		} else {
			u.Upserts = append(u.Upserts, target.ByID(ch.Kind, ch.ID()).Encoded())
		}
	}
	m := &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: u}}
	if parts := chunks(m); len(parts) > 0 && rapid.Bool().Draw(w.t, "chunks") {
		return parts
	}
	return []*streamv1.StreamResponse{m}
}

// deliver sends the newest, or a part of it before the stream breaks.
func (w *fleetOfOne) deliver(whole bool) {
	if w.base != nil && *w.base == w.head {
		return
	}
	parts := w.update()
	spoil := "nothing"
	if !whole {
		parts = parts[:rapid.IntRange(0, len(parts)).Draw(w.t, "parts")]
		spoil = rapid.SampledFrom([]string{"nothing", "hash", "base", "body"}).Draw(w.t, "spoil")
	}
	var g gather
	for _, m := range parts {
		m = proto.CloneOf(m)
		u := m.GetUpdate()
		switch {
		case spoil == "hash":
			u.Hash[0] ^= 1
		case spoil == "base" && u.GetBaseRevision() > 0:
			u.BaseRevision += 100
		case spoil == "body" && len(u.GetUpserts()) > 0:
			u.Upserts[0].Body[len(u.GetUpserts()[0].GetBody())-1] ^= 1
		}
		complete, err := g.add(m)
		if err != nil {
			w.t.Fatal(err)
		}
		if complete == nil {
			continue
		}
		r, err := w.follower.take(complete)
		if err != nil {
			w.connect()
			return
		}
		if r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
			p := w.head
			w.base = &p
		}
	}
	if !whole {
		w.connect()
	}
}

// endpoints changes what discovery knows and sends that, as a delta of what the node is believed to have and in
// chunks of any size; or the node does not get it.
func (w *fleetOfOne) endpoints() {
	w.version++
	id := fmt.Sprint("s", rapid.IntRange(0, 2).Draw(w.t, "service"))
	set := &streamv1.ServiceEndpoints{ServiceId: id}
	for i := range rapid.IntRange(0, 4).Draw(w.t, "endpoints") {
		set.Endpoints = append(set.Endpoints, &configv1.Endpoint{Host: fmt.Sprint("h", i), Port: rapid.Uint32Range(1,
			3).Draw(w.t, "port")})
	}
	put, forget := []*streamv1.ServiceEndpoints{set}, []string(nil)
	if rapid.IntRange(0, 4).Draw(w.t, "forget") == 0 {
		put, forget = nil, []string{id}
	}
	w.found[w.version], _, _ = w.found[w.version-1].Put(put, forget)
	if rapid.IntRange(0, 3).Draw(w.t, "missed") > 0 {
		w.deliverEndpoints()
	}
}

func (w *fleetOfOne) deliverEndpoints() {
	hash := w.found[w.version].Hash()
	e := &streamv1.EndpointsUpdate{Version: w.version, BaseVersion: w.hasEnds, Hash: hash[:]}
	e.Upserts, e.Removals = endpoints.Diff(w.found[w.hasEnds], w.found[w.version])
	var g gather
	for _, m := range endpoints.Split(e, rapid.IntRange(1, 100).Draw(w.t, "limit")) {
		part := &streamv1.StreamResponse_Endpoints{Endpoints: proto.CloneOf(m)}
		whole, err := g.add(&streamv1.StreamResponse{Message: part})
		if err != nil {
			w.t.Fatal(err)
		}
		if whole == nil {
			continue
		}
		if _, err := w.follower.take(whole); err != nil {
			w.connect()
			return
		}
		w.hasEnds = w.version
		if w.follower.state.endpoints.Hash() != hash {
			w.t.Fatalf("the node has other endpoints than version %d", w.version)
		}
	}
}

// crash kills the process and starts it again. What was answered with applied is there again.
func (w *fleetOfOne) crash() {
	before, saved := w.follower.state, w.follower.unsaved == (unsaved{})
	w.follower.disk.close()
	w.start()
	after := w.follower.state
	if saved && before.revision > 0 && (after.epoch != before.epoch || after.revision != before.revision ||
		after.endpointsVersion != before.endpointsVersion || after.endpoints.Hash() != before.endpoints.Hash()) {
		w.t.Fatalf("started with %s %d, endpoints %d; it had %s %d, endpoints %d", after.epoch, after.revision, after.endpointsVersion, before.epoch, before.revision, before.endpointsVersion)
	}
}

// saveAgain is the time after which a failed write is tried again.
func (w *fleetOfOne) saveAgain() {
	w.follower.savedAt = time.Time{}
	w.follower.saveAgain()
}

// tear loses the end of the file.
func (w *fleetOfOne) tear() {
	w.follower.disk.close()
	path := w.follower.disk.snapshot.path()
	if info, err := os.Stat(path); err == nil {
		if err := os.Truncate(path, rapid.Int64Range(0, info.Size()).Draw(w.t, "size")); err != nil {
			w.t.Fatal(err)
		}
	}
	w.start()
}

// check: the node runs what the revision that it names was at the control plane, whole.
func (w *fleetOfOne) check() {
	s := w.follower.state
	if s.revision == 0 {
		return
	}
	want := w.history[point{s.epoch, s.revision}]
	if want == nil || want.Hash() != s.config.Hash() || w.node.version.Config.Hash() != want.Hash() || w.node.version.Revision != s.revision {
		w.t.Fatalf("the node runs something else than %s %d", s.epoch, s.revision)
	}
}

func TestAnyLifeEndsWithTheNewest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "node")
		if err != nil {
			rt.Fatal(err)
		}
		w := &fleetOfOne{t: rt, dir: dir, head: point{"e", 0}, history: map[point]*config.Config{{"e",
			0}: config.Empty()}, found: map[uint64]endpoints.Sets{}, mend: func() {}}
		w.start()
		defer func() { w.follower.disk.close() }()
		w.commit()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			step := rapid.SampledFrom([]string{"commit", "commit", "deliver", "deliver", "broken", "endpoints", "crash", "tear", "restore", "refuse", "accept", "full disk", "mend", "again"}).Draw(rt, "step")
			switch step {
			case "commit":
				w.commit()
			case "deliver":
				w.deliver(true)
			case "broken":
				w.deliver(false)
			case "endpoints":
				w.endpoints()
			case "crash":
				w.crash()
			case "tear":
				w.tear()
			case "restore":
				w.restore()
			case "refuse", "accept":
				w.node.refuse.Store(step == "refuse")
			case "full disk":
				w.mend = breakDisk(t, dir)
				if w.follower.disk.snapshot.file != nil && rapid.Bool().Draw(rt, "appends fail too") {
					w.follower.disk.snapshot.file.Close()
				}
			case "mend":
				w.mend()
			case "again":
				w.saveAgain()
			}
			w.check()
		}
		w.mend()
		w.node.refuse.Store(false)
		for range 3 { // one to find out what does not fit, one to take the whole, one that has nothing to do
			w.deliver(true)
			w.check()
		}
		w.commit()
		w.deliver(true)
		for range 2 { // one to find out what does not fit
			if w.version > 0 && w.hasEnds != w.version {
				w.deliverEndpoints()
			}
		}
		w.saveAgain()
		w.crash()
		if s := w.follower.state; s.epoch != w.head.epoch || s.revision != w.head.revision {
			rt.Fatalf("the node ends with %s %d instead of %s %d", s.epoch, s.revision, w.head.epoch, w.head.revision)
		}
		if s := w.follower.state; s.endpointsVersion != w.version || s.endpoints.Hash() != w.found[w.version].Hash() {
			rt.Fatalf("the node ends with version %d of endpoints instead of %d", s.endpointsVersion, w.version)
		}
	})
}
