// Package follow brings configuration to the node: from a control plane, over the stream, with the last good snapshot
// on disk; or from files. It does not know what is done with a configuration.
package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/runtime"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

// lookInterval is how often the files are looked at. A change is taken when it was the same at two looks, so that a
// file is not read while it is being written.
const lookInterval = 500 * time.Millisecond

// Applier is what a followed configuration is given to.
type Applier interface {
	// Apply makes a configuration the node's, or returns everything that is wrong with it.
	Apply(runtime.Version) []*streamv1.Problem
	// ApplyConsumers makes these the node's consumers, which are no part of the configuration that Apply gets.
	ApplyConsumers(*consumer.Set)
}

// Files follows declarative files instead of a control plane. It is a prometheus.Collector of its reloads.
type Files struct {
	// Path is a file or a folder.
	Path string
	// Log gets what is wrong with a new content.
	Log *slog.Logger
	// Reload asks for a look at once, and confirms a loss of routes that was refused; nil: never.
	Reload <-chan struct{}
	// To gets each new content.
	To Applier

	current   *config.Config
	consumers *consumer.Set
	revision  uint32
	// What the files looked like when they were last read, and at the last look.
	read, seen [32]byte
	// loss is what they looked like when they were refused because of the routes that would be lost; zero: they were not.
	loss [32]byte
	// also are the files that those refer to.
	also []string

	applied, refused atomic.Uint64
}

// Load reads the files once. It is an error when they can't be applied.
func (f *Files) Load() error {
	f.current, f.consumers = config.Empty(), &consumer.Set{}
	return f.reload(false)
}

// Run looks at the files twice a second and applies what changed, until ctx ends. What can't be applied is logged,
// once, and the running configuration stays. Load comes first.
func (f *Files) Run(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !f.changed() {
				continue
			}
		case <-f.Reload:
			asked = true
		}
		if err := f.reload(asked); err != nil {
			f.Log.Error("configuration files refused; the running configuration stays", "path", f.Path, "error", err.Error())
		}
	}
}

// changed reports whether the files are not those that were read last, and were not being changed just now.
func (f *Files) changed() bool {
	now := fingerprint(f.Path, f.also)
	settled := now == f.seen
	f.seen = now
	return settled && now != f.read
}

// reload reads the files and applies what is in them. asked says that somebody asked for it.
func (f *Files) reload(asked bool) error {
	changes, err := f.apply(asked)
	switch {
	case err != nil:
		f.refused.Add(1)
	case changes > 0:
		f.applied.Add(1)
	}
	return err
}

// apply returns the number of resources that it changed.
func (f *Files) apply(asked bool) (changes int, err error) {
	doc, err := f.load()
	if err != nil {
		return 0, err
	}
	edits := file.Edits(doc.Configuration)
	if problems := refuseACME(edits); len(problems) > 0 {
		return 0, withPositions(doc, problems)
	}
	edits = append(edits, removals(f.current, edits)...)
	plan, err := f.current.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: newID, AllowShrink: true})
	if err != nil {
		return 0, withPositions(doc, err)
	}
	if len(plan.Changes) == 0 && f.revision > 0 {
		return 0, nil
	}
	if err := f.checkLoss(plan.Config, asked); err != nil {
		return 0, err
	}
	for _, w := range plan.Warnings() {
		f.Log.Warn("configuration", "warning", doc.Hide(w.String()))
	}
	next := runtime.Version{Epoch: "files", Revision: f.revision + 1, Config: plan.Config, Untold: true}
	if problems := f.To.Apply(next); len(problems) > 0 {
		return 0, errors.New(doc.Hide(strings.Join(describe(problems), "\n")))
	}
	if err := f.applyConsumers(plan.Config); err != nil {
		return 0, err // which nothing that Plan lets through leads to
	}
	f.revision++
	f.current = plan.Config
	f.Log.Info("configuration applied", "path", f.Path, "revision", f.revision, "changes", len(plan.Changes),
		"routes", plan.Config.Len(config.Route), "services", plan.Config.Len(config.Service))
	return max(len(plan.Changes), 1), nil
}

// applyConsumers gives the node the consumers of a configuration.
func (f *Files) applyConsumers(next *config.Config) error {
	changes := config.DiffOf(f.current, next, config.Consumer)
	if len(changes) == 0 {
		return nil
	}
	d := f.consumers.Draft()
	for _, ch := range changes {
		if ch.After == nil {
			d.Remove(ch.ID())
		} else if err := d.Put(ch.After.Encoded()); err != nil {
			return err
		}
	}
	f.consumers = d.Set()
	f.To.ApplyConsumers(f.consumers)
	return nil
}

// checkLoss refuses what would take the node's traffic away, as a file does that is empty for a second or not yet
// written to its end. Whoever means it asks for the same content to be read again.
func (f *Files) checkLoss(next *config.Config, asked bool) error {
	lost, of := config.LostRoutes(f.current, next)
	confirmed := asked && f.loss == f.read
	f.loss = [32]byte{}
	if lost == 0 || confirmed {
		return nil
	}
	f.loss = f.read
	return fmt.Errorf("they lose %d of %d routes, as files do that are empty or half-written: where that is meant, "+
		"send the process SIGHUP once it has been refused, or start it anew", lost, of)
}

// maxReads is how often files are read that change while they are, before what was read is taken. What changes later is
// read again anyway.
const maxReads = 5

// load reads the files, again where they have changed meanwhile: some would be of the state before and some of the one
// after, of links that are swapped all at once.
func (f *Files) load() (doc *file.Document, err error) {
	f.read = fingerprint(f.Path, f.also)
	for range maxReads {
		r := &file.Resolver{}
		doc, err = file.LoadWith([]string{f.Path}, nil, r)
		f.also = r.Files()
		after := fingerprint(f.Path, f.also)
		if after == f.read {
			break
		}
		f.read = after
	}
	return doc, err
}

// refuseACME finds certificates that a node by itself never gets.
func refuseACME(edits []config.Edit) (problems config.Problems) {
	for _, e := range edits {
		if m, ok := e.Put.(*configv1.Certificate); ok && m.GetAcme() != nil {
			problems = append(problems, config.Problem{
				Kind: e.Kind, Name: m.GetName(), Field: "acme", Location: e.Location,
				Message: "needs a control plane, which obtains the certificate: a node that follows files has to be given cert_pem and key_pem",
			})
		}
	}
	return problems
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
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		return err
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
		if path, line, column, ok := doc.Position(p.Location, p.Field); ok {
			lines[i] = fmt.Sprintf("%s:%d:%d: %s", path, line, column, lines[i])
		}
		lines[i] = doc.Hide(lines[i])
	}
	return errors.New(strings.Join(lines, "\n"))
}

var reloadsDesc = prometheus.NewDesc("gateway_config_file_reloads_total", "Changes of the configuration files, by whether they were applied or refused.", []string{"outcome"}, nil)

// Describe implements prometheus.Collector.
func (f *Files) Describe(ch chan<- *prometheus.Desc) { ch <- reloadsDesc }

// Collect implements prometheus.Collector.
func (f *Files) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(reloadsDesc, prometheus.CounterValue, float64(f.applied.Load()), "applied")
	ch <- prometheus.MustNewConstMetric(reloadsDesc, prometheus.CounterValue, float64(f.refused.Load()), "refused")
}
