package runtime

import (
	"maps"
	"slices"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// made is what routes share that was compiled once and stays as it is, in a node's whole life: a route that changes
// alone gets what the others have. Otherwise each would keep what its own revision had compiled, however large.
type made struct {
	pipelines map[string]madeOf[*pipeline.Pipeline] // by id
	pages     map[[2]string]madeOf[*errorpage.Pages]
	limitsOf  map[string]madeOf[[]*ratelimit.Limit] // by policy's id
}

// madeOf is something with the hashes of all that it was made of.
type madeOf[T any] struct {
	of    string
	thing T
}

// hashesOf joins the hashes of resources; one that is not there has a place too.
func hashesOf(entries ...*config.Entry) string {
	of := make([]byte, 0, 33*len(entries))
	for _, e := range entries {
		if e == nil {
			of = append(of, 0)
			continue
		}
		hash := e.Hash()
		of = append(append(of, 1), hash[:]...)
	}
	return string(of)
}

// ofPipeline is what a pipeline is made of.
func ofPipeline(c *config.Config, e *config.Entry) string {
	entries := []*config.Entry{e}
	for _, id := range e.Message.(*configv1.Pipeline).GetMiddlewareIds() {
		entries = append(entries, c.ByID(config.Middleware, id))
	}
	return hashesOf(entries...)
}

// ofPages is what the pages for a route's and a service's policy are made of.
func ofPages(c *config.Config, key [2]string) string {
	global := c.ByID(config.Policy, c.GlobalPolicy().GetId())
	return hashesOf(c.ByID(config.Policy, key[0]), c.ByID(config.Policy, key[1]), global)
}

// keep takes over what a compiler has made of a configuration that is in force now, and lets go of what that is not
// made of.
func (m *made) keep(c *compiler, changes []config.Change) {
	m.pipelines = c.pipelines
	if slices.ContainsFunc(changes, func(ch config.Change) bool { return ch.Kind == config.Policy }) {
		maps.DeleteFunc(m.pages, func(key [2]string, p madeOf[*errorpage.Pages]) bool {
			return p.of != ofPages(c.config, key)
		})
		maps.DeleteFunc(m.limitsOf, func(id string, l madeOf[[]*ratelimit.Limit]) bool {
			return l.of != hashesOf(c.config.ByID(config.Policy, id))
		})
	}
	if m.pages == nil {
		m.pages = map[[2]string]madeOf[*errorpage.Pages]{}
	}
	maps.Copy(m.pages, c.pages)
	if m.limitsOf == nil {
		m.limitsOf = map[string]madeOf[[]*ratelimit.Limit]{}
	}
	maps.Copy(m.limitsOf, c.limitsOf)
}
