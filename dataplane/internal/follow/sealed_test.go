package follow

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/secretkey"
)

// plainFile is a file of a build before encryption.
func plainFile(t testing.TB, records ...*streamv1.StreamResponse) string {
	t.Helper()
	text := []byte(plainMagic)
	for _, m := range records {
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		text = binary.BigEndian.AppendUint32(text, uint32(len(body)))
		text = append(append(text, sum[:]...), body...)
	}
	return string(text)
}

// readable returns a file of a data folder, decrypted as far as it is encrypted.
func readable(path string) (string, error) {
	text, err := os.ReadFile(path)
	id := keyNamed(text)
	if err != nil || id == "" {
		return string(text), err
	}
	keys := &keyring{dir: filepath.Dir(path), log: slog.New(slog.DiscardHandler)}
	key, _, err := keys.named(id)
	if err != nil {
		return "", err
	}
	c, err := fileCipherOf(text[:headBytes], key, strings.TrimSuffix(filepath.Base(path), ".bad"))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	for m := range c.decode(text) {
		body, err := proto.Marshal(m)
		if err != nil {
			return "", err
		}
		b.Write(body)
	}
	return b.String(), nil
}

const planted = "canary-2c1d-of-a-node"

// secretRoute has a secret, a secretConsumer too.
func secretRoute(secret string) config.Edit {
	e := route("secret")
	e.Put.(*configv1.Route).DirectResponse.Body = secret
	return e
}

func secretConsumer(name, secret string) config.Edit {
	return config.Edit{Kind: config.Consumer, Put: &configv1.Consumer{Name: name, Labels: map[string]string{"l": secret}}}
}

func keyText(letter string) string { return strings.Repeat(letter, 42) + "A=" }

// followerOf starts a node on a folder with keys, and returns what it logs.
func followerOf(t *testing.T, dir string, keys KeySource) (*Follower, *nodeDouble, *logged) {
	t.Helper()
	n, log := &nodeDouble{}, &logged{}
	f, err := NewFollower(Settings{DataDir: dir, Keys: keys}, log.logger(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.disk.close)
	return f, n, log
}

// fill has the node keep a snapshot of two records and consumers of two.
func fill(t *testing.T, f *Follower) *source {
	t.Helper()
	src := &source{t: t, config: config.Empty(), apart: true}
	applied(t, take(t, f, src.change(true, route("r"))))
	applied(t, take(t, f, src.change(false, secretRoute(planted))))
	first := edited(t, config.Empty(), secretConsumer("a", planted))
	applied(t, takeAll(t, f, consumers(nil, first, 1)))
	applied(t, takeAll(t, f, consumers(first, edited(t, first, secretConsumer("b", planted)), 2)))
	return src
}

// inFiles returns the files of a folder that have a text.
func inFiles(t *testing.T, dir, text string) (in []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(text)) {
			in = append(in, e.Name())
		}
	}
	return in
}

func TestFilesAreEncrypted(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "key")
	write(t, elsewhere, keyText("C"))
	for name, test := range map[string]struct {
		keys   KeySource
		inside bool // the key is in the data folder
		whence string
	}{
		"of its own":           {KeySource{}, true, "encryption-key"},
		"of a file":            {KeySource{File: elsewhere}, false, elsewhere},
		"of the environment":   {KeySource{Text: keyText("B"), Whence: "variable V"}, false, "variable V"},
		"environment and file": {KeySource{Text: keyText("B"), Whence: "variable V", File: "/none"}, false, "variable V"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, _, log := followerOf(t, dir, test.keys)
			src := fill(t, f)
			if in := inFiles(t, dir, planted); len(in) > 0 {
				t.Errorf("in plain text in %v", in)
			}
			info, err := os.Stat(filepath.Join(dir, ownKeyFile))
			if (err == nil) != test.inside || test.inside && info.Mode().Perm() != 0o600 {
				t.Errorf("the key's file: %v", err)
			}
			keys, err := f.disk.snapshot.keys.all()
			if err != nil || !strings.Contains(log.text(), test.whence) || !strings.Contains(log.text(), keys[0].ID()) ||
				strings.Contains(log.text(), keyText("B")) || strings.Contains(log.text(), keyText("C")) {
				t.Errorf("%v, log:\n%s", err, log.text())
			}
			f.disk.close()
			again, n, _ := followerOf(t, dir, test.keys)
			if n.version.Revision != src.revision || n.clients.Len() != 2 || again.unsaved != (unsaved{}) {
				t.Errorf("started with %d, %d consumers, unsaved %v", n.version.Revision, n.clients.Len(), again.unsaved)
			}
		})
	}
}

