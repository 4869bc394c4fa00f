package middleware

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// The limits of decompress's settings.
const (
	maxDecodedBytes = 1 << 40
	maxDecodedRatio = 1 << 20
)

func decompressType() *Type {
	return &Type{
		Name:     "decompress",
		New:      func() proto.Message { return &middlewarev1.Decompress{} },
		Validate: validateDecompress,
	}
}

func validateDecompress(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.Decompress)
	c.algorithms(s.GetAlgorithms())
	if n := s.GetMaxBytes(); n < 0 || n > maxDecodedBytes {
		c.fail("max_bytes", fmt.Sprint(n), "has to be from 1 to %d, or 0 for the default", int64(maxDecodedBytes))
	}
	if n := s.GetMaxRatio(); n > maxDecodedRatio {
		c.fail("max_ratio", fmt.Sprint(n), "has to be at most %d", maxDecodedRatio)
	}
	return c.errs
}

// ContentCodings returns the names of the content codings that are encoded and decoded, in the order in which they
// are preferred.
func ContentCodings() []string { return []string{"zstd", "br", "gzip"} }

func (c *collector) algorithms(names []string) {
	for i, name := range names {
		at := fmt.Sprintf("algorithms[%d]", i)
		switch {
		case !slices.Contains(ContentCodings(), name):
			c.fail(at, name, `is no content coding that is known: "gzip", "br" or "zstd"`)
		case slices.Contains(names[:i], name):
			c.fail(at, name, "is there twice")
		}
	}
}
