package file

import (
	"errors"
	"strings"
	"testing"
)

// endless is a file without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, strings.Repeat(" ", len(p))), nil }

func TestBoundsOfFiles(t *testing.T) {
	if _, err := Load([]string{"-"}, endless{}); err == nil || !strings.Contains(err.Error(), "is larger than 64 MiB") {
		t.Errorf("a file without an end: %v", err)
	}
	deep := func(n int) string {
		return "middleware:\n  - {name: m, config: {a: " + strings.Repeat("[", n) + strings.Repeat("]", n) + "}}\n"
	}
	if _, err := load(deep(60)); err != nil {
		t.Errorf("60 lists in each other: %v", err)
	}
	if _, err := load(deep(70)); err == nil || !strings.Contains(err.Error(), "is nested deeper than 64 levels") {
		t.Errorf("70 lists in each other: %v", err)
	}
	_, err := load("routes:\n" + strings.Repeat("  - {named: a}\n", 1000))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors {
		t.Errorf("%d errors are told of 1,000", len(errs))
	}
}
