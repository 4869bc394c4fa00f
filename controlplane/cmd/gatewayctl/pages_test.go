package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeOfPages = regexp.MustCompile("(?s)```(\\w*)[^\\n]*\\n(.*?)```|`([^`]+)`")
	commandLine = regexp.MustCompile(`(?:^|[\s/])gatewayctl((?:[ \t]+[^\s#|>;)]+)+)`)
)

// TestPagesNameCommands: every command line of gatewayctl on the pages for users has a command, and flags, that there
// are.
func TestPagesNameCommands(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	paths, err := filepath.Glob(filepath.Join(root, "deploy", "guide", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range append(paths, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range codeOfPages.FindAllStringSubmatch(string(text), -1) {
			shown := code[2]
			switch {
			case code[3] != "":
				shown = strings.ReplaceAll(code[3], "\n", " ") // a span goes on in the next line of its paragraph
			case code[1] != "sh":
				continue
			}
			for _, line := range commandLine.FindAllStringSubmatch(shown, -1) {
				found++
				if wrong := wrongIn(strings.Fields(line[1])); wrong != "" {
					t.Errorf("%s: gatewayctl%s: there is no %s", filepath.Base(path), line[1], wrong)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d command lines were found", found)
	}
	for line, want := range map[string]string{
		"aply -f x": "aply", "history purge": "purge", "apply --prun -f x": "--prun", "get routes -z": "-z",
		"diff -f x --from 5": "", "--help": "", "history prune --age=1h": "", "-o json get routes": "",
	} {
		if got := wrongIn(strings.Fields(line)); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// wrongIn returns the first word of a command line that names no command or flag; "" where all do.
func wrongIn(words []string) string {
	cmd := newRoot().command()
	cmd.InitDefaultHelpFlag()
	cmd, rest, err := cmd.Find(words)
	if err != nil {
		return words[0]
	}
	for _, w := range rest {
		name, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(name, "--"):
			if cmd.Flag(name[2:]) == nil {
				return name
			}
		case strings.HasPrefix(name, "-") && len(name) == 2:
			if cmd.Flags().ShorthandLookup(name[1:]) == nil && cmd.InheritedFlags().ShorthandLookup(name[1:]) == nil {
				return name
			}
		case cmd.HasSubCommands() && !strings.HasPrefix(name, "-") &&
			(!cmd.HasParent() || cmd.ValidateArgs([]string{name}) != nil): // some take arguments besides
			return name
		}
	}
	return ""
}
