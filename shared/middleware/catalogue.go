// Package middleware is the catalogue of middleware types: for each, its settings message, what is valid, and what a
// pipeline has to know of it. The control plane checks configuration against it before a commit, and nodes run only
// what it has. It does not know how a type works: that is the data plane's folder of the same name.
package middleware

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/shared/reason"
	"gateway.internal/shared/suggest"
)

// Waits is how often the request phase of a type waits for something, such as another service's answer. Nodes run what
// does not wait where it costs least.
type Waits uint8

const (
	// WaitsNever is of a type that only computes.
	WaitsNever Waits = iota
	// WaitsSometimes is of a type that knows before it begins whether it has to wait, such as one that caches.
	WaitsSometimes
	// WaitsAlways is of a type that nearly always waits.
	WaitsAlways
)

// Type is one middleware type.
type Type struct {
	// Name is what a middleware's type field says.
	Name string
	// New returns an empty settings message.
	New func() proto.Message
	// normalise brings what a user wrote into the form that is stored; nil: it is stored as it is.
	normalise func(*structpb.Struct)
	// Validate returns everything that is wrong with settings.
	Validate func(proto.Message) []FieldError
	// Parallel tells that the request phase may run together with others'.
	Parallel bool
	// Waits is how often its request phase waits.
	Waits Waits
	// AnswersPreflights tells that its request phase answers CORS preflights, so that the routes which run it take those
	// for their methods (Fetch standard, CORS-preflight fetch).
	AnswersPreflights bool
	// bodyLimit is the field of its settings that makes it read the request's body, which no step of a parallel pipeline
	// can; empty: it has none.
	bodyLimit string
	// services are the fields of its settings, on their first level, that name a service each.
	services []string
	// callsServices reports whether a config makes these be called by gRPC; nil: they are not.
	callsServices func(*structpb.Struct) bool
	// sentTo has, for each write-only field of its settings that nodes send to somebody, the field with the URL that they
	// send it to. Both are on the first level.
	sentTo map[string]string
}

// FieldError is one thing that is wrong with settings.
type FieldError struct {
	// Field is such as "request.set".
	Field string
	// Value is the offending value.
	Value string
	// Message says what is wrong and what would be right.
	Message string
}

// types returns the catalogue, by name.
func types() []*Type {
	return []*Type{
		compressType(), corsType(), decompressType(), extAuthType(), headersType(), ipRestrictionType(), jwtType(),
		oauth2IntrospectionType(), oidcType(), rateLimitType(), securityHeadersType(),
		authenticatedType(), celType(), csrfType(), rbacType(),
		apiKeyType(), basicAuthType(), hmacAuthType(), mtlsAuthType(),
		requestValidationType(),
	}
}

// Names returns the names of all types, sorted.
func Names() []string {
	var names []string
	for _, t := range types() {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return names
}

// Lookup finds a type by name.
func Lookup(name string) (*Type, bool) {
	for _, t := range types() {
		if t.Name == name {
			return t, true
		}
	}
	return nil, false
}

// Normalise brings a middleware's config into the form that is stored, in place: when it is put, since what is stored
// has its hash.
func Normalise(typeName string, cfg *structpb.Struct) {
	if t, ok := Lookup(typeName); ok && t.normalise != nil && cfg != nil {
		t.normalise(cfg)
	}
}

// InParallel reports whether the request phase of a middleware with a config may run together with others'.
func (t *Type) InParallel(cfg *structpb.Struct) bool {
	limit := cfg.GetFields()[t.bodyLimit]
	text := limit.GetStringValue() // which JSON may have for a number
	return t.Parallel && (t.bodyLimit == "" || limit.GetNumberValue() == 0 && (text == "" || text == "0"))
}

// ServiceReferences calls f with each field of a middleware's config that names a service, such as "config.service_id",
// and where its value stands, which f may change in a message that is not at rest.
func ServiceReferences(typeName string, cfg *structpb.Struct, f func(field string, value *string)) {
	t, ok := Lookup(typeName)
	if !ok {
		return
	}
	for _, name := range t.services {
		if v, ok := cfg.GetFields()[name].GetKind().(*structpb.Value_StringValue); ok {
			f("config."+name, &v.StringValue)
		}
	}
}

// CallsServices reports whether the services that a middleware's config names are called by gRPC, so that their
// protocol has to allow that.
func CallsServices(typeName string, cfg *structpb.Struct) bool {
	t, ok := Lookup(typeName)
	return ok && t.callsServices != nil && t.callsServices(cfg)
}

// SentTo returns the field of a type's settings with the URL that a write-only field of them is sent to, such as "url"
// for "client_secret"; empty: it is not sent, or there is no such type.
func SentTo(typeName, field string) string {
	t, ok := Lookup(typeName)
	if !ok {
		return ""
	}
	return t.sentTo[field]
}

// maxUnknown is how many unknown settings are told, as many as a reply has problems: each is compared with all known
// ones.
const maxUnknown = 100

var unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)

// Parse reads a middleware's config strictly into its type's settings and checks them. Everything that is wrong is
// returned, but that unknown settings, and then a value of a wrong type, keep the rest from being looked at; fields are
// named from the config on, such as "config.request.set".
func Parse(typeName string, cfg *structpb.Struct) (proto.Message, []FieldError) {
	t, ok := Lookup(typeName)
	if !ok {
		return nil, []FieldError{{"type", typeName, "is no middleware type" + suggest.Clause(typeName, Names())}}
	}
	settings := t.New()
	var unknown []FieldError
	for _, name := range slices.Sorted(maps.Keys(cfg.GetFields())) { // by the one name that references and the like have
		if settings.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name)) == nil {
			unknown = append(unknown, unknownSetting(t, name))
		}
		if len(unknown) == maxUnknown {
			break
		}
	}
	if len(unknown) > 0 {
		return nil, unknown
	}
	raw := []byte("{}")
	if cfg != nil {
		var err error
		if raw, err = json.Marshal(cfg.AsMap()); err != nil {
			return nil, []FieldError{{"config", "", "is not representable as JSON: " + reason.Of(err)}}
		}
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(raw, settings); err != nil {
		return nil, []FieldError{decodeError(t, err)}
	}
	errs := t.Validate(settings)
	for i := range errs {
		errs[i].Field = "config." + errs[i].Field
	}
	return settings, errs
}

func decodeError(t *Type, err error) FieldError {
	text := reason.WithoutPlace(err)
	if m := unknownField.FindStringSubmatch(text); m != nil {
		return unknownSetting(t, m[1])
	}
	return FieldError{"config", "", "does not fit the settings of " + t.Name + ": " + text}
}

func unknownSetting(t *Type, name string) FieldError {
	return FieldError{"config." + name, "", fmt.Sprintf("is unknown in the settings of %s%s", t.Name,
		suggest.Clause(name, suggest.Fields(t.New())))}
}

// collector gathers field errors.
type collector struct{ errs []FieldError }

func (c *collector) fail(field, value, format string, args ...any) {
	c.errs = append(c.errs, FieldError{field, value, fmt.Sprintf(format, args...)})
}
