package admin

import (
	"context"
	"fmt"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// checkSecrets refuses secrets in edits of who may not change them, whatever they are and whether the edits are to be
// committed or only tried: that nothing would change, or that another resource has the same one, would tell of a guess
// that it is right. v may be nil.
func checkSecrets(ctx context.Context, v *catalog.Version, edits []config.Edit) error {
	id := access.Of(ctx)
	if id == nil {
		return failure(fault.Unauthenticated, "nobody is known to do this")
	}
	if id.Role >= access.Editor && id.Scope.IsAll() {
		return nil
	}
	for _, e := range edits {
		if e.Put == nil {
			continue
		}
		secrets := config.Secrets(e.Put)
		if len(secrets) == 0 {
			continue
		}
		if id.Role < access.Editor {
			return failure(fault.Forbidden, fmt.Sprintf("secrets are for who may change them; %q has the role %s: "+
				"leave them out, and those that are stored count", id.Name, id.Role),
				problemsOf(config.Problems{{Kind: e.Kind, Name: e.Put.GetName(), Field: secrets[0].Field,
					Message: "is a secret"}})...)
		}
		why := id.Scope.Holds(e.Kind, e.Put.GetLabels())
		if stored := storedOf(v, e); why == "" && stored != nil {
			why = id.Scope.Holds(e.Kind, stored.GetLabels())
		}
		if why != "" {
			return &access.Outside{Kind: e.Kind, Name: e.Put.GetName(), Why: why, Who: id.Name}
		}
	}
	return nil
}

// storedOf returns what an edit puts something in the place of; nil: nothing.
func storedOf(v *catalog.Version, e config.Edit) config.Message {
	if v == nil {
		return nil
	}
	found := v.Config.ByID(e.Kind, e.Put.GetId())
	if found == nil {
		found = v.Config.ByName(e.Kind, e.Put.GetName())
	}
	if found == nil {
		return nil
	}
	return found.Message
}
