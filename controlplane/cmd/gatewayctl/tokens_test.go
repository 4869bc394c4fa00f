package main

import (
	"strings"
	"testing"

	"gateway.internal/controlplane/internal/access"
)

func TestServiceTokens(t *testing.T) {
	serve(t)
	session(t, "tokens",
		"whoami",
		"token list",
		"token create deploy",
		"token create deploy --role root",
		"token create deploy --role admin --label team=a",
		"token create deploy --role editor --label team",
		"token create deploy --role editor --ttl 1s",
		"token revoke deploy",
	)
	out, complaint, code := gatewayctl(t, "", "token", "create", "deploy", "--role", "editor", "--kind", "routes,services",
		"--label", "team=a", "--user", "ann", "--ttl", "24h")
	text := strings.TrimSpace(out)
	if code != 0 || !access.IsToken(text) || !strings.Contains(complaint, "is not shown again") {
		t.Fatalf("create: %d\n%s%s", code, out, complaint)
	}
	t.Setenv("GATEWAYCTL_TOKEN", text)
	session(t, "token",
		"whoami",
		"token list",
		"apply -f testdata/config",
		"rollback 1",
	)
	t.Setenv("GATEWAYCTL_TOKEN", token)
	session(t, "revoked",
		"token list",
		"token revoke deploy",
		"token list",
		"token list --all",
	)
	t.Setenv("GATEWAYCTL_TOKEN", text)
	session(t, "gone", "whoami")
}
