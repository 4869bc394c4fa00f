package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/e2e/trend"
)

var (
	soakChanges = flag.Int("changes", 0, "TestSoakOfChanges: how many changes; 0: none")
	soakRoutes  = flag.Int("routes", 20_000, "TestSoakOfChanges: among how many routes")
)

const (
	// soakSteps is how often everything is looked at.
	soakSteps = 100
	// soakWarmUp is how many looks are not judged: as many versions as are kept for deltas have to be there, and pools
	// to find their size.
	soakWarmUp = soakSteps / 5
)

// TestSoakOfChanges (make soak-changes) changes one route after the other, on each store, and looks at what the planes
// hold, how long a commit takes, and how large a revision is. It fails where any of that grows.
func TestSoakOfChanges(t *testing.T) {
	if *soakChanges == 0 {
		t.Skip("make soak-changes runs it")
	}
	t.Run("embedded", func(t *testing.T) {
		g := newGateway(t)
		soakOfChanges(t, g, filepath.Join(g.dir, "control"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		server := testserver.NewPostgreSQL(t)
		soakOfChanges(t, newGateway(t, "--store", server.URL), filepath.Join(server.Dir(), "base"))
	})
}

// look is what is measured after each step.
type look struct {
	name  string
	value func() (float64, error)
	seen  []float64
	// unjudged is a value that grows as it should. folded is one that grows until it has doubled, and is brought back
	// then.
	unjudged, folded bool
}

func soakOfChanges(t *testing.T, g *gateway, folder string) {
	s := &soakedRoutes{g: g, random: rand.New(rand.NewPCG(1, 2)), gone: -1}
	s.begin(*soakRoutes)
	n := g.node("soaked")
	n.runs(1)
	per := max(*soakChanges/soakSteps, 1)
	var took []time.Duration
	var arrived time.Duration
	var stored, before float64
	looks := []*look{
		{name: "control plane, MiB", value: func() (float64, error) { return resident(g.control) }},
		{name: "node, MiB", value: func() (float64, error) { return resident(n.process) }},
		{name: "control plane, files", value: func() (float64, error) { return openFiles(g.control) }},
		{name: "node, files", value: func() (float64, error) { return openFiles(n.process) }},
		{name: "commit, median ms", value: func() (float64, error) { return milliseconds(took[len(took)/2]), nil }},
		{name: "commit, 99 % ms", value: func() (float64, error) { return milliseconds(took[len(took)*99/100]), nil }},
		{name: "to the node, ms", value: func() (float64, error) { return milliseconds(arrived), nil }},
		{name: "a revision, bytes", value: func() (float64, error) { return (stored - before) / float64(per), nil }},
		{name: "store, MiB", value: func() (float64, error) { return stored / (1 << 20), nil }, unjudged: true},
		{name: "node's disk, MiB", value: func() (float64, error) {
			size, err := sizeOf(filepath.Join(g.dir, "soaked"))
			return size / (1 << 20), err
		}, folded: true},
	}
	var err error
	if stored, err = sizeOf(folder); err != nil {
		t.Fatal(err)
	}
	heading := []string{fmt.Sprintf("%10s", "changes")}
	for _, l := range looks {
		heading = append(heading, fmt.Sprintf("%20s", l.name))
	}
	fmt.Printf("%s: %d changes among %d routes\n%s\n", t.Name(), *soakChanges, *soakRoutes, strings.Join(heading, " "))
	for step := range soakSteps {
		took = took[:0]
		for range per {
			took = append(took, s.change())
		}
		slices.Sort(took)
		start := time.Now()
		n.runs(s.revision)
		arrived = time.Since(start)
		before = stored
		if stored, err = sizeOf(folder); err != nil {
			t.Fatal(err)
		}
		row := []string{fmt.Sprintf("%10d", (step+1)*per)}
		for _, l := range looks {
			v, err := l.value()
			if err != nil {
				t.Fatal(err)
			}
			l.seen = append(l.seen, v)
			row = append(row, fmt.Sprintf("%20.1f", v))
		}
		if (step+1)%(soakSteps/10) == 0 {
			fmt.Println(strings.Join(row, " "))
		}
	}
	fmt.Printf("after the first %d %%:\n", 100*soakWarmUp/soakSteps)
	for _, l := range looks {
		line := trend.Of(l.seen[soakWarmUp:])
		switch {
		case l.unjudged:
			fmt.Printf("%-22s went by %+.2f to %.1f\n", l.name, line.Growth, l.seen[soakSteps-1])
			continue
		case l.folded:
			top, most := slices.Max(l.seen), 2*l.seen[0]+1
			fmt.Printf("%-22s was %.1f at most, of %.1f that are allowed\n", l.name, top, most)
			if top > most {
				t.Errorf("%s: it was %.1f, above %.1f", l.name, top, most)
			}
			continue
		}
		fmt.Printf("%-22s %s\n", l.name, line)
		if line.Grows() {
			t.Errorf("%s: it grows", l.name)
		}
	}
}

func labels(turn int) map[string]string { return map[string]string{"turn": fmt.Sprint(turn)} }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// resident returns how much of a process is in memory, in MiB.
func resident(p *process) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), err
}

