package follow

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"gateway.internal/shared/config"
)

// logged is a log that tests can read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func routes(names ...string) string {
	text := "routes:\n"
	for _, n := range names {
		text += fmt.Sprintf("  - {name: %s, path: /%[1]s, direct_response: {body: %[1]s}}\n", n)
	}
	return text
}

func TestFilesReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, routes("a", "b"))
		log, node, reload := &logged{}, &nodeDouble{}, make(chan struct{})
		f := &Files{Path: dir, Log: log.logger(), Reload: reload, To: node}
		if err := f.Load(); err != nil || node.version.Config.Len(config.Route) != 2 {
			t.Fatal(err, node.version)
		}
		if !node.version.Untold {
			t.Error("what each content serves is counted apart, though nobody is told")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Run(ctx)
		}()
		defer func() {
			cancel()
			<-done
		}()
		looks := func(n int) {
			time.Sleep(time.Duration(n)*lookInterval + lookInterval/2)
			synctest.Wait()
		}
		runs := func(what string, revision uint32, names ...string) {
			t.Helper()
			if node.version.Revision != revision || node.version.Config.Len(config.Route) != len(names) {
				t.Errorf("%s: revision %d with %d routes", what, node.version.Revision, node.version.Config.Len(config.Route))
			}
			for _, name := range names {
				if node.version.Config.ByName(config.Route, name) == nil {
					t.Errorf("%s: no route %s", what, name)
				}
			}
		}
		id := node.version.Config.ByName(config.Route, "a").ID()
		looks(4)
		runs("nothing changed", 1, "a", "b")

		write(t, path, routes("a", "c"))
		looks(2)
		runs("a change", 2, "a", "c")
		if node.version.Config.ByName(config.Route, "a").ID() != id {
			t.Error("an unchanged route has another id")
		}

		write(t, path, "routes:\n  - {name: a, path: /a, direct_response: {body: a}}\n  - {name: a, nonsense: 1}\n")
		looks(10)
		runs("a bad file", 2, "a", "c")
		if log.count("configuration files refused") != 1 || log.count("a.yaml:3:") == 0 {
			t.Errorf("not logged once with its place:\n%s", log.b.String())
		}
		write(t, path, "routes:\n  - {name: a, path: /a, service_id: missing}\n")
		looks(2)
		runs("a dangling reference", 2, "a", "c")
		if log.count("a.yaml:2:") == 0 || log.count("missing") == 0 {
			t.Errorf("not logged with its place:\n%s", log.b.String())
		}
		node.refuse.Store(true)
		write(t, path, routes("a"))
		looks(2)
		runs("the node refuses", 2, "a", "c")
		node.refuse.Store(false)
		reload <- struct{}{} // a hang-up reads again what has not changed
		synctest.Wait()
		runs("a hang-up", 3, "a")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		looks(2)
		runs("files that are gone", 3, "a")
		write(t, path, routes("a", "d"))
		write(t, filepath.Join(dir, "b.yml"), routes("e"))
		looks(2)
		runs("two files", 4, "a", "d", "e")

		want := "# HELP gateway_config_file_reloads_total Changes of the configuration files, by whether they were applied or refused.\n" +
			"# TYPE gateway_config_file_reloads_total counter\ngateway_config_file_reloads_total{outcome=\"applied\"} 4\ngateway_config_file_reloads_total{outcome=\"refused\"} 4\n"
		if err := testutil.CollectAndCompare(f, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	})
}

// TestFilesLoseMostRoutes empties and cuts files, as editors and tools do for a second: nothing is lost unless somebody
// says that it is meant.
func TestFilesLoseMostRoutes(t *testing.T) {
	names := strings.Split("abcdefghijkl", "")
	for _, c := range []struct {
		name          string
		before, after []string
		text          string // instead of after
		kept          bool   // what was there before, until it is confirmed
	}{
		{name: "an empty file", before: names, text: " ", kept: true},
		{name: "an empty document", before: names, text: "---\n", kept: true},
		{name: "a comment", before: names, text: "# later\n", kept: true},
		{name: "an empty file in the place of one route", before: names[:1], text: "\n", kept: true},
		{name: "one half and less", before: names, after: names[:5], kept: true},
		{name: "one half", before: names, after: names[:6]},
		{name: "others in their place", before: names[:6], after: names[6:]},
		{name: "most of a few", before: names[:5], after: names[:1]},
		{name: "more", before: names[:1], after: names},
	} {
		path := filepath.Join(t.TempDir(), "a.yaml")
		synctest.Test(t, func(t *testing.T) {
			text := c.text
			if text == "" {
				text = routes(c.after...)
			}
			write(t, path, routes(c.before...))
			log, node, reload := &logged{}, &nodeDouble{}, make(chan struct{})
			f := &Files{Path: path, Log: log.logger(), Reload: reload, To: node}
			if err := f.Load(); err != nil {
				t.Fatal(c.name, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.Run(ctx)
			}()
			defer func() {
				cancel()
				<-done
			}()
			looks := func() {
				time.Sleep(4*lookInterval + lookInterval/2)
				synctest.Wait()
			}
			ask := func() {
				reload <- struct{}{}
				synctest.Wait()
			}
			has := func(when string, n int) {
				t.Helper()
				if got := node.version.Config.Len(config.Route); got != n {
					t.Errorf("%s, %s: %d routes, want %d", c.name, when, got, n)
				}
			}
			write(t, path, text)
			if !c.kept {
				looks()
				has("after it was written", len(c.after))
				return
			}
			ask() // before the change was seen: tools write and signal at once
			has("with a signal beside the change", len(c.before))
			looks()
			has("after it was written", len(c.before))
			if n := log.count(fmt.Sprintf("lose %d of %d routes", len(c.before)-len(c.after), len(c.before))); n != 1 {
				t.Errorf("%s: the loss is logged %d times:\n%s", c.name, n, log.b.String())
			}
			write(t, path, text+"\n")
			ask()
			has("with another content than was refused", len(c.before))
			ask()
			has("when it is confirmed", len(c.after))
			write(t, path, routes(c.before...))
			looks()
			has("when it is whole again", len(c.before))
		})
	}
}

// TestFilesBeingWritten lets a file grow at each look: it is not read before it rests.
func TestFilesBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, routes("a"))
		node := &nodeDouble{}
		f := &Files{Path: path, Log: slog.New(slog.DiscardHandler), To: node}
		if err := f.Load(); err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for i := range 10 {
			names = append(names, fmt.Sprint("r", i))
			write(t, path, routes(names...))
			if f.changed() {
				t.Fatal("read while it is written")
			}
		}
		if !f.changed() {
			t.Fatal("not read when it rests")
		}
		if err := f.reload(false); err != nil || node.version.Config.Len(config.Route) != 10 || f.changed() {
			t.Error(err, node.version)
		}
	})
}

func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write(t, path, "one")
	stamp := time.Unix(1_700_000_000, 0)
	for what, change := range map[string]func() error{
		"the same size": func() error { return os.WriteFile(path, []byte("two"), 0o600) },
		"a rename with the same size and time": func() error {
			other := filepath.Join(dir, "other")
			write(t, other, "six")
			if err := os.Chtimes(other, stamp, stamp); err != nil {
				return err
			}
			return os.Rename(other, path)
		},
		"a file more": func() error { return os.WriteFile(filepath.Join(dir, "b.yaml"), nil, 0o600) },
	} {
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		last := fingerprint(dir, nil)
		if last != fingerprint(dir, nil) {
			t.Error("it changes by itself")
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if fingerprint(dir, nil) == last {
			t.Errorf("%s is not seen", what)
		}
	}
}
