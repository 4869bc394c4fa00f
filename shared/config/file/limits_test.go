package file_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that the guide names for limits are there, in the packages that it names.
func TestLimitsHaveTheirTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "guide", "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("(?m)\\| `([a-z/]+)` ((?:(?:, )?(?:Test|Fuzz)\\w+)+) \\|$")
	rows := named.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 20 {
		t.Fatalf("only %d limits with tests were found", len(rows))
	}
	for _, row := range rows {
		var code strings.Builder
		for _, pattern := range []string{row[1], "*/internal/" + row[1]} {
			files, err := filepath.Glob(filepath.Join(root, pattern, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				code.Write(text)
			}
		}
		for name := range strings.SplitSeq(row[2], ", ") {
			if !strings.Contains(code.String(), "func "+name+"(") {
				t.Errorf("package %s has no %s", row[1], name)
			}
		}
	}
}
