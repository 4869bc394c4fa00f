package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("ab", 200)
	for name, c := range map[string]struct {
		source       string
		line, column int
		want         string
	}{
		"a mark under its column":    {"key: value", 7, 6, "\n    7 | key: value\n      |      ^"},
		"tabs stay tabs":             {"\tkey: value", 7, 7, "\n    7 | \tkey: value\n      | \t     ^"},
		"characters, not bytes":      {"ä: ö: x", 1, 4, "\n    1 | ä: ö: x\n      |    ^"},
		"after the end":              {"key:", 1, 5, "\n    1 | key:\n      |     ^"},
		"beyond the end":             {"key:", 1, 6, ""},
		"nowhere":                    {"key:", 1, 0, ""},
		"an empty line":              {"  ", 1, 1, ""},
		"the start of a long line":   {long, 1, 1, "\n    1 | " + long[:100] + "...\n      | ^"},
		"the middle of a long line":  {long, 1, 201, "\n    1 | ..." + long[150:250] + "...\n      | " + strings.Repeat(" ", 53) + "^"},
		"the end of a long line":     {long, 1, 400, "\n    1 | ..." + long[349:] + "\n      | " + strings.Repeat(" ", 53) + "^"},
		"a line number of six signs": {"x", 123456, 1, "\n123456 | x\n       | ^"},
	} {
		if got := marked(c.source, c.line, c.column); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", name, got, c.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	said := func(code codes.Code, detail string) error {
		s, err := status.New(code, "why").WithDetails(&adminv1.ErrorDetail{Code: detail, Message: "why"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Errorf("call: %w", s.Err())
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, ExitOK},
		{ErrDifferences, ExitDifferences},
		{&UsageError{"x"}, ExitUsage},
		{&InvalidError{}, ExitInvalid},
		{ErrNoToken, ExitUnauthenticated},
		{said(codes.InvalidArgument, "VALIDATION_FAILED"), ExitInvalid},
		{said(codes.NotFound, "NOT_FOUND"), ExitNotFound},
		{said(codes.Aborted, "VERSION_CONFLICT"), ExitConflict},
		{said(codes.FailedPrecondition, "RESOURCE_IN_USE"), ExitConflict},
		{said(codes.Unauthenticated, "UNAUTHENTICATED"), ExitUnauthenticated},
		{said(codes.Unavailable, "STORE_UNAVAILABLE"), ExitUnavailable},
		{status.Error(codes.Unavailable, "x"), ExitUnavailable},
		{status.Error(codes.DeadlineExceeded, "x"), ExitUnavailable},
		{status.Error(codes.Internal, "x"), ExitOther},
		{errors.New("x"), ExitOther},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}
