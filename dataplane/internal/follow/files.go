// Package follow brings configuration to the node: from a control plane, over the stream, with the last good snapshot on disk; or
// from files. It does not know what is done with a configuration.
package follow

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gateway.internal/dataplane/internal/runtime"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

// reloadInterval is how often the files are looked at.
const reloadInterval = time.Second

// Applier is what a followed configuration is given to.
type Applier interface {
	// Apply makes a configuration the node's, or returns everything that is wrong with it.
	Apply(runtime.Version) []*streamv1.Problem
}

// Files follows declarative files instead of a control plane.
type Files struct {
	// Path is a file or a folder.
	Path string
	// Log gets what is wrong with a new content.
	Log *slog.Logger
	// Reload asks for a look at once; nil: never.
	Reload <-chan struct{}
	// To gets each new content.
	To Applier

	current  *config.Config
	revision uint32
	seen     [32]byte
}

// Load reads the files once. It is an error when they can't be applied.
func (f *Files) Load() error {
	f.current = config.Empty()
	return f.look()
}

// Run looks at the files each second and applies what changed, until ctx ends. What can't be applied is logged, once, and the running
// configuration stays.
func (f *Files) Run(ctx context.Context) {
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.Reload:
			f.seen = [32]byte{}
		}
		if err := f.look(); err != nil {
			f.Log.Error("configuration files refused; the running configuration stays", "path", f.Path, "error", err.Error())
		}
	}
}

func (f *Files) look() error {
	doc, err := file.Load([]string{f.Path}, nil)
	sum := digest(doc, err)
	if sum == f.seen {
		return nil
	}
	f.seen = sum
	if err != nil {
		return err
	}
	edits := file.Edits(doc.Configuration)
	edits = append(edits, removals(f.current, edits)...)
	plan, err := f.current.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: newID, AllowShrink: true})
	if err != nil {
		return withPositions(doc, err)
	}
	if len(plan.Changes) == 0 && f.revision > 0 {
		return nil
	}
	for _, w := range plan.Warnings {
		f.Log.Warn("configuration", "warning", w.String())
	}
	if problems := f.To.Apply(runtime.Version{Epoch: "files", Revision: f.revision + 1, Config: plan.Config}); len(problems) > 0 {
		return fmt.Errorf("%s %q: %s %s", problems[0].GetKind(), problems[0].GetName(), problems[0].GetField(), problems[0].GetReason())
	}
	f.revision++
	f.current = plan.Config
	f.Log.Info("configuration applied", "path", f.Path, "revision", f.revision, "routes", plan.Config.Len(config.Route), "services", plan.Config.Len(config.Service))
	return nil
}

// digest tells contents apart, errors included.
func digest(doc *file.Document, err error) [32]byte {
	if err != nil {
		return sha256.Sum256([]byte("error " + err.Error()))
	}
	text, err := file.Marshal(doc.Configuration)
	if err != nil {
		return sha256.Sum256([]byte("error " + err.Error()))
	}
	return sha256.Sum256(text)
}

// removals deletes what the files no longer have.
func removals(c *config.Config, edits []config.Edit) []config.Edit {
	put := map[config.Kind]map[string]bool{}
	for _, e := range edits {
		if put[e.Kind] == nil {
			put[e.Kind] = map[string]bool{}
		}
		put[e.Kind][e.Put.GetName()] = true
	}
	var gone []config.Edit
	for _, k := range config.Kinds() {
		for e := range c.All(k) {
			if !put[k][e.Name()] {
				gone = append(gone, config.Edit{Kind: k, Delete: e.ID()})
			}
		}
	}
	return gone
}

// withPositions says of each problem where it stands.
func withPositions(doc *file.Document, err error) error {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err
	}
	var placed file.Errors
	for _, p := range problems {
		e := file.Error{Message: p.String()}
		if path, line, column, ok := doc.Position(p.Location, p.Field); ok {
			e.Path, e.Line, e.Column = path, line, column
		}
		placed = append(placed, e)
	}
	return placed
}
