package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/runtime"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/waittest"
)

// reported is a node that makes reports of what files have it run.
type reported struct{ *runtime.Runtime }

func (r reported) Apply(v runtime.Version) []*streamv1.Problem {
	v.Untold = false
	return r.Runtime.Apply(v)
}

// TestTrafficIsOfTheRevisionThatItBeganWith: a request that is under way while the configuration changes counts for the
// one that it began with.
func TestTrafficIsOfTheRevisionThatItBeganWith(t *testing.T) {
	came, answer := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-answer
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer service.Close()
	g := start(t, "")
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	reload := make(chan struct{})
	files := &follow.Files{Path: path, Log: slog.New(slog.DiscardHandler), To: reported{g.node}, Reload: reload}
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(to(service.Listener.Addr().String(), "")+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) error {
		res, err := http.Get("http://" + g.address + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		return err
	}
	write("")
	if err := files.Load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { files.Run(ctx) })
	defer following.Wait()
	defer cancel()
	slow := make(chan error, 1)
	go func() { slow <- get("/slow") }()
	<-came
	write("---\nroutes: [{name: direct, path: /direct, direct_response: {body: x}}]\n")
	reload <- struct{}{}
	waittest.Until(t, "the second revision", func() bool { return g.node.Snapshot().Revision == 2 })
	if err := get("/direct"); err != nil {
		t.Error(err)
	}
	close(answer)
	if err := <-slow; err != nil {
		t.Error(err)
	}
	got := map[string]uint64{}
	waittest.UntilNil(t, "both requests are counted", func() error {
		report, commit := g.node.Report(false)
		for _, r := range report.GetRoutes() {
			if r.GetEpoch() != "" || report.GetEpoch() != "files" {
				t.Errorf("epoch %q, of the report %q", r.GetEpoch(), report.GetEpoch())
			}
			got[fmt.Sprintf("revision %d: requests", r.GetRevision())] += r.GetRequests()
			got[fmt.Sprintf("revision %d: errors", r.GetRevision())] += r.GetErrors()
		}
		commit(len(report.GetRoutes()))
		if got["revision 1: requests"]+got["revision 2: requests"] < 2 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if got["revision 1: requests"] != 1 || got["revision 1: errors"] != 1 || got["revision 2: requests"] != 1 ||
		got["revision 2: errors"] != 0 {
		t.Errorf("%v", got)
	}
}
