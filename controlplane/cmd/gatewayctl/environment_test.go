package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/controlplane/internal/cli"
)

// TestSecretsOfTheEnvironment looks at everything that shows a configuration some of which came from the environment.
func TestSecretsOfTheEnvironment(t *testing.T) {
	serve(t)
	const text = `x-upstream: &upstream {request: {set: {Authorization: "Bearer ${env:GATEWAY_TEST_TOKEN}"}}}
middleware:
  - {name: authorize, type: headers, config: {<<: *upstream}, labels: {team: a}}
routes:
  - {name: r, path: /, headers: [{name: x-shared, exact: "${env:GATEWAY_TEST_TOKEN}"}], direct_response: {status: 204}}
`
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctl := func(stdin string, want int, args ...string) string {
		t.Helper()
		out, complaint, code := gatewayctl(t, stdin, args...)
		if code != want || strings.Contains(out+complaint, "s3cret") {
			t.Errorf("gatewayctl %s: exit %d\n%s%s", strings.Join(args, " "), code, out, complaint)
		}
		return out + complaint
	}
	if got := ctl("", cli.ExitInvalid, "apply", "-f", path); !strings.Contains(got, "a.yaml:1:") ||
		!strings.Contains(got, "no variable GATEWAY_TEST_TOKEN") {
		t.Errorf("without the variable: %s", got)
	}
	t.Setenv("GATEWAY_TEST_TOKEN", "s3cret-1")
	show := func(when string) {
		t.Helper()
		for _, args := range [][]string{
			{"get", "middleware", "-o", "yaml"}, {"get", "middleware", "-o", "json"}, {"get", "route", "r", "-o", "json"},
			{"export"}, {"export", "-o", "json"},
			{"revisions", "1", "-o", "json"},
		} {
			if got := ctl("", 0, args...); !strings.Contains(got, "${env:GATEWAY_TEST_TOKEN}") {
				t.Errorf("%s: gatewayctl %s does not say where the value is from:\n%s", when, strings.Join(args, " "), got)
			}
		}
	}
	ctl("", cli.ExitDifferences, "diff", "-f", path)
	ctl("", 0, "apply", "-f", path, "--dry-run")
	ctl("", 0, "apply", "-f", path, "-o", "json")
	show("after the apply")
	if got := ctl("", 0, "apply", "-f", path); !strings.Contains(got, "nothing to change") {
		t.Errorf("applied again: %s", got)
	}
	exported := ctl("", 0, "export")
	if got := ctl(exported, 0, "apply", "-f", "-", "--prune"); !strings.Contains(got, "nothing to change") {
		t.Errorf("what was exported: %s", got)
	}
	asList := ctl("", 0, "get", "middleware", "-o", "yaml")
	if err := os.Unsetenv("GATEWAY_TEST_TOKEN"); err != nil { // t.Setenv brings it back
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text, want string
		code             int
		args             []string
	}{
		{"an apply", exported, "nothing to change", 0, []string{"apply", "-f", "-", "--prune"}},
		{"an apply of one kind", asList, "nothing to change", 0, []string{"apply", "-f", "-"}},
		{"a diff", exported, "no variable GATEWAY_TEST_TOKEN", 0, []string{"diff", "-f", "-", "--prune"}},
		{"a validation", exported, "valid\n", 0, []string{"validate", "-f", "-"}},
		{"a validation without a control plane", exported, "valid\n", 0, []string{"validate", "-f", "-", "--offline"}},
		{"another text", strings.ReplaceAll(exported, "Bearer ${env", "Basic ${env"), "no value of it is stored: apply " +
			"the file where the variable is set, or give the value; the environment has no variable GATEWAY_TEST_TOKEN",
			cli.ExitInvalid, []string{"apply", "-f", "-"}},
		{"settings that can't be read", `middleware: [{name: m, type: cors, config: {allow_origins: ["*"],
			max_age: "${env:GATEWAY_TEST_TOKEN}"}}]`, "not everything was checked", 0, []string{"validate", "-f", "-", "--offline"}},
	} {
		if got := ctl(c.text, c.code, c.args...); !strings.Contains(got, c.want) ||
			strings.Count(got, "no variable GATEWAY_TEST_TOKEN") != 1 {
			t.Errorf("%s without the variable: %s", c.name, got)
		}
	}
	t.Setenv("GATEWAY_TEST_TOKEN", "s3cret-1")
	ctl("", 0, "disable", "middleware", "authorize")
	show("after another change")
	ctl("", 0, "apply", "-f", path)

	t.Setenv("GATEWAY_TEST_TOKEN", "s3cret-2")
	if got := ctl("", cli.ExitDifferences, "diff", "-f", path); strings.Count(got, "(another value)") != 2 {
		t.Errorf("another value: %s", got)
	}
	if got := ctl("", 0, "apply", "-f", path); !strings.Contains(got, "2 updated") {
		t.Errorf("another value: %s", got)
	}
	ctl("", cli.ExitDifferences, "diff", "--from", "1")
	show("after another value")
	ctl("", 0, "rollback", "1")
	t.Setenv("GATEWAY_TEST_TOKEN", "s3cret-\n3")
	ctl("", cli.ExitInvalid, "apply", "-f", path)
}
