package sql

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/internal/store/storetest"
	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

func opener(url string) func(*testing.T) store.Store {
	return func(t *testing.T) store.Store {
		t.Helper()
		s, err := Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestPostgreSQL(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	n := 0
	storetest.Run(t, func(t *testing.T) storetest.Engine {
		n++
		admin := opener(server.URL)(t).(*Store)
		name := fmt.Sprint("test", n)
		if _, err := admin.db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
		_ = admin.Close()
		return storetest.Engine{Open: opener(strings.Replace(server.URL, "/postgres?", "/"+name+"?", 1)), Shared: true, Stop: server.Stop, Start: server.Start}
	})
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Engine {
		return storetest.Engine{Open: opener("embedded:" + filepath.Join(t.TempDir(), "gateway.db"))}
	})
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	s := opener("embedded:" + path)(t)
	defer s.Close()
	if _, err := Open(t.Context(), "embedded:"+path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second process: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, url := range []string{"", "mysql://x", "embedded:", "postgres://u:hunter2@host:port/db"} {
		if _, err := Open(t.Context(), url, slog.New(slog.DiscardHandler)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestDownAtStart(t *testing.T) {
	s, err := Open(t.Context(), "postgres://gateway@127.0.0.1:1/x", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Load(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestKill kills a process that commits, at any moment, and checks that nothing that it said to be committed is lost.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	if url := os.Getenv("GATEWAY_TEST_COMMIT_TO"); url != "" {
		commitForever(t, url)
		return
	}
	said := 0
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$", "-test.v")
		cmd.Env = append(os.Environ(), "GATEWAY_TEST_COMMIT_TO=embedded:"+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		enough := said + 5 + rand.IntN(30)
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "committed "); ok {
				if said, err = strconv.Atoi(n); err != nil {
					t.Fatal(err)
				}
				if said >= enough {
					_ = cmd.Process.Kill()
				}
			}
		}
		_ = cmd.Wait()
		s := opener("embedded:" + path)(t).(*Store)
		head, c, err := s.Load(t.Context())
		if err != nil || int(head.Number) < said || c.Len(config.Route) != int(head.Number) {
			t.Errorf("said %d, head %d with %d routes, %v", said, head.Number, c.Len(config.Route), err)
		}
		var check string
		if err := s.db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
			t.Errorf("integrity: %s, %v", check, err)
		}
		_ = s.Close()
	}
}

func commitForever(t *testing.T, url string) {
	s := opener(url)(t)
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		name := fmt.Sprintf("r%d", head.Number+1)
		plan, err := c.Plan([]config.Edit{{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{}}}}, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Commit(context.Background(), head, func([]store.Revision) (*store.Draft, error) {
			return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		head.Number, c = r.Number, plan.Config
		fmt.Println("committed", r.Number)
	}
}
