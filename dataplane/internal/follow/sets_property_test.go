package follow

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"pgregory.net/rapid"

	"gateway.internal/shared/config"
)

// TestConsumersOfAnyLife makes random changes, which reach the node as deltas or as a whole, in chunks, of which some
// are lost; the process is killed, and the end of its file is lost. What the node has is always what some revision was,
// and in the end the newest.
func TestConsumersOfAnyLife(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "node")
		if err != nil {
			rt.Fatal(err)
		}
		var f *Follower
		var n *nodeDouble
		start := func() {
			n = &nodeDouble{}
			if f, err = NewFollower(Settings{DataDir: dir}, slog.New(slog.DiscardHandler), n); err != nil {
				rt.Fatal(err)
			}
		}
		start()
		defer func() { f.disk.close() }()
		src := &source{t: t, config: config.Empty(), apart: true}
		take(t, f, src.change(true, route("r")))
		history := []*config.Config{config.Empty()}
		// had is the revision whose consumers the node has.
		had := func() int {
			for i, c := range history {
				if c.HashOf(config.Consumer) == f.state.consumers.Hash() {
					return i
				}
			}
			rt.Fatalf("the node has consumers that no revision had")
			return 0
		}
		deliver := func(lose bool) {
			newest := len(history) - 1
			base := history[had()]
			if f.freshSets || rapid.IntRange(0, 3).Draw(rt, "whole") == 0 {
				base = nil
			}
			parts := consumers(base, history[newest], uint32(newest))
			if lose {
				parts = parts[:rapid.IntRange(0, len(parts)-1).Draw(rt, "parts")]
			}
			var g gather
			for _, m := range parts {
				if m, err = g.add(m); err != nil {
					rt.Fatal(err)
				}
				if _, err := f.take(m); err != nil {
					rt.Fatal(err)
				}
			}
			f.hello() // another stream
			if !lose && had() != newest && history[newest].Hash() != history[had()].Hash() {
				rt.Fatalf("the node has revision %d of %d", had(), newest)
			}
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			steps := []string{"commit", "commit", "deliver", "deliver", "lose", "crash", "tear"}
			switch rapid.SampledFrom(steps).Draw(rt, "step") {
			case "commit":
				c := history[len(history)-1]
				var edits []config.Edit
				for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 9), 1, 4, rapid.ID[int]).Draw(rt, "consumers") {
					name := fmt.Sprint("c", i)
					if c.ByName(config.Consumer, name) != nil && rapid.Bool().Draw(rt, "delete") {
						edits = append(edits, config.Edit{Kind: config.Consumer, Delete: name})
					} else {
						edits = append(edits, consumerPut(name, fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "group"))))
					}
				}
				history = append(history, edited(rt, c, edits...))
			case "deliver":
				deliver(false)
			case "lose":
				deliver(true)
			case "crash":
				before := f.state.consumers.Hash()
				f.disk.close()
				if start(); f.state.consumers.Hash() != before {
					rt.Fatal("a crash lost consumers")
				}
			case "tear":
				f.disk.close()
				if info, err := os.Stat(f.disk.consumers.path()); err == nil {
					_ = os.Truncate(f.disk.consumers.path(), rapid.Int64Range(0, info.Size()).Draw(rt, "size"))
				}
				start()
			}
			if n.clients != nil && n.clients.Hash() != f.state.consumers.Hash() {
				rt.Fatal("the node's consumers are not the follower's")
			}
			had()
		}
		deliver(false)
	})
}
