// Package discovery finds the endpoints of services in registries and writes them to the catalog. It is a port: each
// registry is an adapter in a folder of its own, a Source, which passes the suite of discoverytest. What all
// registries have in common is here and not in the adapters: who wants what, what stays, metrics and logs.
//
// # What stays
//
// What was found belongs to the service, by id, and to the question that it is the answer to: the source, and what
// the service asks it for.
//
//   - A registry that is away says nothing: everything stays.
//   - An answer with endpoints takes the place of what was there, whatever question that was the answer to.
//   - An answer without endpoints does so too where the service has allow_empty. Otherwise what answered the same
//     question before stays, as the last known endpoints; and what answered another question goes, since it was never
//     meant.
//   - A service that is gone, or does not ask for discovery any more, has nothing, and nothing is kept for it.
//   - A service that has nothing, while its registry is away, gets within seconds what another control plane has found
//     for the same question.
//   - All of that is kept in the store too, and read before the first answer is published. So it is the same after a
//     restart, for a further control plane, and after the store was restored from a backup, whatever revisions were
//     skipped in between.
package discovery

import (
	"context"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// Query is a service that asks a source for its endpoints. It is comparable: equal queries ask for the same.
type Query struct {
	// ServiceID is the service's id.
	ServiceID string
	// ServiceName is its name.
	ServiceName string
	// Discovery is what it asks for; read the source's own field. It must not be changed.
	Discovery *configv1.Discovery
}

// Source is one kind of registry.
type Source interface {
	// Name is the name of the source's field in the oneof of configv1.Discovery, such as "etcd".
	Name() string
	// Question returns what a query asks the registry for, as text: two queries with equal texts, and only those, ask for
	// the same. The text is kept, so it may not change with versions of this program. It is called by any goroutine.
	Question(q Query) string
	// Follow says which services want endpoints from now on, by service id. It replaces what was said before, does not
	// block on the registry, and is called from one goroutine, before and during Run. Services that are new or ask for
	// something else are answered at once from what is known of the registry, also while the registry is away.
	Follow(queries map[string]Query)
	// Run follows the registry until ctx ends, whatever happens to the registry, and tells what it finds. It returns when
	// all that it started has ended.
	Run(ctx context.Context, to *Report)
}

// Report is where a source tells what it finds. It is safe for concurrent use.
type Report struct {
	source string
	f      *follower
}

// Found answers queries, completely for each of them; a service whose query is not among them keeps what it has. An
// empty list says that the registry is known to have none. Of several endpoints with one host and port the first
// counts. Answers to what a service does not ask any more are dropped.
func (r *Report) Found(answers map[Query][]*configv1.Endpoint) { r.f.found(r.source, answers) }

// Up says that the registry is being followed.
func (r *Report) Up() { r.f.up(r.source) }

// Down says that the registry can't be followed, and why. Sources try again by themselves.
func (r *Report) Down(err error) { r.f.down(r.source, err) }

// Bad says that a registration can't be understood and is ignored: once for each that is written, not again when it is
// read again.
func (r *Report) Bad(registration string, err error) { r.f.bad(r.source, registration, err) }
