package main

import (
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
		"a delay that is too long":              {"--shutdown-delay 2h", []string{"--shutdown-delay 2h", "0 to 1h"}},
		"a mode that is none":                   {"--unix-socket-mode 999", []string{"--unix-socket-mode", "octal", "0660"}},
		"less than no connections":              {"--max-connections -1", []string{"--max-connections -1"}},
		"less than no connections of a client":  {"--max-connections-per-client -1", []string{"--max-connections-per-client -1"}},
		"a target without an end":               {"--max-target-bytes 100000", []string{"--max-target-bytes 100000", "65536"}},
		"a pseudonym of two words":              {"--via a,b", []string{"--via", `"a,b"`, "letters"}},
		"a node that nothing may pass":          {"--max-visits 0", []string{"--max-visits", "1 to 100"}},
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
		})
	}
}
