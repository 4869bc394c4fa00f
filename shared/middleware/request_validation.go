package middleware

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/validation"
)

// The limits of request_validation's settings.
const (
	maxValidatedBody   = 16 << 20
	maxValidatedValues = 1_000_000
)

func requestValidationType() *Type {
	return &Type{
		Name:     "request_validation",
		New:      func() proto.Message { return &middlewarev1.RequestValidation{} },
		Validate: validateRequestValidation,
		Waits:    WaitsSometimes,
	}
}

func validateRequestValidation(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.RequestValidation)
	if (s.GetJsonSchema() == nil) == (s.GetOpenapi() == nil) {
		c.fail("json_schema", "", "exactly one of json_schema and openapi is required")
		return c.errs
	}
	if n := s.GetMaxBodyBytes(); n > maxValidatedBody {
		c.fail("max_body_bytes", fmt.Sprint(n), "has to be at most %d", maxValidatedBody)
	}
	if n := s.GetMaxValues(); n > maxValidatedValues {
		c.fail("max_values", fmt.Sprint(n), "has to be at most %d", maxValidatedValues)
	}
	if v := s.GetMode(); !slices.Contains([]string{"", "enforce", "report"}, v) {
		c.fail("mode", v, `has to be "enforce" or "report"`)
	}
	if v := s.GetUnknown(); !slices.Contains([]string{"", "refuse", "pass"}, v) {
		c.fail("unknown", v, `has to be "refuse" or "pass"`)
	}
	if s.GetOpenapi() == nil && (s.GetUnknown() != "" || s.GetBasePath() != "") {
		c.fail("openapi", "", "is required for base_path and unknown")
	}
	if p := s.GetBasePath(); p != "" && (p[0] != '/' || strings.ContainsAny(p, "{}*?#")) {
		c.fail("base_path", p, `is no path such as "/shop/v1"`)
		return c.errs
	}
	if _, err := CompileSchema(s); err != nil {
		c.fail("json_schema", "", "%s", err)
	}
	if _, err := CompileDocument(s); err != nil {
		field := "openapi"
		var wrong *validation.FieldError
		if errors.As(err, &wrong) && wrong.Field != "" {
			field += "." + wrong.Field
			err = errors.New(wrong.Message)
		}
		c.fail(field, "", "%s", err)
	}
	return c.errs
}

// CompileSchema compiles the json_schema of settings; nil: they have none.
func CompileSchema(s *middlewarev1.RequestValidation) (*validation.Schema, error) {
	if s.GetJsonSchema() == nil {
		return nil, nil //nolint:nilnil // which is as good as any
	}
	v, err := numbered(s.GetJsonSchema().AsInterface())
	if err != nil {
		return nil, err
	}
	return validation.CompileSchema(v)
}

// CompileDocument compiles the openapi of settings; nil: they have none.
func CompileDocument(s *middlewarev1.RequestValidation) (*validation.Document, error) {
	if s.GetOpenapi() == nil {
		return nil, nil //nolint:nilnil // which is as good as any
	}
	v, err := numbered(s.GetOpenapi().AsMap())
	if err != nil {
		return nil, err
	}
	return validation.CompileDocument(v.(map[string]any), s.GetBasePath())
}

// numbered returns a value with its numbers as json.Number.
func numbered(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(raw))
}
