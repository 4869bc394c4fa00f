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
	const room = 1000
	half := strings.Repeat("\n", room/2)
	for name, test := range map[string]struct {
		texts []string
		fits  bool
	}{
		"as many values as may be":       {[]string{"x-a: [" + strings.Repeat("a,", room-2) + "]"}, true},
		"one more":                       {[]string{"x-a: [" + strings.Repeat("a,", room-1) + "]"}, false},
		"lists":                          {[]string{"x-a: [" + strings.Repeat("[],", room/2) + "]"}, false},
		"a list of lines":                {[]string{"x-a:\n" + strings.Repeat("- a\n", room/2)}, false},
		"two files, each of them half":   {[]string{half, half}, true},
		"three files, each of them half": {[]string{half, half, half}, false},
	} {
		sum := values{signs: maxSigns - room}
		var errs Errors
		for _, text := range test.texts {
			sum.check("a.yaml", []byte(text), &errs)
		}
		if len(errs) == 0 != test.fits || !test.fits && !strings.Contains(errs.Error(), "4000000 is the limit; apply it in") {
			t.Errorf("%s: %v", name, errs)
		}
	}
	_, err := load("x-a: [" + strings.Repeat("[],", maxSigns/2) + "]")
	if err == nil || !strings.Contains(err.Error(), "has too many values: ") {
		t.Errorf("a file of lists: %v", err)
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
	_, err = load("routes:\n" + strings.Repeat("  - {named: a}\n", 1000))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors {
		t.Errorf("%d errors are told of 1,000", len(errs))
	}
}
