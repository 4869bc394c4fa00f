package middleware

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// maxKeyPlaces is how many fields, parameters or cookies a key may be in.
const maxKeyPlaces = 16

func apiKeyType() *Type {
	return &Type{
		Name:     "api_key",
		New:      func() proto.Message { return &middlewarev1.ApiKey{} },
		Validate: validateAPIKey,
		normalise: func(cfg *structpb.Struct) {
			for _, name := range []string{"headers", "query", "cookie"} {
				if v := cfg.GetFields()[name]; v.GetStringValue() != "" {
					cfg.Fields[name] = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{v}})
				}
			}
		},
	}
}

func validateAPIKey(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.ApiKey)
	for list, names := range map[string][]string{"headers": s.GetHeaders(), "query": s.GetQuery(),
		"cookie": s.GetCookie()} {
		if len(names) > maxKeyPlaces {
			c.fail(list, fmt.Sprint(len(names)), "has more than %d names", maxKeyPlaces)
		}
		for i, name := range names {
			at := fmt.Sprintf("%s[%d]", list, i)
			switch {
			case list == "headers":
				c.credentialField(at, name)
			case list == "query" && (name == "" || len(name) > 128 || !isASCII(name)):
				c.fail(at, name, "has to be 1 to 128 visible ASCII characters")
			case list == "cookie" && !ValidFieldName(name): // RFC 6265 section 4.1.1: a token, as a field's name is
				c.fail(at, name, "is no name of a cookie")
			}
		}
	}
	c.consumerHeader(s.GetConsumerHeader())
	c.excludePaths(s.GetExcludePaths())
	return c.errs
}

// credentialField checks the name of a field that clients send credentials in.
func (c *collector) credentialField(at, name string) {
	switch lower := strings.ToLower(name); {
	case !ValidFieldName(name):
		c.fail(at, name, "is no field name")
	case slices.Contains(framingFields, lower), slices.Contains(writtenFields, lower), lower == "cookie":
		c.fail(at, name, "is a field that has a meaning of its own, and can't be one for this")
	}
}

// consumerHeader checks the field that tells a service the consumer.
func (c *collector) consumerHeader(name string) {
	if name != "" {
		c.credentialField("consumer_header", name)
	}
}
