// Package config holds a configuration as both planes understand it: an immutable, indexed set of resources, what makes
// it valid, and the changes that lead from one to another. It does not know where configurations are kept, nor how they
// travel; it only knows the form in which a resource does: the bytes of its commit, which nobody serialises again.
package config

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// Kind is a kind of resource. The zero value is none.
type Kind uint8

// The kinds, each after those it may refer to; describe says what there is to say of each.
const (
	Policy Kind = iota + 1
	Certificate
	Consumer
	Middleware
	Pipeline
	Service
	Route
)

// lastKind is the number of kinds.
const lastKind = Route

// Message is met by the generated messages of all kinds.
type Message interface {
	proto.Message
	GetId() string
	GetName() string
	GetVersion() uint32
	GetCreatedAt() *timestamppb.Timestamp
	GetUpdatedAt() *timestamppb.Timestamp
	GetLabels() map[string]string
	GetEnvironment() map[string]string
}

// Kinds returns all kinds, each after those it may refer to.
func Kinds() []Kind {
	all := make([]Kind, lastKind)
	for i := range all {
		all[i] = Kind(i + 1)
	}
	return all
}

// Apart returns the kinds whose resources nodes get apart from the configuration, because there may be a million of
// them: each kind is a set of its own, of which a change is sent by itself.
func Apart() []Kind {
	return slices.DeleteFunc(Kinds(), func(k Kind) bool { return !k.IsApart() })
}

// Together returns the kinds that are not apart, each after those it may refer to.
func Together() []Kind { return slices.DeleteFunc(Kinds(), Kind.IsApart) }

// IsApart reports whether nodes get the kind's resources apart from the configuration.
func (k Kind) IsApart() bool { return describe(k).apart }

// String returns the singular, such as "route".
func (k Kind) String() string { return describe(k).one }

// Plural returns the name of a list and of the store's table, such as "routes"; "middleware" is its own plural.
func (k Kind) Plural() string { return describe(k).many }

// ParseKind reads a singular or a plural.
func ParseKind(s string) (Kind, error) {
	lower := strings.ToLower(s)
	var all []string
	for k := range lastKind {
		k++
		if lower == k.String() || lower == k.Plural() {
			return k, nil
		}
		all = append(all, k.Plural())
	}
	return 0, fmt.Errorf("%q is no kind of resource; there are %s", s, strings.Join(all, ", "))
}

// Proto returns the kind as the stream writes it.
func (k Kind) Proto() streamv1.Kind { return describe(k).wire }

// KindOf reads the stream's kind.
func KindOf(wire streamv1.Kind) (Kind, error) {
	for k := range lastKind {
		if k++; k.Proto() == wire {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown kind of resource %d", wire)
}

// New returns an empty message of a kind.
func New(k Kind) Message { return describe(k).make() }

// KindOfMessage returns a message's kind; 0 for one that is no resource.
func KindOfMessage(m Message) Kind {
	d := m.ProtoReflect().Descriptor()
	for k := range lastKind {
		if k++; describe(k).descriptor == d {
			return k
		}
	}
	return 0
}

// setField sets a field that all kinds have.
func setField(m Message, name protoreflect.Name, v protoreflect.Value) {
	r := m.ProtoReflect()
	r.Set(r.Descriptor().Fields().ByName(name), v)
}
