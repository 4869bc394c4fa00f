package accesslog

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// stingy takes as many bytes as it is given room for.
type stingy struct {
	got  []byte
	room int
}

var errNoRoom = errors.New("no room")

func (s *stingy) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.got, s.room = append(s.got, p[:n]...), s.room-n
	if n < len(p) {
		return n, errNoRoom
	}
	return n, nil
}

func (s *stingy) Close() error { return nil }

// TestTornLineGoesOn writes to what nothing can be taken out of: a line that was torn goes on where it stopped, and
// only lines that are not there count as lost.
func TestTornLineGoesOn(t *testing.T) {
	out := &stingy{room: 10}
	f := &file{out: out}
	for i, step := range []struct {
		room  int
		lines string
		lost  int
		want  string
	}{
		{10, "one\ntwo\nthree\nfour\n", 1, "one\ntwo\nth"},
		{0, "five\n", 1, "one\ntwo\nth"},
		{1, "six\n", 1, "one\ntwo\nthr"},
		{3, "seven\neight\n", 2, "one\ntwo\nthree\n"},
		{6, "nine\nten\n", 0, "one\ntwo\nthree\nnine\nt"},
		{100, "eleven\n", 0, "one\ntwo\nthree\nnine\nten\neleven\n"},
		{2, "twelve\n", 0, "one\ntwo\nthree\nnine\nten\neleven\ntw"},
	} {
		out.room = step.room
		if lost, _ := f.write([]byte(step.lines)); lost != step.lost || string(out.got) != step.want {
			t.Fatalf("step %d: lost %d, want %d; %q, want %q", i, lost, step.lost, out.got, step.want)
		}
	}
	next := &stingy{room: 100}
	g := &file{out: next}
	if lost := g.follow(f); lost != 0 || string(next.got) != "twelve\n" {
		t.Errorf("lost %d; the next file has %q", lost, next.got)
	}
	f.torn, f.at = []byte("thirteen\n"), 1
	if lost, _ := f.close(); lost != 1 {
		t.Errorf("lost %d at the end, want the line that is not whole", lost)
	}
}

// TestFileThatEndsTorn opens a file whose last line was never ended: the next line is not joined to it.
func TestFileThatEndsTorn(t *testing.T) {
	for before, want := range map[string]string{"": "", "{\"a\":1}\n": "{\"a\":1}\n", "{\"a\":1}\n{\"a": "{\"a\":1}\n{\"a\n"} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(Settings{Path: path}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		l.Write(record("/next"))
		l.Close()
		after, _ := os.ReadFile(path)
		if rest, ok := strings.CutPrefix(string(after), want); !ok || count([]byte(rest)) != 1 || !json.Valid([]byte(rest)) {
			t.Errorf("%q has become %q", before, after)
		}
	}
}

// stuck never returns from Write until it is told to.
type stuck struct{ release chan struct{} }

func (s *stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }
func (s *stuck) Close() error                { return nil }

// TestCloseDoesNotWaitForEver has a write that does not return: Close counts what is left and says so.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		out := &stuck{make(chan struct{})}
		l := start(Settings{Path: "stuck", Shards: 2}, slog.New(slog.NewTextHandler(&said, nil)), &file{out: out})
		for i := range 500 {
			r := record(fmt.Sprint("/", i, strings.Repeat("x", 500)))
			r.Exchange.Shard = uint32(i)
			l.Write(r)
		}
		l.Close()
		if n := l.dropped.Load(); n != 500 {
			t.Errorf("%d of 500 lines are counted as dropped", n)
		}
		if !strings.Contains(said.String(), "lines=500") {
			t.Errorf("said %q", said.String())
		}
		close(out.release)
		<-l.done
	})
}
