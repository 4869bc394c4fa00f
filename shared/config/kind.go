// Package config holds a configuration as both planes understand it: an immutable, indexed set of resources, what makes it
// valid, and the changes that lead from one to another. It does not know where configurations are kept, nor how they
// travel; it only knows the form in which a resource does: the bytes of its commit, which nobody serialises again.
package config

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// Kind is a kind of resource. The zero value is none.
type Kind uint8

// The kinds, each after those it may refer to.
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

// Message is met by the generated messages of the seven kinds.
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
	return []Kind{Policy, Certificate, Consumer, Middleware, Pipeline, Service, Route}
}

var kindNames = [...]struct{ one, many string }{
	Policy:      {"policy", "policies"},
	Certificate: {"certificate", "certificates"},
	Consumer:    {"consumer", "consumers"},
	Middleware:  {"middleware", "middleware"},
	Pipeline:    {"pipeline", "pipelines"},
	Service:     {"service", "services"},
	Route:       {"route", "routes"},
}

// String returns the singular, such as "route".
func (k Kind) String() string {
	if k < 1 || k > lastKind {
		return ""
	}
	return kindNames[k].one
}

// Plural returns the name of a list, such as "routes"; "middleware" is its own plural.
func (k Kind) Plural() string {
	if k < 1 || k > lastKind {
		return ""
	}
	return kindNames[k].many
}

// ParseKind reads a singular or a plural.
func ParseKind(s string) (Kind, error) {
	lower := strings.ToLower(s)
	var all []string
	for _, k := range Kinds() {
		if lower == k.String() || lower == k.Plural() {
			return k, nil
		}
		all = append(all, k.Plural())
	}
	return 0, fmt.Errorf("%q is no kind of resource; there are %s", s, strings.Join(all, ", "))
}

// Proto returns the kind as the stream writes it.
func (k Kind) Proto() streamv1.Kind {
	switch k {
	case Policy:
		return streamv1.Kind_KIND_POLICY
	case Certificate:
		return streamv1.Kind_KIND_CERTIFICATE
	case Consumer:
		return streamv1.Kind_KIND_CONSUMER
	case Middleware:
		return streamv1.Kind_KIND_MIDDLEWARE
	case Pipeline:
		return streamv1.Kind_KIND_PIPELINE
	case Service:
		return streamv1.Kind_KIND_SERVICE
	case Route:
		return streamv1.Kind_KIND_ROUTE
	}
	return streamv1.Kind_KIND_UNSPECIFIED
}

// KindOf reads the stream's kind.
func KindOf(k streamv1.Kind) (Kind, error) {
	for _, own := range Kinds() {
		if own.Proto() == k {
			return own, nil
		}
	}
	return 0, fmt.Errorf("unknown kind of resource %d", k)
}

// New returns an empty message of a kind.
func New(k Kind) Message {
	switch k {
	case Policy:
		return &configv1.Policy{}
	case Certificate:
		return &configv1.Certificate{}
	case Consumer:
		return &configv1.Consumer{}
	case Middleware:
		return &configv1.Middleware{}
	case Pipeline:
		return &configv1.Pipeline{}
	case Service:
		return &configv1.Service{}
	default:
		return &configv1.Route{}
	}
}

// KindOfMessage returns a message's kind.
func KindOfMessage(m Message) Kind {
	switch m.(type) {
	case *configv1.Policy:
		return Policy
	case *configv1.Certificate:
		return Certificate
	case *configv1.Consumer:
		return Consumer
	case *configv1.Middleware:
		return Middleware
	case *configv1.Pipeline:
		return Pipeline
	case *configv1.Service:
		return Service
	case *configv1.Route:
		return Route
	}
	return 0
}
