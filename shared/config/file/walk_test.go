package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes files, folders (names that end with "/") and links ("name -> target") in a new folder.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		name, target, isLink := strings.Cut(e, " -> ")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o700)
		default:
			err = os.WriteFile(path, []byte("routes: []\n"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFilesFollowsLinks(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string
		path    string
		want    []string
		err     string
	}{
		{"a folder", []string{"b.yaml", "a.json", "c/d.yml", "c/e.txt", ".git/f.yaml"}, "", []string{"a.json", "b.yaml", "c/d.yml"}, ""},
		{"a link to a folder", []string{"real/a.yaml", "link -> real"}, "link", []string{"link/a.yaml"}, ""},
		{"a link to a link to a folder", []string{"real/a.yaml", "one -> real", "two -> one"}, "two", []string{"two/a.yaml"}, ""},
		{"a link to a file", []string{"real.txt", "a.yaml -> real.txt"}, "a.yaml", []string{"a.yaml"}, ""},
		{"a link to a hidden folder", []string{".real/a.yaml", "link -> .real"}, "link", []string{"link/a.yaml"}, ""},
		{"a ConfigMap", []string{"..2026/a.yaml", "..2026/b.yaml", "..data -> ..2026", "a.yaml -> ..data/a.yaml", "b.yaml -> ..data/b.yaml"}, "", []string{"a.yaml", "b.yaml"}, ""},
		{"a ConfigMap with folders", []string{"..2026/sub/a.yaml", "..data -> ..2026", "sub -> ..data/sub"}, "", []string{"sub/a.yaml"}, ""},
		{"a folder inside through a link", []string{"elsewhere/a.yaml", "config/link -> ../elsewhere", "config/b.yaml"}, "config", []string{"config/b.yaml", "config/link/a.yaml"}, ""},
		{"a link to the folder that it is in", []string{"a.yaml", "loop -> ."}, "", []string{"a.yaml"}, ""},
		{"links in a circle through folders", []string{"x/a.yaml", "x/y -> ../z", "z/w -> ../x"}, "", []string{"x/a.yaml"}, ""},
		{"a file under two names", []string{"a.yaml", "b.yaml -> a.yaml"}, "", []string{"a.yaml"}, ""},
		{"a folder under two names", []string{"a/c.yaml", "b -> a"}, "", []string{"a/c.yaml"}, ""},
		{"a link that leads nowhere", []string{"a.yaml", "b.yaml -> gone.yaml"}, "", nil, "b.yaml is a link that leads nowhere"},
		{"a link to a folder that is gone", []string{"a.yaml", "sub -> gone"}, "", nil, "sub is a link that leads nowhere"},
		{"links that lead to each other", []string{"a.yaml", "b.yaml -> c.yaml", "c.yaml -> b.yaml"}, "", nil, "too many"},
		{"a device", []string{"a.yaml", "b.yaml -> /dev/zero"}, "", nil, "b.yaml is no file that can be read as a whole"},
		{"an editor's lock", []string{"a.yaml", ".#a.yaml -> user@host.1"}, "", []string{"a.yaml"}, ""},
		{"nothing", []string{"a.txt"}, "", nil, "has no .yaml"},
		{"a path that is not there", nil, "gone", nil, "no such file"},
	} {
		dir := tree(t, c.entries...)
		got, err := Files(filepath.Join(dir, c.path))
		for i, f := range got {
			got[i], _ = filepath.Rel(dir, f)
		}
		if !slices.Equal(got, c.want) || c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.err)
		}
	}
}
