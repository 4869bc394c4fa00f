package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func command(t *testing.T, file string, args ...string) (*cobra.Command, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "x", RunE: func(cmd *cobra.Command, _ []string) error { return Load(cmd) }, SilenceErrors: true, SilenceUsage: true}
	Bind(cmd)
	cmd.Flags().String("http-addr", "default", "")
	cmd.Flags().StringToString("labels", nil, "")
	cmd.Flags().Duration("timeout", 0, "")
	cmd.Flags().Uint32("limit", 0, "")
	cmd.Flags().Bool("replace", false, "")
	if file != "" {
		path := filepath.Join(t.TempDir(), "s.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config-file", path)
	}
	cmd.SetArgs(args)
	return cmd, cmd.Execute()
}

func TestPrecedence(t *testing.T) {
	for _, c := range []struct {
		name, file, env, want string
		args                  []string
	}{
		{"default", "", "", "default", nil},
		{"file", "http-addr: file", "", "file", nil},
		{"environment over file", "http-addr: file", "env", "env", nil},
		{"flag over all", "http-addr: file", "env", "flag", []string{"--http-addr=flag"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("GATEWAY_HTTP_ADDR", c.env)
			}
			cmd, err := command(t, c.file, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := cmd.Flags().GetString("http-addr"); got != c.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestFileErrors(t *testing.T) {
	if _, err := command(t, "labels: {a: b}\nhttp-adr: x"); err == nil ||
		!strings.Contains(err.Error(), `:2: there is no setting "http-adr"; did you mean "http-addr"?`) {
		t.Errorf("got %v", err)
	}
	cmd, err := command(t, "labels: {a: b}")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := cmd.Flags().GetStringToString("labels"); got["a"] != "b" {
		t.Errorf("got %v", got)
	}
}

// TestErrorsInPlainWords: wherever a value comes from, the error says what it has to be.
func TestErrorsInPlainWords(t *testing.T) {
	for _, c := range []struct {
		name, file, env, want string
		args                  []string
	}{
		{"a flag's number", "", "", `--limit "x": has to be a whole number, 0 or more`, []string{"--limit=x"}},
		{"a flag's duration", "", "", `--timeout "5": has to be a duration such as`, []string{"--timeout=5"}},
		{"a flag's boolean", "", "", `--replace "maybe": has to be true or false`, []string{"--replace=maybe"}},
		{"a flag's mapping", "", "", `--labels "a": has to be key=value`, []string{"--labels=a"}},
		{"a flag that is not there", "", "", `unknown flag: --tiemout; did you mean --timeout?`, []string{"--tiemout=5s"}},
		{"a flag that nothing is like", "", "", `unknown flag: --bananas`, []string{"--bananas"}},
		{"the environment", "", "soon", `environment variable GATEWAY_TIMEOUT: --timeout "soon": has to be a duration`, nil},
		{"the file", "limit: 1\ntimeout: soon", "", `:2: --timeout "soon": has to be a duration`, nil},
		{"the file's number", "limit: -1", "", `:1: --limit "-1": has to be a whole number, 0 or more`, nil},
		{"no YAML", "labels: 'a\nlimit: 1\n", "", `:1:9: is no YAML: the quote that is opened here is never closed`, nil},
		{"tabs", "labels:\n\ta: b\n", "", `:2:1: is no YAML:`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("GATEWAY_TIMEOUT", c.env)
			}
			_, err := command(t, c.file, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "strconv") ||
				strings.Contains(err.Error(), "yaml: ") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
