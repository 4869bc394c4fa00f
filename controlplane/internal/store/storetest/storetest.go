// Package storetest is the suite that every engine of the store passes.
package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Engine is one engine under test.
type Engine struct {
	// Open opens the same data each time it is called; the suite closes what it gets.
	Open func(t *testing.T) store.Store
	// Shared tells that several may be open at once.
	Shared bool
	// Stop and Start take the engine away and bring it back; nil where that can't be.
	Stop, Start func()
	// NewEpoch makes the data those of another epoch, as whoever restores a backup does.
	NewEpoch func(t *testing.T)
	// ReadOnly lets the data be read and not written, and back.
	ReadOnly func(t *testing.T, on bool)
	// Content is all that the engine has stored, byte by byte: what a backup would have.
	Content func(t *testing.T) string
	// Sealed tells that secrets are stored encrypted.
	Sealed bool
}

// Run runs the suite; engine is called for each test, with empty data.
func Run(t *testing.T, engine func(t *testing.T) Engine) {
	for name, test := range map[string]func(*testing.T, Engine){
		"a new store is empty":            testEmpty,
		"every kind comes back":           testRoundTrip,
		"every field comes back":          testExact,
		"U+0000":                          testNUL,
		"names change places":             testSwap,
		"plans":                           testPlans,
		"dangling references are refused": testDangling,
		"a caller who waits for the head may give up": testImpatient,
		"concurrent writers":                          testConcurrent,
		"a first contact of many":                     testFirstContact,
		"first changes":                               testFirstChanges,
		"history":                                     testHistory,
		"a history that is pruned":                    testPrune,
		"keys are purged":                             testPurge,
		"values of the environment are purged":        testPurgeValues,
		"resources of a later build":                  testBuilds,
		"another epoch":                               testEpoch,
		"revisions that may shrink":                   testAllowedShrink,
		"another history":                             testAnotherHistory,
		"watch":                                       testWatch,
		"watches end":                                 testWatchEnds,
		"many resources":                              testMany,
		"leases":                                      testLeases,
		"secrets":                                     testSecrets,
		"join tokens":                                 testJoinTokens,
		"revocations":                                 testRevocations,
		"audited admissions":                          testAuditedAdmissions,
		"what was discovered":                         testDiscovered,
		"audit trail":                                 testAudit,
		"tokens":                                      testTokens,
		"read-only":                                   testReadOnly,
		"outage":                                      testOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, engine(t)) })
	}
}

// writer commits edits as a control plane does.
type writer struct {
	t     *testing.T
	store store.Store
	head  store.Head
	conf  *config.Config
	allow bool // what it commits says that it may shrink
}

func newWriter(t *testing.T, s store.Store) *writer {
	t.Helper()
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &writer{t: t, store: s, head: head, conf: c}
}

func (w *writer) commit(edits ...config.Edit) (store.Revision, error) {
	var next *config.Config
	r, err := w.store.Commit(w.t.Context(), w.head, func(newer []store.Revision) (*store.Draft, error) {
		for _, n := range newer {
			var err error
			if w.conf, err = w.conf.With(n.Changes); err != nil {
				return nil, err
			}
			if w.conf.Hash() != n.Hash {
				return nil, fmt.Errorf("revision %d leads to another hash", n.Number)
			}
			w.head.Number = n.Number
		}
		plan, err := w.conf.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString, AllowShrink: true})
		if err != nil {
			return nil, err
		}
		if len(plan.Changes) == 0 {
			return nil, nil //nolint:nilnil // nothing to commit
		}
		next = plan.Config
		return &store.Draft{Author: "ann", Message: "m", AllowShrink: w.allow, Hash: next.Hash(),
			Changes: plan.Changes}, nil
	})
	if err == nil && r.Number > 0 {
		w.head.Number, w.conf = r.Number, next
	}
	return r, err
}

func (w *writer) must(edits ...config.Edit) store.Revision {
	w.t.Helper()
	r, err := w.commit(edits...)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func put(m config.Message) config.Edit { return config.Edit{Kind: config.KindOfMessage(m), Put: m} }

func route(name string) config.Edit {
	return put(&configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{Body: name}})
}

func open(t *testing.T, e Engine) store.Store {
	t.Helper()
	s := e.Open(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// plan works a change out by itself, for tests that time the store alone.
func (w *writer) plan(edits ...config.Edit) *config.Plan {
	w.t.Helper()
	plan, err := w.conf.Plan(edits, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString, AllowShrink: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return plan
}

func (w *writer) commitPlan(plan *config.Plan) {
	w.t.Helper()
	r, err := w.store.Commit(w.t.Context(), w.head, func([]store.Revision) (*store.Draft, error) {
		return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.head.Number, w.conf = r.Number, plan.Config
}
