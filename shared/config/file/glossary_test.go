package file_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// The glossary is alphabetical, has each term once, and the packages that it names are there.
func TestGlossary(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "guide", "glossary.md"))
	if err != nil {
		t.Fatal(err)
	}
	var terms []string
	for _, row := range regexp.MustCompile("(?m)^\\| (.+?) \\| .+\\. \\| \\[`(.+?)`\\]").FindAllStringSubmatch(string(text), -1) {
		terms = append(terms, row[1])
		if found, _ := filepath.Glob(filepath.Join(root, row[2], "*.go")); len(found) == 0 {
			t.Errorf("%s is in package %s, which is not there", row[1], row[2])
		}
	}
	if len(terms) < 50 {
		t.Fatalf("only %d terms were found", len(terms))
	}
	if !slices.IsSorted(terms) {
		t.Errorf("the terms are not in order: %q", terms)
	}
	if once := slices.Compact(slices.Clone(terms)); len(once) != len(terms) {
		t.Errorf("a term is there twice: %q", terms)
	}
}
