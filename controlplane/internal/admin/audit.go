package admin

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

const (
	// auditInterval is how often what waits is written.
	auditInterval = time.Second
	// auditAtEnd is how long the last write may take, when the process ends, and auditNow the one of a change that has
	// been made.
	auditAtEnd = 2 * time.Second
	auditNow   = 2 * time.Second
	// auditWindow is how long refusals of one kind are counted in one entry.
	auditWindow = time.Minute
	// maxWaiting is how many entries wait while the store is away, maxWindows how many kinds of refusals are told apart at
	// a time.
	maxWaiting = 1_000
	maxWindows = 1_000
)

// auditShown bounds what an entry has of changes.
var auditShown = showing{bytes: 12 << 10, changes: 100}

// auditor writes the audit trail, but for what is written with the change itself. It is safe for concurrent use.
type auditor struct {
	store store.Audit
	log   *slog.Logger

	mu      sync.Mutex
	waiting []store.AuditEntry // oldest first
	windows map[refusal]*window
	lost    int // since it was last told
}

// refusal is a kind of refusals. The zero value is all that are too many to be told apart.
type refusal struct {
	actor, network, call string
	code                 fault.Code
}

// window counts refusals of one kind.
type window struct {
	entry   store.AuditEntry // the last one; its Count is of those that are not written yet
	begun   time.Time
	written bool
}

func newAuditor(s store.Audit, log *slog.Logger) *auditor {
	return &auditor{store: s, log: log, windows: map[refusal]*window{}}
}

// run writes what waits until ctx ends.
func (a *auditor) run(ctx context.Context) {
	tick := time.NewTicker(auditInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditAtEnd)
			defer cancel()
			a.flush(late, true)
			return
		case <-tick.C:
			a.flush(ctx, false)
		}
	}
}

// refused notes that a call was refused.
func (a *auditor) refused(c caller, call string, code fault.Code, reason string) {
	e := entryOf(c, call)
	e.Outcome, e.Code, e.Reason = store.AuditRefused, string(code), short(reason)
	of := refusal{e.Actor, access.Network(c.address), e.Call, code}
	if c.identity == nil { // who guesses may ask for anything
		of.call = ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.windows[of]
	if w == nil && len(a.windows) >= maxWindows {
		of = refusal{}
		w = a.windows[of]
	}
	if w == nil {
		w = &window{begun: e.At}
		a.windows[of] = w
	}
	e.Count = w.entry.Count + 1
	w.entry = e
}

// keep writes an entry now, or later where that can't be.
func (a *auditor) keep(ctx context.Context, e store.AuditEntry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditNow)
	defer cancel()
	if err := a.store.KeepAudit(ctx, e); err != nil {
		a.log.WarnContext(ctx, "an entry of the audit trail waits for the store", "call", e.Call, "actor", e.Actor,
			"request_id", e.RequestID, "error", err.Error())
		a.mu.Lock()
		defer a.mu.Unlock()
		a.wait(e)
	}
}

// wait adds an entry to those that wait; the caller holds mu.
func (a *auditor) wait(entries ...store.AuditEntry) {
	a.waiting = append(a.waiting, entries...)
	if n := len(a.waiting) - maxWaiting; n > 0 {
		a.waiting, a.lost = a.waiting[n:], a.lost+n
	}
}

// flush writes what waits, and of refusals what is new in its window, or all at the end.
func (a *auditor) flush(ctx context.Context, all bool) {
	a.mu.Lock()
	now := time.Now()
	for of, w := range a.windows {
		over := all || now.Sub(w.begun) >= auditWindow
		switch {
		case w.entry.Count > 0 && (over || !w.written):
			a.wait(w.entry)
			w.entry.Count, w.written = 0, true
			if over {
				w.begun = now
			}
		case over:
			delete(a.windows, of)
		}
	}
	entries, lost := a.waiting, a.lost
	a.waiting, a.lost = nil, 0
	a.mu.Unlock()
	if lost > 0 {
		a.log.ErrorContext(ctx, "entries of the audit trail were lost: the store was away for too long", "entries", lost)
	}
	if err := a.store.KeepAudit(ctx, entries...); err == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	later := a.waiting
	a.waiting = nil
	a.wait(append(entries, later...)...)
}

// entryOf is what all entries of a call have.
func entryOf(c caller, call string) store.AuditEntry {
	e := store.AuditEntry{
		At: time.Now().UTC().Truncate(time.Microsecond), Address: c.address, RequestID: c.requestID,
		Call: short(strings.ToValidUTF8(strings.TrimPrefix(call, apiPackage), "\uFFFD")), Count: 1,
	}
	if id := c.identity; id != nil {
		e.Actor, e.Method, e.User, e.TokenID = id.Name, string(id.Method), id.User, id.TokenID
	}
	return e
}

// note is what the audit trail is to say of the call of a context.
type note struct {
	call string
	// done says that it is said already, or that there is nothing to say.
	done      bool
	resources []store.AuditResource
}

// about says what the entry is found by.
func (n *note) about(kind, name string) {
	n.resources = append(n.resources, store.AuditResource{Kind: kind, Name: name})
}

type noteKey struct{}

func noteOf(ctx context.Context) *note {
	n, _ := ctx.Value(noteKey{}).(*note)
	if n == nil {
		return &note{}
	}
	return n
}

// doneEntry is the entry of a change that the call of a context makes.
func doneEntry(ctx context.Context) store.AuditEntry {
	n := noteOf(ctx)
	e := entryOf(callerOf(ctx), n.call)
	e.Outcome, e.Message, e.Resources = store.AuditDone, message(ctx), n.resources
	return e
}

// aboutEntry is doneEntry of a change of one thing, for the transaction that makes it.
func aboutEntry(ctx context.Context, kind, name string) store.AuditEntry {
	n := noteOf(ctx)
	n.about(kind, name)
	n.done = true
	return doneEntry(ctx)
}

// changesEntry is that of changes of the configuration.
func changesEntry(ctx context.Context, why string, before *config.Config, plan *config.Plan) *store.AuditEntry {
	e := doneEntry(ctx)
	e.ChangeCount, e.Message = len(plan.Changes), why
	some := plan.Changes[:min(len(plan.Changes), store.MaxAuditResources)]
	for _, ch := range some {
		e.Resources = append(e.Resources, store.AuditResource{Kind: ch.Kind.String(), Name: ch.Name()})
	}
	e.Changes = changesJSON(auditShown.show(before, plan.Config, some, &adminv1.ReplyMeta{}))
	return &e
}

// changesJSON writes changes as the store keeps them; "" for none.
func changesJSON(list []*adminv1.Change) string {
	if len(list) == 0 {
		return ""
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&adminv1.AuditEntry{Changes: list})
	if err != nil {
		return ""
	}
	return string(raw)
}
