package follow

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/shared/config"
)

// TestTornConsumers cuts the file of consumers at every byte, as a crash may. The node starts with what it had after
// the last change that is whole, or with none, never with anything else; and what it is told then is there after the
// next start.
func TestTornConsumers(t *testing.T) {
	dir := t.TempDir()
	f, _ := follower(t, dir)
	src := &source{t: t, config: config.Empty(), apart: true}
	applied(t, take(t, f, src.change(true, route("r"))))
	c := config.Empty()
	type step struct {
		size int64 // of the file that has it
		hash [32]byte
	}
	var steps []step
	for i, edits := range [][]config.Edit{
		{consumerPut("a"), consumerPut("b"), consumerPut("c", "g")},
		{consumerPut("d")},
		{{Kind: config.Consumer, Delete: "a"}},
		{consumerPut("e"), {Kind: config.Consumer, Delete: "b"}},
	} {
		next := edited(t, c, edits...)
		from := c
		if i == 0 {
			from = nil
		}
		applied(t, takeAll(t, f, consumers(from, next, uint32(i+1))))
		c = next
		info, err := os.Stat(f.disk.consumers.path())
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step{info.Size(), next.HashOf(config.Consumer)})
	}
	f.disk.close()
	whole, err := os.ReadFile(f.disk.consumers.path())
	if err != nil {
		t.Fatal(err)
	}
	for size := range int64(len(whole) + 1) {
		write(t, filepath.Join(dir, "consumers.pb"), string(whole[:size]))
		want := config.Empty().HashOf(config.Consumer)
		for _, s := range steps {
			if s.size <= size {
				want = s.hash
			}
		}
		n := &nodeDouble{}
		again, err := NewFollower(Settings{DataDir: dir}, slog.New(slog.DiscardHandler), n)
		if err != nil {
			t.Fatal(err)
		}
		if n.version.Config == nil || n.clients == nil || n.clients.Hash() != want {
			t.Fatalf("cut at byte %d of %d: other consumers than after the last change that is whole", size, len(whole))
		}
		if size%29 == 0 {
			applied(t, takeAll(t, again, consumers(nil, c, 9)))
			more := edited(t, c, consumerPut("more"))
			applied(t, takeAll(t, again, consumers(c, more, 10)))
			again.disk.close()
			last, n := follower(t, dir)
			if n.clients.Hash() != more.HashOf(config.Consumer) {
				t.Fatalf("cut at byte %d: what came after it is lost", size)
			}
			again = last
		}
		again.disk.close()
	}
}

// crashing is a node that looks at what would be there after a crash, at the moment when consumers begin to count.
type crashing struct {
	nodeDouble
	crash func(*consumer.Set)
}

func (n *crashing) ApplyConsumers(s *consumer.Set) {
	n.nodeDouble.ApplyConsumers(s)
	if n.crash != nil {
		n.crash(s)
	}
}

// TestRevokedStaysSoAfterACrash: a change of consumers is on disk before it counts, so that a node that has refused a
// consumer does not let it in again after a crash.
func TestRevokedStaysSoAfterACrash(t *testing.T) {
	n := &crashing{}
	f, err := NewFollower(Settings{DataDir: t.TempDir()}, slog.New(slog.DiscardHandler), n)
	if err != nil {
		t.Fatal(err)
	}
	defer f.disk.close()
	src := &source{t: t, config: config.Empty(), apart: true}
	applied(t, take(t, f, src.change(true, route("r"))))
	c := edited(t, config.Empty(), consumerPut("a"), consumerPut("b"))
	applied(t, takeAll(t, f, consumers(nil, c, 1)))
	looked := 0
	n.crash = func(s *consumer.Set) {
		dir := t.TempDir()
		for _, name := range []string{"snapshot.pb", "consumers.pb", ownKeyFile} {
			text, err := os.ReadFile(filepath.Join(f.disk.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), string(text))
		}
		after, double := follower(t, dir)
		defer after.disk.close()
		if looked++; double.clients.Hash() != s.Hash() {
			t.Errorf("change %d counts, and is not there after a crash", looked)
		}
	}
	for i, edit := range []config.Edit{consumerPut("c"), {Kind: config.Consumer, Delete: "a"}} {
		next := edited(t, c, edit)
		applied(t, takeAll(t, f, consumers(c, next, uint32(i+2))))
		c = next
	}
	if looked != 2 {
		t.Errorf("looked %d times", looked)
	}
}
