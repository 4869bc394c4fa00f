// Package configtest has changes of configurations that everything which keeps something by the id or by the name of a
// resource is tried with.
package configtest

import (
	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Step is a change, and what is there after it.
type Step struct {
	// What says what changes.
	What string
	// Edits make the change in a configuration.
	Edits func(c *config.Config) []config.Edit
	// Names are those of the services, and of the routes that lead to each.
	Names []string
}

// Names returns changes in which names and ids come apart: resources are made again under their name, swap names and
// get others. service makes a service, the same for the same name.
func Names(service func(name string) *configv1.Service) []Step {
	route := func(name string) *configv1.Route {
		return &configv1.Route{Name: name, Path: "/" + name, ServiceId: name}
	}
	put := func(m config.Message) config.Edit { return config.Edit{Kind: config.KindOfMessage(m), Put: m} }
	made := func(names ...string) func(*config.Config) []config.Edit {
		return func(*config.Config) (edits []config.Edit) {
			for _, n := range names {
				edits = append(edits, put(service(n)), put(route(n)))
			}
			return edits
		}
	}
	deleted := func(name string) func(*config.Config) []config.Edit {
		return func(*config.Config) []config.Edit {
			return []config.Edit{{Kind: config.Route, Delete: name}, {Kind: config.Service, Delete: name}}
		}
	}
	renamed := func(names map[string]string) func(*config.Config) []config.Edit {
		return func(c *config.Config) (edits []config.Edit) {
			for from, to := range names {
				s := proto.CloneOf(c.ByName(config.Service, from).Message.(*configv1.Service))
				r := proto.CloneOf(c.ByName(config.Route, from).Message.(*configv1.Route))
				s.Name, r.Name, s.Version, r.Version = to, to, 0, 0
				edits = append(edits, put(s), put(r))
			}
			return edits
		}
	}
	return []Step{
		{"two are made", made("a", "b"), []string{"a", "b"}},
		{"one is deleted", deleted("a"), []string{"b"}},
		{"it is made again", made("a"), []string{"a", "b"}},
		{"they swap names", renamed(map[string]string{"a": "b", "b": "a"}), []string{"a", "b"}},
		{"one gets another name", renamed(map[string]string{"a": "c"}), []string{"b", "c"}},
		{"another takes the name that is free", made("a"), []string{"a", "b", "c"}},
		{"three change names in a circle", renamed(map[string]string{"a": "b", "b": "c", "c": "a"}), []string{"a", "b", "c"}},
	}
}