func openFiles(p *process) (float64, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return float64(len(open)), err
}

// sizeOf returns how many bytes the files below a folder have. One may go meanwhile.
func sizeOf(folder string) (float64, error) {
	total := 0.0
	err := filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				total += float64(info.Size())
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return total, err
}

// soakedRoutes are routes of all forms that are changed one by one: their content, their path, whether they are
// enabled; one is always the next to be deleted or to come back.
type soakedRoutes struct {
	g        *gateway
	random   *rand.Rand
	n        int
	turn     int
	gone     int // the route that is deleted; -1: none
	revision int
}

// body is a route, in a form and with hosts that its number decides.
func (s *soakedRoutes) body(i, turn int) map[string]any {
	r := map[string]any{"name": fmt.Sprint("r", i), "service_id": "somewhere", "labels": labels(turn)}
	forms := []string{"/exact/%d/v%d", "/prefix/%d/v%d/*", "/users/{id}/%d/v%d", "~/regex/%d/v%d/[0-9]+"}
	r["path"] = fmt.Sprintf(forms[i%4], i, turn%7)
	if i%8 < 4 {
		r["hosts"] = []string{fmt.Sprintf("h%d.example.com", i%100)}
	}
	return r
}

func (s *soakedRoutes) begin(n int) {
	s.g.t.Helper()
	s.n = n
	routes := make([]map[string]any, n)
	for i := range routes {
		routes[i] = s.body(i, 0)
	}
	service := map[string]any{"name": "somewhere", "endpoints": []map[string]any{{"host": "127.0.0.1", "port": 9}}}
	text, err := json.Marshal(map[string]any{"services": []any{service}, "routes": routes})
	if err != nil {
		s.g.t.Fatal(err)
	}
	if _, s.revision, err = s.g.call("POST", "/api/v1/config/apply", string(text)); err != nil {
		s.g.t.Fatal(err)
	}
}

// change changes one route, and returns how long that took.
func (s *soakedRoutes) change() time.Duration {
	s.g.t.Helper()
	i := s.random.IntN(s.n)
	method, path, body := "PATCH", fmt.Sprint("/api/v1/config/routes/r", i), map[string]any{"labels": labels(s.turn)}
	switch s.turn++; {
	case s.gone == i, s.gone >= 0 && s.turn%10 == 1:
		i = s.gone
		method, path, body, s.gone = "POST", "/api/v1/config/routes", s.body(i, s.turn), -1
	case s.turn%10 == 0:
		method, body, s.gone = "DELETE", nil, i
	case s.turn%10 < 5:
		body["path"] = s.body(i, s.turn)["path"]
	case s.turn%10 == 5:
		body["enabled"] = s.random.IntN(4) > 0
	}
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.g.t.Fatal(err)
		}
		text = string(b)
	}
	start := time.Now()
	_, revision, err := s.g.call(method, path, text)
	took := time.Since(start)
	if err != nil || revision != s.revision+1 {
		s.g.t.Fatalf("%s %s: revision %d after %d: %v", method, path, revision, s.revision, err)
	}
	s.revision = revision
	return took
}
