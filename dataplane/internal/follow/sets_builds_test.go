package follow

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// TestControlPlaneOfAnEarlierBuild sends consumers with the configuration, and hashes of both together.
func TestControlPlaneOfAnEarlierBuild(t *testing.T) {
	dir := t.TempDir()
	f, n := follower(t, dir)
	src := &source{t: t, config: config.Empty()}
	applied(t, take(t, f, src.change(true, route("r"), consumerPut("a"))))
	applied(t, take(t, f, src.change(false, consumerPut("b"))))
	applied(t, take(t, f, src.change(false, route("s"))))
	if n.clients.Len() != 2 || n.version.Config.Len(config.Consumer) != 0 || n.version.Revision != 3 {
		t.Errorf("%d consumers, revision %d", n.clients.Len(), n.version.Revision)
	}
	f.disk.close()
	f, n = follower(t, dir)
	if n.clients.Hash() != src.config.HashOf(config.Consumer) ||
		n.version.Config.Hash() != src.config.HashOf(config.Together()...) {
		t.Error("after a restart there is another content")
	}
	// The control plane is upgraded: it knows what the node has.
	next := edited(t, src.config, config.Edit{Kind: config.Consumer, Delete: "a"})
	applied(t, takeAll(t, f, consumers(src.config, next, 4)))
	if n.clients.Len() != 1 {
		t.Errorf("%d consumers", n.clients.Len())
	}
	// And back: what it does not know leads to another hash, and everything is asked for.
	if _, err := f.take(src.change(false, route("t"))); !errors.Is(err, errStale) || !f.fresh {
		t.Errorf("a change that does not know of the consumers: %v", err)
	}
	applied(t, take(t, f, src.change(true, route("u"))))
	if n.clients.Len() != 2 {
		t.Errorf("%d consumers", n.clients.Len())
	}
}

// TestFileOfAnEarlierBuild has consumers in the last good snapshot.
func TestFileOfAnEarlierBuild(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty()}
	first, then := src.change(true, route("r"), consumerPut("a")), src.change(false, consumerPut("b"))
	write(t, filepath.Join(dir, "snapshot.pb"), plainFile(t, first, then))
	f, n := follower(t, dir)
	if n.clients.Hash() != src.config.HashOf(config.Consumer) || n.version.Revision != 2 {
		t.Fatalf("%d consumers, revision %d", n.clients.Len(), n.version.Revision)
	}
	next := edited(t, src.config, config.Edit{Kind: config.Consumer, Delete: "a"},
		config.Edit{Kind: config.Consumer, Delete: "b"})
	applied(t, takeAll(t, f, consumers(src.config, next, 3)))
	f.disk.close()
	if _, n := follower(t, dir); n.clients.Len() != 0 {
		t.Errorf("after a restart %d consumers are there again", n.clients.Len())
	}
}

// TestConsumersOfAnOlderLife: what an earlier build has written to the last good snapshot since then is what the node
// has, not the older consumers in their file.
func TestConsumersOfAnOlderLife(t *testing.T) {
	dir := t.TempDir()
	f, _ := follower(t, dir)
	src := &source{t: t, config: config.Empty(), apart: true}
	applied(t, take(t, f, src.change(true, route("r"))))
	applied(t, takeAll(t, f, consumers(nil, edited(t, config.Empty(), consumerPut("revoked"), consumerPut("a")), 1)))
	f.disk.close()
	earlier := &source{t: t, config: config.Empty(), revision: 1}
	write(t, filepath.Join(dir, "snapshot.pb"),
		plainFile(t, earlier.change(true, route("r"), consumerPut("a"), consumerPut("b"))))
	for range 2 {
		f, n := follower(t, dir)
		if n.clients.Hash() != earlier.config.HashOf(config.Consumer) || n.clients.ByName("revoked") != nil {
			t.Fatalf("there are %d older consumers", n.clients.Len())
		}
		if s := f.hello().GetSets()[0]; s.GetRevision() != 2 || s.GetEpoch() != "e" {
			t.Errorf("they are said to be of %v", s)
		}
		f.saveAgain()
		if f.unsaved != (unsaved{}) {
			t.Errorf("not on disk: %v", f.unsaved)
		}
		f.disk.close()
	}
}

// TestValuesInAFileOfAnEarlierBuild: consumers leave the last good snapshot, in whatever order things come, and none is
// lost.
func TestValuesInAFileOfAnEarlierBuild(t *testing.T) {
	const canary = "the value that nobody is to find"
	c := consumerPut("c")
	c.Put.(*configv1.Consumer).Labels = map[string]string{"l": canary}
	c.Put.(*configv1.Consumer).Environment = map[string]string{"labels.l": "${env:L}"}
	gone := config.Edit{Kind: config.Consumer, Delete: "c"}
	for name, test := range map[string]struct {
		do   func(t *testing.T, f *Follower, src *source)
		left bool // the consumer is
	}{
		"nothing comes": {func(_ *testing.T, f *Follower, _ *source) { f.saveAgain() }, true},
		"a change of the configuration": {func(t *testing.T, f *Follower, src *source) {
			applied(t, take(t, f, src.change(false, route("s"))))
		}, true},
		"the consumer goes": {func(t *testing.T, f *Follower, src *source) {
			applied(t, takeAll(t, f, consumers(src.config, edited(t, src.config, gone), 2)))
		}, false},
		"the consumer goes later": {func(t *testing.T, f *Follower, src *source) {
			applied(t, take(t, f, src.change(false, route("s"))))
			applied(t, takeAll(t, f, consumers(src.config, edited(t, src.config, gone), 3)))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src := &source{t: t, config: config.Empty()}
			write(t, filepath.Join(dir, "snapshot.pb"), plainFile(t, src.change(true, route("r"), c)))
			src.apart = true
			f, _ := follower(t, dir)
			test.do(t, f, src)
			for file, there := range map[string]bool{"snapshot.pb": false, "consumers.pb": test.left} {
				text, err := readable(filepath.Join(dir, file))
				if err != nil || strings.Contains(text, canary) != there {
					t.Errorf("%s has the value: %t, %v", file, !there, err)
				}
			}
			f.disk.close()
			if _, n := follower(t, dir); n.clients.ByName("c") != nil != test.left {
				t.Errorf("after a restart there are %d consumers", n.clients.Len())
			}
		})
	}
}
