package follow

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/shared/config"
)

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestSwappedLinksAreNoticed follows a path that is a link to a mounted ConfigMap, and one that is a link to a folder,
// while the links are swapped.
func TestSwappedLinksAreNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		swap  string // the link that is swapped
		files func(t *testing.T, dir string)
	}{
		{"a ConfigMap", "mount/..data", func(t *testing.T, dir string) {
			for _, f := range []string{"a.yaml", "sub"} {
				link(t, "..data/"+f, filepath.Join(dir, "mount", f))
			}
		}},
		{"the path itself", "config", func(*testing.T, string) {}},
	} {
		dir := t.TempDir()
		versions := [2]string{"..1", "..2"}
		for i, v := range versions {
			if err := os.MkdirAll(filepath.Join(dir, "mount", v, "sub"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "mount", v, "a.yaml"), routes([]string{"a", "b"}[i]))
			write(t, filepath.Join(dir, "mount", v, "sub", "c.yaml"), routes([]string{"c", "d"}[i]))
		}
		target := func(i int) string {
			if c.swap == "config" {
				return "mount/" + versions[i]
			}
			return versions[i]
		}
		link(t, target(0), filepath.Join(dir, c.swap))
		c.files(t, dir)
		if c.swap != "config" {
			link(t, "mount", filepath.Join(dir, "config"))
		}
		synctest.Test(t, func(t *testing.T) {
			log, node := &logged{}, &nodeDouble{}
			f := &Files{Path: filepath.Join(dir, "config"), Log: log.logger(), To: node}
			if err := f.Load(); err != nil {
				t.Fatalf("%s: %v", c.name, err)
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
			for i, names := range [][2]string{{"a", "c"}, {"b", "d"}} {
				if i > 0 {
					link(t, target(i), filepath.Join(dir, c.swap))
				}
				time.Sleep(3 * lookInterval)
				synctest.Wait()
				got := node.running()
				if got.Revision != uint32(i+1) || got.Config.Len(config.Route) != 2 || got.Config.ByName(config.Route, names[0]) == nil || got.Config.ByName(config.Route, names[1]) == nil {
					t.Errorf("%s: version %d is revision %d with %d routes\n%s", c.name, i, got.Revision, got.Config.Len(config.Route), log.b.String())
				}
			}
		})
	}
}
