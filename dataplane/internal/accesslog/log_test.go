package accesslog

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(path string) *Record {
	x := &exchange.Exchange{}
	x.ClientText = "192.0.2.1"
	x.Start = time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	x.ID = "id-1"
	x.Route = "r"
	x.Service = "s"
	x.Endpoint = "127.0.0.1:9"
	x.Request.Method, x.Request.Host, x.Request.Path, x.Request.RawQuery, x.Request.HasQuery = "GET", "a.example", path, "token=hunter2", true
	x.Request.Header.Add("User-Agent", "curl/8")
	x.Response.Status = 200
	return &Record{Exchange: x, Revision: 7, Duration: 1500 * time.Microsecond, Upstream: time.Millisecond, ResponseBytes: 12}
}

func TestLine(t *testing.T) {
	var c clock
	got := string(appendLine(nil, record("/x"), &c, false))
	want := `{"time":"2026-01-02T03:04:05.006Z","client":"192.0.2.1","method":"GET","host":"a.example","path":"/x","protocol":"HTTP/1.1","status":200,"bytes":12,"duration_us":1500,"upstream_us":1000,"route":"r","service":"s","endpoint":"127.0.0.1:9","revision":7,"request_id":"id-1","user_agent":"curl/8"}` + "\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.Contains(string(appendLine(nil, record("/x"), &c, true)), `"query":"token=hunter2"`) {
		t.Error("the query is missing where it is wanted")
	}
	if n := testing.AllocsPerRun(100, func() { appendLine(make([]byte, 0, 1024)[:0], record0, &c, false) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

var record0 = record("/x")

// What a client sent must do nothing to the terminal that the log is shown on.
func TestTerminalsObeyNoLine(t *testing.T) {
	var c clock
	for path, want := range map[string]string{
		"/\x1b[2K":      `"path":"/\u001b[2K"`,
		"/\u009b1Aé":    `"path":"/\u009b1Aé"`,
		"/a\u202etxt":   `"path":"/a\u202etxt"`,
		"/\u2028\u0085": `"path":"/\u2028\u0085"`,
		"/日本\ufeff":     `"path":"/日本\ufeff"`,
	} {
		if line := string(appendLine(nil, record(path), &c, false)); !strings.Contains(line, want) {
			t.Errorf("%q: %q has no %s", path, line, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"/", "\"\\\n\x00\x7f", "/ä\xff\xc3", strings.Repeat("é", 3000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c clock
		line := appendLine(nil, record(s), &c, false)
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil || strings.Count(string(line), "\n") != 1 || len(line) > 6*maxPath+lineRoom {
			t.Fatalf("%v: %s", err, line)
		}
		if utf8.ValidString(s) && len(s) <= maxPath && s != "" && got["path"] != s {
			t.Errorf("%q became %q", s, got["path"])
		}
	})
}

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := Open(Settings{Path: path, Shards: 3}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	write := func(from int) {
		var wg sync.WaitGroup
		for shard := range 8 {
			wg.Go(func() {
				for i := range 200 {
					r := record(fmt.Sprintf("/%d/%d", shard, from+i))
					r.Exchange.Shard = uint32(shard)
					l.Write(r)
				}
			})
		}
		wg.Wait()
	}
	write(0)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	waittest.UntilNil(t, "the new file, which is there when the old one is complete", func() error {
		_, err := os.Stat(path)
		return err
	})
	write(200)
	l.Close()
	seen := map[string]bool{}
	for i, file := range []string{path + ".1", path} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) != 1600 {
			t.Errorf("file %d has %d lines", i, len(lines))
		}
		for _, line := range lines {
			var got struct{ Path string }
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			seen[got.Path] = true
		}
	}
	if len(seen) != 3200 || l.dropped.Load() != 0 {
		t.Errorf("%d lines, %d dropped", len(seen), l.dropped.Load())
	}
}

func TestDiskThatDoesNotKeepUp(t *testing.T) {
	l := &Log{shards: make([]shard, 1), full: make(chan *block, 1), log: slog.New(slog.DiscardHandler)}
	const lines = 1000
	for range lines { // nobody writes: one block waits, one is filled, the others are dropped
		l.Write(record(strings.Repeat("x", 1000)))
	}
	kept := strings.Count(string((<-l.full).lines), "\n") + strings.Count(string(l.shards[0].block.lines), "\n")
	if got := int(l.dropped.Load()); got == 0 || got+kept != lines {
		t.Errorf("%d dropped, %d kept", got, kept)
	}
}

func TestFullDisk(t *testing.T) {
	l, err := Open(Settings{Path: "/dev/full"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skip(err)
	}
	l.Write(record("/"))
	l.Close()
	if l.dropped.Load() != 1 {
		t.Errorf("%d dropped", l.dropped.Load())
	}
}

func TestOpenFails(t *testing.T) {
	if _, err := Open(Settings{Path: t.TempDir()}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "access log") {
		t.Error(err)
	}
}
