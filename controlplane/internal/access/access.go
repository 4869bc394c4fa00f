// Package access says who may use the admin API, and what they may do: roles, the tokens of users and services, and the
// scopes that confine them. It does not know the calls of the API, nor how a caller shows who it is.
package access

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gateway.internal/shared/config"
)

// Role is what its holder may do. Each role may do what those before it may. The zero value may do nothing.
type Role uint8

// The roles.
const (
	// Viewer reads the configuration and what nodes say.
	Viewer Role = iota + 1
	// Editor changes the configuration.
	Editor
	// Operator changes what is not configuration (circuits), goes back to revisions, and reads the audit trail.
	Operator
	// Admin does everything: also making tokens, and changing the history.
	Admin
)

var roles = []string{"", "viewer", "editor", "operator", "admin"}

// Roles returns the names of all roles, each before those that may do more.
func Roles() []string { return slices.Clone(roles[1:]) }

// String returns the role's name; "" for the zero value.
func (r Role) String() string { return roles[r] }

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	if i := slices.Index(roles, name); i > 0 {
		return Role(i), nil
	}
	return 0, fmt.Errorf("has to be one of %s", strings.Join(roles[1:], ", "))
}

// Scope is which resources its holder may change. The zero value is all of them.
type Scope struct {
	// Kinds are the kinds that may be changed; empty: all.
	Kinds []config.Kind
	// Labels are what a resource has to have; empty: nothing.
	Labels map[string]string
}

// IsAll reports whether nothing is outside of the scope.
func (s Scope) IsAll() bool { return len(s.Kinds) == 0 && len(s.Labels) == 0 }

// Holds returns why a resource is outside of the scope; "" when it is inside.
func (s Scope) Holds(k config.Kind, labels map[string]string) string {
	if len(s.Kinds) > 0 && !slices.Contains(s.Kinds, k) {
		return "is of a kind that is not among " + strings.Join(Plurals(s.Kinds), ", ")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		if labels[name] != s.Labels[name] {
			return fmt.Sprintf("does not have the label %s=%s", name, s.Labels[name])
		}
	}
	return ""
}

// Plurals returns the kinds' names as the API has them.
func Plurals(kinds []config.Kind) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.Plural())
	}
	return out
}

// Outside is a change that its author's scope does not hold.
type Outside struct {
	Kind config.Kind
	Name string
	// Why says what the scope asks for, such as "does not have the label team=a".
	Why string
	// Who is the author.
	Who string
}

// Error implements error.
func (e *Outside) Error() string {
	return fmt.Sprintf("%s %q %s, which %q is confined to", e.Kind, e.Name, e.Why, e.Who)
}

// Identity is who makes a call. It is immutable.
type Identity struct {
	// Name is who is seen to act, such as the token's name.
	Name string
	// Method is how it was shown, one of the Methods.
	Method Method
	Role   Role
	Scope  Scope
	// User is the person whom a token is for; empty: none.
	User string
	// TokenID is the token's id; empty: none.
	TokenID string
	// Expires is when the identity ends; zero: it does not.
	Expires time.Time
}

// Method is how a caller shows who it is.
type Method string

// The methods.
const (
	// Administrator is the token that the control plane was started with.
	Administrator Method = "administrator"
	// ByToken is a token of the store.
	ByToken Method = "token"
)

// Check returns, as *Outside, the first change that is outside of the identity's scope: what is changed has to be in it
// before and after, or a label that is moved would let a resource in or out.
func (id *Identity) Check(changes []config.Change) error {
	if id.Scope.IsAll() {
		return nil
	}
	for _, ch := range changes {
		for _, e := range []*config.Entry{ch.Before, ch.After} {
			if e == nil {
				continue
			}
			if why := id.Scope.Holds(ch.Kind, e.Message.GetLabels()); why != "" {
				return &Outside{Kind: ch.Kind, Name: ch.Name(), Why: why, Who: id.Name}
			}
		}
	}
	return nil
}

type identityKey struct{}

// With returns a context of a call by an identity.
func With(ctx context.Context, id *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// Of returns who makes the call of a context; nil: nobody is known to.
func Of(ctx context.Context) *Identity {
	id, _ := ctx.Value(identityKey{}).(*Identity)
	return id
}