// TestChangesAreAppended: a change of one consumer costs its own size, whatever else there is, also after a restart.
func TestChangesAreAppended(t *testing.T) {
	dir := t.TempDir()
	f, _, _ := followerOf(t, dir, KeySource{})
	var edits []config.Edit
	for i := range 1000 {
		edits = append(edits, secretConsumer(fmt.Sprint("c", i), planted))
	}
	fill(t, f)
	before := edited(t, config.Empty(), edits...)
	applied(t, takeAll(t, f, consumers(nil, before, 3)))
	for i := range 3 {
		was, err := os.Stat(f.disk.consumers.path())
		if err != nil {
			t.Fatal(err)
		}
		next := edited(t, before, secretConsumer(fmt.Sprint("new", i), "x"))
		applied(t, takeAll(t, f, consumers(before, next, uint32(4+i))))
		before = next
		now, err := os.Stat(f.disk.consumers.path())
		if err != nil || !os.SameFile(was, now) || now.Size()-was.Size() > 500 {
			t.Errorf("%d bytes are %d now, %v", was.Size(), now.Size(), err)
		}
		f.disk.close()
		var n *nodeDouble
		if f, n, _ = followerOf(t, dir, KeySource{}); n.clients.Len() != 1001+i {
			t.Fatalf("%d consumers", n.clients.Len())
		}
	}
}

// TestPlainFilesAreEncrypted: files of an earlier build are read, and written anew without a change.
func TestPlainFilesAreEncrypted(t *testing.T) {
	dir := t.TempDir()
	src := &source{t: t, config: config.Empty(), apart: true}
	people := consumers(nil, edited(t, config.Empty(), secretConsumer("a", planted)), 1)
	write(t, filepath.Join(dir, "snapshot.pb"), plainFile(t, src.change(true, secretRoute(planted))))
	write(t, filepath.Join(dir, "consumers.pb"), plainFile(t, people...))
	for range 2 {
		f, n, _ := followerOf(t, dir, KeySource{})
		if n.version.Revision != 1 || n.clients.Len() != 1 {
			t.Fatalf("started with %d, %d consumers", n.version.Revision, n.clients.Len())
		}
		f.saveAgain()
		if in := inFiles(t, dir, planted); len(in) > 0 {
			t.Errorf("in plain text in %v", in)
		}
		f.disk.close()
	}
}

// TestSuccessorReadsFiles: a process that replaces another one has its lock, and its key.
func TestSuccessorReadsFiles(t *testing.T) {
	dir := t.TempDir()
	f, _, _ := followerOf(t, dir, KeySource{})
	src := fill(t, f)
	n := &nodeDouble{}
	next, err := NewFollower(Settings{DataDir: dir, Lock: f.Lock()}, slog.New(slog.DiscardHandler), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.disk.close)
	if n.version.Revision != src.revision || n.clients.Len() != 2 {
		t.Errorf("it starts with %d, %d consumers", n.version.Revision, n.clients.Len())
	}
	applied(t, take(t, next, src.change(false, route("later"))))
}

func TestKeyIsReplaced(t *testing.T) {
	dir := t.TempDir()
	f, _, _ := followerOf(t, dir, KeySource{Text: keyText("B")})
	src := fill(t, f)
	f.disk.close()
	f, n, _ := followerOf(t, dir, KeySource{Text: keyText("C") + "\n" + keyText("B")})
	if n.version.Revision != src.revision || n.clients.Len() != 2 {
		t.Fatalf("started with %d, %d consumers", n.version.Revision, n.clients.Len())
	}
	f.saveAgain()
	f.disk.close()
	_, n, _ = followerOf(t, dir, KeySource{Text: keyText("C")})
	if n.version.Revision != src.revision || n.clients.Len() != 2 {
		t.Errorf("with the new key alone: %d, %d consumers", n.version.Revision, n.clients.Len())
	}
}

