package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// optionsOf reads a command line as the data plane would, and checks it.
func optionsOf(t *testing.T, args ...string) (*options, error) {
	t.Helper()
	var o options
	cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return o.check() }, SilenceErrors: true, SilenceUsage: true}
	o.bind(cmd)
	cmd.SetArgs(append([]string{"--config", "x"}, args...))
	return &o, cmd.Execute()
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := optionsOf(t, "--trusted-proxies", "10.0.0.0/8,2001:db8::1,unix", "--proxy-protocol", "accept"); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		args string
		says []string
	}{
		"a proxy that is no address":            {"--trusted-proxies lb.example", []string{"--trusted-proxies", `"lb.example"`, "192.0.2.0/24", "unix"}},
		"a proxy with bits beyond its prefix":   {"--trusted-proxies 10.1.0.0/8", []string{"--trusted-proxies", `"10.1.0.0/8"`, "10.0.0.0/8"}},
		"a choice that there is not":            {"--proxy-protocol on", []string{"--proxy-protocol", `"on"`, "off, accept or require"}},
		"the PROXY protocol of nobody":          {"--proxy-protocol require", []string{"--proxy-protocol require", "--trusted-proxies"}},
		"fields that there are not":             {"--forwarded all", []string{"--forwarded", "x-forwarded, forwarded, both or off"}},
		"the host of nobody":                    {"--route-by-forwarded-host", []string{"--route-by-forwarded-host", "--trusted-proxies"}},
		"a name server that is a name":          {"--resolver dns.example", []string{"--resolver", `"dns.example"`, "192.0.2.1"}},
		"a Redis that is none":                  {"--redis http://u:secret@redis.example", []string{"--redis: has to be redis://"}},
		"a delay that is too long":              {"--shutdown-delay 2h", []string{"--shutdown-delay 2h", "0 to 1h"}},
		"a mode that is none":                   {"--unix-socket-mode 999", []string{"--unix-socket-mode", "octal", "0660"}},
		"less than no connections":              {"--max-connections -1", []string{"--max-connections -1"}},
		"less than no connections of a client":  {"--max-connections-per-client -1", []string{"--max-connections-per-client -1"}},
		"a target without an end":               {"--max-target-bytes 100000", []string{"--max-target-bytes 100000", "65536"}},
		"a pseudonym of two words":              {"--via a,b", []string{"--via", `"a,b"`, "letters"}},
		"a node that nothing may pass":          {"--max-visits 0", []string{"--max-visits", "1 to 100"}},
		"a key for files that are none":         {"--encryption-key-file k", []string{"has to come with --control-plane"}},
		"a head that is larger than the buffer": {"--max-header-bytes 100000", []string{"--max-header-bytes 100000", "65536"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := optionsOf(t, strings.Fields(test.args)...)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %s", err, s)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q has a password", err)
			}
		})
	}
}

func TestJoinTokensAreChecked(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	short, long := file("fifteen-letters\n"), file("sixteen-letters-\n")
	for name, test := range map[string]struct {
		env, file   string
		token, says string
	}{
		"of the environment":              {"sixteen-letters-", "", "sixteen-letters-", ""},
		"the environment goes first":      {"sixteen-letters-", short, "sixteen-letters-", ""},
		"of a file, without its line end": {"", long, "sixteen-letters-", ""},
		"none":                            {"", "", "", "a join token is required"},
		"a file that is not there":        {"", filepath.Join(t.TempDir(), "no"), "", "no such file"},
		"a short one of the environment":  {"fifteen-letters", long, "", "TOKEN: has 15 characters; at least 16"},
		"a short one of a file":           {"", short, "", short + ": has 15 characters; at least 16"},
		"half of one that was made":       {"gwj1.abc.AAAAAAAAAAAA", "", "", "TOKEN: is a damaged join token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GATEWAY_JOIN_TOKEN", test.env)
			set, err := (&options{joinTokenFile: test.file, dataDir: t.TempDir()}).join(slog.New(slog.DiscardHandler))
			failed := err != nil && strings.Contains(err.Error(), test.says)
			token := ""
			if set.Token != nil {
				token = set.Token.String()
			}
			if token != test.token || failed != (test.says != "") || err != nil && !failed {
				t.Errorf("got %q and %v, want %q and an error with %q", token, err, test.token, test.says)
			}
		})
	}
	// A node that has joined serves its last good snapshot, also when its disk has damaged the certificate.
	t.Setenv("GATEWAY_JOIN_TOKEN", "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "identity.pem"), []byte("\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []string{"", filepath.Join(dir, "taken-away")} {
		set, err := (&options{joinTokenFile: tokens, dataDir: dir}).join(slog.New(slog.DiscardHandler))
		if err != nil || set.Token != nil {
			t.Errorf("with a damaged certificate, token file %q: %v, %v", tokens, set.Token, err)
		}
	}
	cmd := &cobra.Command{}
	new(options).bind(cmd)
	if usage := cmd.Flag("join-token-file").Usage; !strings.Contains(usage, "at least 16 characters") {
		t.Errorf("help says %q, without the least length", usage)
	}
}
