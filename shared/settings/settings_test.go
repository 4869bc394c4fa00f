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
	if _, err := command(t, "labels: {a: b}\nhttp-adr: x"); err == nil || !strings.Contains(err.Error(), `:2: there is no setting "http-adr"; there are http-addr, labels`) {
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