// TestWithoutItsKey: the node waits for a control plane. The files stay until there is something else, in case that
// the key comes back.
func TestWithoutItsKey(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	broken := filepath.Join(t.TempDir(), "broken")
	write(t, broken, "no key at all")
	for name, test := range map[string]struct {
		keys KeySource
		want []string // in the log
		kept bool     // what comes then is kept
	}{
		"another one":        {KeySource{Text: keyText("C"), Whence: "V"}, []string{"does not have the key", "V has"}, true},
		"one of its own":     {KeySource{}, []string{"does not have the key", ownKeyFile}, true},
		"a file is missing":  {KeySource{File: missing}, []string{missing, "no such file"}, false},
		"a file is no key":   {KeySource{File: broken}, []string{broken, "line 1 is no key"}, false},
		"a variable is none": {KeySource{Text: "nothing", Whence: "V"}, []string{"(V)", "line 1 is no key"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, right := t.TempDir(), KeySource{Text: keyText("B")}
			f, _, _ := followerOf(t, dir, right)
			src := fill(t, f)
			f.disk.close()
			f, n, log := followerOf(t, dir, test.keys)
			if n.version.Config != nil || n.clients != nil {
				t.Errorf("started with revision %d", n.version.Revision)
			}
			for _, want := range append(test.want, "can't be read, and the node waits for a control plane") {
				if !strings.Contains(log.text(), want) {
					t.Errorf("%q is not in the log:\n%s", want, log.text())
				}
			}
			f.disk.close()
			f, n, _ = followerOf(t, dir, right)
			if n.version.Revision != src.revision {
				t.Fatal("with its key it can't be read any more")
			}
			f.disk.close()
			f, _, _ = followerOf(t, dir, test.keys)
			fresh := &source{t: t, config: config.Empty(), apart: true}
			r := take(t, f, fresh.change(true, secretRoute(planted)))
			if kept := r.GetOutcome() == streamv1.Result_OUTCOME_APPLIED; kept != test.kept {
				t.Errorf("answered %v", r)
			}
			if !test.kept && (len(f.Degraded()) != 1 || !strings.Contains(f.Degraded()[0].GetReason(), "encryption key")) {
				t.Errorf("degraded: %v", f.Degraded())
			}
			if in := inFiles(t, dir, planted); len(in) > 0 {
				t.Errorf("in plain text in %v", in)
			}
			if test.keys.File == "" {
				return
			}
			write(t, test.keys.File, keyText("D")) // the disk that has it is there now
			defer os.Remove(test.keys.File)
			applied(t, take(t, f, fresh.change(false, route("later"))))
			f.disk.close()
			if _, n, _ := followerOf(t, dir, test.keys); n.version.Revision != 2 {
				t.Errorf("revision %d was kept", n.version.Revision)
			}
		})
	}
}

// TestFilesAreNotSwapped: records count in their place of their file alone.
func TestFilesAreNotSwapped(t *testing.T) {
	keys, err := secretkey.Parse(keyText("B"))
	if err != nil {
		t.Fatal(err)
	}
	message := func(n uint32) *streamv1.StreamResponse {
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: &streamv1.Update{Revision: n}}}
	}
	file := func(name string) (*fileCipher, [][]byte) {
		c, err := newFileCipher(keys[0], name)
		if err != nil {
			t.Fatal(err)
		}
		var records [][]byte
		for i := range 3 {
			b, err := c.encode(uint64(i), message(uint32(i+1)))
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, b)
		}
		return c, records
	}
	c, own := file("snapshot.pb")
	_, other := file("snapshot.pb")
	for name, test := range map[string]struct {
		records [][]byte
		name    string
		want    []uint32
	}{
		"as it was":            {own, "snapshot.pb", []uint32{1, 2, 3}},
		"as the other file":    {own, "consumers.pb", nil},
		"without the first":    {own[1:], "snapshot.pb", nil},
		"without the second":   {[][]byte{own[0], own[2]}, "snapshot.pb", []uint32{1}},
		"the first twice":      {[][]byte{own[0], own[0], own[1]}, "snapshot.pb", []uint32{1}},
		"one of an older file": {[][]byte{own[0], other[1]}, "snapshot.pb", []uint32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			reader, err := fileCipherOf(c.head, keys[0], test.name)
			if err != nil {
				t.Fatal(err)
			}
			text := slices.Concat(c.head, slices.Concat(test.records...))
			var got []uint32
			for m := range reader.decode(text) {
				got = append(got, m.GetUpdate().GetRevision())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("read %v, want %v", got, test.want)
			}
		})
	}
}
